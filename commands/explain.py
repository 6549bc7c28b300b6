"""`citywatch explain`: an alarm derived again from its own record, its events compared with what is kept, its story."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from commands.cited import check, events_of
from commands.output import UsageError, clean, option_json, print_json, teach, tell
from commands.reach import ask, broker_if_any
from models.alarm import Alarm, AlarmEvent, Text
from models.base import moment
from models.catalogue import ALARM_EVENT, ALARM_STATE
from rules.explain import derive
from rules.story import story
from rules.words import LANGS, clock, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from commands.cited import Checked, Result, Where
    from commands.reach import Broker
    from rules.story import Line
    from rules.words import Lang
    from settings import Settings
    from sinks.contract import Store

ABOUT = """\
Why there is an alarm. It is derived again from its own record: the rule, its state and the events that it carries, so
that this works when the broker and its rules are gone. Every event is then compared with the log, byte for byte, and
where the log has forgotten it with the store's points. The story says what was seen and when, what was waited for,
what ended it, and what was told of it.

Exit code 1: the alarm does not follow from its record, or an event was removed or altered; which, is said."""

EXAMPLES = """\
  citywatch explain 0b7c3a52-6d5e-5d5b-9a4f-6d0a3f1c7e21
  citywatch explain 0b7c3a52-6d5e-5d5b-9a4f-6d0a3f1c7e21 --lang vi
  citywatch alarms --json | jq -r '.[].alarm_id' | xargs -n1 citywatch explain --json"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("alarm_id", metavar="ALARM_ID")
    parser.add_argument("--lang", choices=LANGS, default="en", help="of the story (default: en)")
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    alarm, history = find(args.alarm_id, settings)
    problems = derive(alarm)
    checked = check(events_of(alarm, history), settings)
    told = story(alarm, history)
    if args.json:
        print_json(_as_json(alarm, problems, checked, told, args.lang))
    else:
        _print(alarm, problems, checked, told, args.lang)
    wrong = [c for c in checked if c.result in ("altered", "removed")]
    return 1 if problems or wrong else 0


# --- finding the alarm --------------------------------------------------------------------------------------------------


def find(alarm_id: str, settings: Settings) -> tuple[Alarm, list[AlarmEvent]]:
    """The alarm and its history: of the log of what runs, else of the store. Raises UsageError, StoreError, Unavailable."""
    place = broker_if_any(settings)
    found = None if place is None else _from_broker(place, alarm_id)
    if found is None:
        found = _from_store(settings, alarm_id)
    if found is None:
        raise UsageError(f"there is no alarm {alarm_id}; `citywatch alarms --all` lists them with their ids")
    return found


def _from_broker(place: Broker, alarm_id: str) -> tuple[Alarm, list[AlarmEvent]] | None:
    """None: it does not have it, or does not answer; then the store is asked."""
    from bus import clients  # noqa: PLC0415 - Kafka's clients take half a second to import

    async def read() -> tuple[Alarm, list[AlarmEvent]] | None:
        newest: Alarm | None = None
        async for key, value in clients.read_all(
            place.bootstrap, clients.name(place.prefix, ALARM_STATE), [0]
        ):
            if value and key == alarm_id.encode():
                newest = Alarm.model_validate_json(value)
        if newest is None:
            return None
        wanted, history = newest.fingerprint.encode(), {}
        async for key, value in clients.read_all(
            place.bootstrap, clients.name(place.prefix, ALARM_EVENT), [0]
        ):
            if value and key == wanted:
                entry = AlarmEvent.model_validate_json(value)
                if entry.alarm.alarm_id == alarm_id:
                    history[entry.id] = entry
        return newest, list(history.values())

    try:
        return asyncio.run(read())
    except clients.UnreachableError as error:
        tell(f"{error}; the store is asked instead")
        return None


def _from_store(settings: Settings, alarm_id: str) -> tuple[Alarm, list[AlarmEvent]] | None:
    async def answer(store: Store) -> tuple[Alarm, list[AlarmEvent]] | None:
        kept = await store.kept("alarm", id_=alarm_id)
        if not kept:
            return None
        lines = await store.kept("alarm_event", where=[("alarm_id", alarm_id)])
        entries = [
            AlarmEvent.model_validate({k: v for k, v in r.body.items() if k != "alarm_id"}) for r in lines
        ]
        return Alarm.model_validate(kept[0].body), sorted(entries, key=lambda e: e.alarm.position)

    try:
        return ask(settings, answer)
    except ValidationError as error:
        raise UsageError(
            f"the alarm {alarm_id} in the store cannot be read: {error.errors()[0]['msg']}"
        ) from None


