"""`citywatch alarms`: what is raised, what was, and `ack`: somebody has seen it."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Literal, get_args

from commands.output import UsageError, option_json, part, parts, print_json, table, teach, tell
from commands.reach import ask, broker, broker_if_any
from models.alarm import COMMAND_TYPE, PRIORITIES, Command, State
from models.base import micros, moment
from models.catalogue import ALARM_INPUT
from rules.lifecycle import SHELF
from rules.terms import duration_text, duration_us
from sinks.query import format_time

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from settings import Settings
    from sinks.contract import Record, Store

ABOUT = """\
Alarms as they stand: those that ask for somebody first, by priority, the oldest first. Without --all or --state, only
these: UNACK (raised, nobody has seen it), ACKED (raised and seen), RTNUN (over, but nobody has seen it). NORM is over
and seen, or was taken back. DSUPR stands and calls nobody: another alarm tells of the reason (`suppressed_by`). SHLVD was
put away for a while by an operator. An alarm never clears because its sensor fell silent."""

EXAMPLES = """\
  citywatch alarms
  citywatch alarms --rule road-jammed --all --json
  citywatch alarms ack 0b7c3a52-6d5e-5d5b-9a4f-6d0a3f1c7e21 --by "Lan, shift B" --note "patrol sent"
"""

ACK = """\
Say that somebody has seen an alarm, and who.
The command goes into the log of alarms; when the broker has it, it counts, and every console will show it."""

SHELVE = """\
Put an alarm away for a while, for a reason: nobody is called for it, nor for the next of the same rule and subject, unless
one is worse. When the time is over, a day at most, what still stands asks again."""

UNSHELVE = """\
Take an alarm off the shelf before its time is over: if it still stands, it asks again."""

#: States of alarms that ask for nobody.
_QUIET = ("NORM", "SHLVD", "DSUPR")

#: How long the broker may take to say that it has a command.
_ACK_S = 30


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("--all", action="store_true", help="those that are over and seen, too")
    parser.add_argument("--state", choices=get_args(State), help="only these")
    parser.add_argument("--rule", metavar="RULE", help="only those of one rule")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N")
    option_json(parser, "for programs: a list of records")
    parser.set_defaults(run=run)
    where = parts(parser, required=False)
    one = part(where, "ack", ACK, ack, '  citywatch alarms ack ALARM_ID --by "Lan, shift B"')
    _who(one, "who has seen it")
    put_away = part(
        where,
        "shelve",
        SHELVE,
        shelve,
        '  citywatch alarms shelve ALARM_ID --by "Lan, shift B" --for 2h --note "roadworks, told by the police"',
    )
    _who(put_away, "who takes the responsibility", note=True)
    put_away.add_argument(
        "--for", required=True, dest="lasts", metavar="DURATION", help="30m, 2h; 24h at most"
    )
    taken = part(where, "unshelve", UNSHELVE, unshelve, '  citywatch alarms unshelve ALARM_ID --by "Lan"')
    _who(taken, "who takes it off")


def _who(parser: argparse.ArgumentParser, what: str, *, note: bool = False) -> None:
    parser.add_argument("alarm_id", metavar="ALARM_ID")
    parser.add_argument("--by", required=True, metavar="NAME", help=what)
    parser.add_argument("--note", required=note, metavar="TEXT", help="for the alarm's history")


def run(args: argparse.Namespace, settings: Settings) -> int:
    where = [(name, value) for name, value in (("state", args.state), ("rule", args.rule)) if value]

    async def answer(store: Store) -> list[Record]:
        return await store.kept("alarm", where=where)

    found = sorted((_record(r) for r in ask(settings, answer)), key=_urgency)
    asked = [a for a in found if args.all or args.state or a["state"] not in _QUIET]
    shown = asked if args.limit is None else asked[: max(0, args.limit)]
    if args.json:
        print_json(shown)
    elif shown:
        print(_table(shown, micros_now()))
    _told(len(found) - len(asked), len(asked) - len(shown), nothing=not asked)
    if broker_if_any(settings) is None:
        tell(f"nothing runs on {settings.data.dir}: this is how things stood when it last did")
    return 0


def _told(over: int, cut: int, *, nothing: bool) -> None:
    if nothing:
        tell(f"no alarm asks for anybody{f' ({over:,} are over or suppressed: --all)' if over else ''}")
    if cut:
        tell(f"{cut:,} more: a greater --limit shows them")


def _record(record: Record) -> dict[str, Any]:
    """The alarm as others see it: absent fields are null, and what only `citywatch explain` reads is left out."""
    absent = dict.fromkeys(("end", "peak", "place", "instruction", "acked_by", "acked_at", "closed_by"))
    body = absent | record.body
    for ours in ("proof", "horizon"):
        body.pop(ours, None)
    return body


def _urgency(alarm: dict[str, Any]) -> tuple[bool, int, str, str]:
    return alarm["state"] in _QUIET, PRIORITIES.index(alarm["priority"]), alarm["start"], alarm["alarm_id"]


def micros_now() -> int:
    """The wall clock, only to say how old something is."""
    return time.time_ns() // 1000


def _table(alarms: list[dict[str, Any]], now: int) -> str:
    rows = [
        (
            a["priority"],
            a["closed_by"] or ("retracted" if a["retracted"] else a["state"]),
            a["rule"],
            " ".join(f"{k}={v}" for k, v in a["labels"].items()),
            _time(a["start"]),
            _time(a["end"]) if a["end"] else f"goes on, {_age(a['start'], now)}",
            a["peak"],
            a["title"]["en"],
            a["alarm_id"],
        )
        for a in alarms
    ]
    return table(("prio", "state", "rule", "where", "start", "end", "peak", "title", "alarm_id"), rows)


def _instant(text: str) -> int:
    from datetime import datetime  # noqa: PLC0415

    return micros(datetime.fromisoformat(text))


def _time(text: str) -> str:
    return format_time(_instant(text) // 1_000_000 * 1_000_000)


def _age(start: str, now: int) -> str:
    minutes = max(0, now - _instant(start)) // 60_000_000
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"


def ack(args: argparse.Namespace, settings: Settings) -> int:
    alarm = _open(args, settings, "acknowledge")
    if alarm["acked"]:
        tell(f"already acknowledged by {alarm['acked_by']} at {_time(alarm['acked_at'])}")
        return 0
    return _give(args, settings, alarm, "acknowledge")


def shelve(args: argparse.Namespace, settings: Settings) -> int:
    try:
        lasts = duration_us(args.lasts)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None
    if not 0 < lasts <= SHELF:
        raise UsageError(f"--for {args.lasts}: more than nothing, and {duration_text(SHELF)} at most")
    alarm = _open(args, settings, "shelve")
    return _give(args, settings, alarm, "shelve", moment(micros_now() + lasts))


def unshelve(args: argparse.Namespace, settings: Settings) -> int:
    alarm = _open(args, settings, "take off a shelf")
    if not alarm.get("shelved"):
        tell(f"{args.alarm_id} is on no shelf")
        return 0
    return _give(args, settings, alarm, "unshelve")


def _open(args: argparse.Namespace, settings: Settings, what: str) -> dict[str, Any]:
    """The alarm, if anything may be done to it."""

    async def answer(store: Store) -> list[Record]:
        return await store.kept("alarm", id_=args.alarm_id)

    found = ask(settings, answer)
    if not found:
        raise UsageError(f"there is no alarm {args.alarm_id}; `citywatch alarms` lists them with their ids")
    alarm = _record(found[0])
    if (alarm["retracted"] or alarm["closed_by"]) and not alarm["acked"]:
        why = "was taken back" if alarm["retracted"] else "ended with its log"
        raise UsageError(f"{args.alarm_id} {why}: nothing is left to {what}")
    return alarm


def _give(
    args: argparse.Namespace,
    settings: Settings,
    alarm: dict[str, Any],
    action: Literal["acknowledge", "shelve", "unshelve"],
    until: datetime | None = None,
) -> int:
    offset = _send(args, settings, alarm["fingerprint"], action, until)
    done = {"acknowledge": "acknowledged", "shelve": "shelved", "unshelve": "took off the shelf"}[action]
    print(f"{done} {args.alarm_id} by {args.by} ({ALARM_INPUT}, offset {offset})")
    return 0


def _send(
    args: argparse.Namespace,
    settings: Settings,
    fingerprint: str,
    action: Literal["acknowledge", "shelve", "unshelve"],
    until: datetime | None,
) -> int:
    """The offset of the command, once the broker has it. Raises UsageError in the world of a replay."""
    from contextlib import closing  # noqa: PLC0415 - listing alarms needs no Kafka client

    from pydantic import ValidationError  # noqa: PLC0415

    from bus import clients, headers  # noqa: PLC0415

    try:
        command = Command(
            command_id=str(uuid.uuid4()),
            action=action,
            alarm_id=args.alarm_id,
            actor=args.by,
            note=args.note,
            until=until,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{'--by' if first['loc'][0] == 'actor' else '--note'}: {first['msg']}") from None
    place = broker(settings)
    if place.replay or place.prefix:
        raise UsageError("this is a recorded world: nobody can act in it")
    said = headers.headers(command.command_id, COMMAND_TYPE, "/citywatch/cli", micros_now())
    with closing(clients.producer(place.bootstrap)) as producer:
        sent = producer.send(
            clients.name(place.prefix, ALARM_INPUT),
            command.model_dump_json(exclude_none=True).encode(),
            fingerprint.encode(),
            said,
            0,
        )
        return int(sent.get(_ACK_S).offset)