# --- telling ------------------------------------------------------------------------------------------------------------


def _as_json(
    alarm: Alarm, problems: list[Text], checked: list[Checked], told: list[Line], lang: Lang
) -> dict[str, Any]:
    proof = alarm.proof
    return {
        "alarm_id": alarm.alarm_id,
        "rule": alarm.rule,
        "derives": not problems,
        "problems": [getattr(text, lang) for text in problems],
        "minimal": proof is not None and proof.minimal,
        "used": 0 if proof is None else proof.used,
        "events": [
            {
                "event_id": c.event.event_id,
                "topic": c.event.topic,
                "partition": c.event.partition,
                "offset": c.event.offset,
                "observed_at": moment(c.event.observed_at).isoformat().replace("+00:00", "Z"),
                "compared_with": c.where,
                "result": c.result,
                "detail": c.detail,
            }
            for c in checked
        ],
        "story": [
            {
                "at": None if line.at is None else moment(line.at).isoformat().replace("+00:00", "Z"),
                "part": line.part,
                "text": getattr(line.text, lang),
            }
            for line in told
        ],
    }


_HEADS: Mapping[str, Text] = {
    "rule": say("Luật", "The rule"),
    "seen": say("Diễn biến", "What was seen"),
    "time": say("Diễn biến", "What was seen"),
    "told": say("Đã báo", "What was told"),
    "proof": say("Căn cứ", "What it rests on"),
}

_RESULTS: Mapping[tuple[Where, Result], Text] = {
    ("log", "same"): say("{n} sự kiện giống hệt trong nhật ký", "{n} the same in the log, byte for byte"),
    ("log", "forgotten"): say("{n} sự kiện nhật ký đã quên", "{n} forgotten by the log"),
    ("store", "same"): say("{n} sự kiện có cùng giá trị trong kho", "{n} with the same values in the store"),
    ("store", "forgotten"): say("{n} sự kiện không còn được lưu", "{n} not kept any more"),
    ("nowhere", "unknown"): say("{n} sự kiện không có nơi để so", "{n} with nobody to compare with"),
}


def _print(alarm: Alarm, problems: list[Text], checked: list[Checked], told: list[Line], lang: Lang) -> None:
    def text(of: Text) -> str:
        return clean(getattr(of, lang))

    labels = " ".join(f"{k}={v}" for k, v in alarm.labels.items())
    print(f"{text(alarm.title)}  {alarm.priority}  {alarm.state}  {clean(labels)}  {alarm.alarm_id}")
    head = None
    for line in told:
        if head != (head := text(_HEADS[line.part])):
            print(f"\n{head}")
        print(f"  {clock(line.at) if line.at is not None else '':<19}  {text(line.text)}".rstrip())
    said = [say(_RESULTS[key].vi, _RESULTS[key].en, n=n) for key, n in _counted(checked).items()]
    if said:
        print("  " + " " * 21 + "; ".join(text(each) for each in said))
    wrong = [c for c in checked if c.result in ("altered", "removed")]
    print()
    for problem in problems:
        print(f"! {text(problem)}")
    for c in wrong:
        e = c.event
        print(
            f"! {_WRONG[c.result][lang]}: {clean(e.event_id)} ({e.topic}/{e.partition}/{e.offset}): {clean(c.detail)}"
        )
    if not problems and not wrong:
        print(_WELL[lang])


_WRONG: Mapping[str, Mapping[Lang, str]] = {
    "altered": {"vi": "sự kiện đã bị sửa", "en": "the event was altered"},
    "removed": {"vi": "sự kiện đã bị xóa", "en": "the event was removed"},
}
_WELL: Mapping[Lang, str] = {
    "vi": "Suy ra lại được, đúng như đã báo.",
    "en": "Derived again, exactly as it was told.",
}


def _counted(checked: Sequence[Checked]) -> dict[tuple[Where, Result], int]:
    return {key: n for key, n in Counter((c.where, c.result) for c in checked).items() if key in _RESULTS}
