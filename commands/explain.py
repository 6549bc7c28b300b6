"""`citywatch explain`: an alarm derived again from its own record, its events compared with what is kept, its story."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from commands.output import UsageError, clean, option_json, print_json, teach, tell
from commands.reach import ask, broker_if_any
from models.alarm import Alarm, AlarmEvent, Text
from models.base import Micros, moment
from models.catalogue import ALARM_EVENT, ALARM_STATE, topics
from rules.derive import NotDerivableError, cited, rule_of
from rules.explain import derive
from rules.machine import DIGEST, ID, OFFSET, VALUES, T
from rules.story import proofs_of, story
from rules.words import LANGS, clock, say
from sinks.contract import Query, StoreError, Unavailable
from sinks.open import may_hold

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from commands.reach import Broker
    from rules.story import Line
    from rules.words import Lang
    from settings import Settings
    from sinks.contract import Row, Store

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

Where = Literal["log", "store", "nowhere"]
#: forgotten: nothing is kept that far back; unknown: there was nobody to ask.
Result = Literal["same", "altered", "removed", "forgotten", "unknown"]

_WAIT_MS = 2000


class Cited(NamedTuple):
    """An event that an alarm rests on, as the alarm has it."""

    log: str
    topic: str
    partition: int
    offset: int
    event_id: str
    observed_at: Micros
    digest: int
    values: Mapping[str, Any]


class Checked(NamedTuple):
    """What became of comparing an event with what is kept; `detail` says what differs."""

    event: Cited
    where: Where
    result: Result
    detail: str = ""


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


# --- comparing its events -----------------------------------------------------------------------------------------------


def events_of(alarm: Alarm, history: Iterable[AlarmEvent]) -> list[Cited]:
    """Every event that the story rests on, each once."""
    found = {}
    for proof in proofs_of(alarm, history):
        try:
            topic = rule_of(proof).on
        except NotDerivableError:
            continue  # `derive` says why
        for sample in cited(proof):
            values = dict(zip(proof.names, sample[VALUES], strict=True))
            event = Cited(
                proof.log,
                topic,
                proof.partition,
                sample[OFFSET],
                sample[ID],
                sample[T],
                sample[DIGEST],
                values,
            )
            found[event.offset, event.event_id, event.digest] = event
    return [found[key] for key in sorted(found)]


def check(events: Sequence[Cited], settings: Settings) -> list[Checked]:
    """Each event compared with the log; what that cannot say, with the store."""
    found = [
        log or Checked(e, "nowhere", "unknown")
        for e, log in zip(events, _in_log(events, settings), strict=True)
    ]
    left = [n for n, c in enumerate(found) if c.result in ("forgotten", "unknown")]
    if left and may_hold(settings):
        try:
            stored = ask(settings, lambda store: _in_store(store, [events[n] for n in left]))
        except (StoreError, Unavailable) as error:
            tell(f"the store cannot be asked: {error}")
            return found
        for n, said in zip(left, stored, strict=True):
            if said.result != "forgotten" or found[n].result == "unknown":
                found[n] = said
    return found


def _in_log(events: Sequence[Cited], settings: Settings) -> list[Checked | None]:
    """What the log of what runs says of each; None: it is not the log that they are from, or it does not answer."""
    place = broker_if_any(settings)
    if place is None or not events:
        return [None] * len(events)
    from bus import clients  # noqa: PLC0415 - Kafka's clients take half a second to import

    try:
        current = _log_id(place, settings)
        return [_at(place, event) if event.log == current else None for event in events]
    except clients.UnreachableError as error:
        tell(f"the log cannot be asked: {error}")
        return [None] * len(events)


def _log_id(place: Broker, settings: Settings) -> str | None:
    """The id of the log of what runs; None where nobody knows it."""
    from commands.world import running  # noqa: PLC0415 - as above

    there = running(settings.data.dir)
    if there is not None and there.bootstrap == place.bootstrap:
        return there.log_id
    if settings.kafka.log_id is not None:
        return settings.kafka.log_id
    from bus import clients  # noqa: PLC0415 - as above

    try:
        known = clients.log_id(place.bootstrap)
    except LookupError:
        return None
    return f"{known}/{place.prefix.rstrip('.')}" if place.prefix else known


def _at(place: Broker, event: Cited) -> Checked:
    """What stands at an event's place in the log now."""
    from kafka import TopicPartition  # noqa: PLC0415 - as above

    from bus import clients  # noqa: PLC0415 - as above

    at = TopicPartition(clients.name(place.prefix, event.topic), event.partition)
    with closing(clients.consumer(place.bootstrap, max_poll_records=1)) as reader:
        reader.assign([at])
        if event.offset < reader.beginning_offsets([at])[at]:
            return Checked(event, "log", "forgotten")
        if event.offset >= reader.end_offsets([at])[at]:
            return Checked(event, "log", "removed", "the log ends before it")
        reader.seek(at, event.offset)
        found = next(iter(reader.poll(_WAIT_MS).get(at, ())), None)
    return compared(event, None if found is None else (found.offset, found.value))


def compared(event: Cited, found: tuple[int, bytes | None] | None) -> Checked:
    """The event against (offset, bytes) of the record that stands at its place."""
    if found is None or found[0] != event.offset:
        return Checked(event, "log", "removed", "no record stands at its place")
    if zlib.crc32(found[1] or b"") == event.digest:
        return Checked(event, "log", "same")
    try:
        said = json.loads(found[1] or b"null")
        id_ = said.get("event_id") if isinstance(said, dict) else None
    except ValueError:
        id_ = None
    if id_ == event.event_id:
        return Checked(event, "log", "altered", "its bytes are others")
    return Checked(event, "log", "altered", f"another record stands at its place: {id_ or 'no event'}")


async def _in_store(store: Store, events: Sequence[Cited]) -> list[Checked]:
    return [await _point(store, event) for event in events]


async def _point(store: Store, event: Cited) -> Checked:
    """What the store has of an event: its fields at its time. Its id it keeps only of what is no sample."""
    topic = topics()[event.topic]
    series = topic.kind == "samples"
    where = tuple(
        (n, str(event.values[n])) for n in topic.series if series and event.values.get(n) is not None
    )
    at = event.observed_at
    rows = await store.read(Query(topic.measurement, where=where, from_=at, to=at + 1))
    mine = [row for row in rows if series or row.fields.get("event_id") == event.event_id]
    if not mine:
        older = await store.read(Query(topic.measurement, to=at, limit=1))
        if older:
            return Checked(event, "store", "removed", "the store has older points, and not this one")
        return Checked(event, "store", "forgotten")
    differ = [_differs(event, row) for row in mine]
    wrong = next((d for d in differ if d), "") if all(differ) else ""
    return Checked(event, "store", "altered" if wrong else "same", wrong)


def _differs(event: Cited, row: Row) -> str:
    """The first field of a point that is not as the event had it; nothing where all are."""
    from streams.domain import domains  # noqa: PLC0415 - Faust is not needed to tell a story

    for name in domains()[event.topic].fields:
        had, has = event.values.get(name), row.fields.get(name)
        if _stored(had) != _stored(has):
            return f"{name} is {has}, and was {had}"
    return ""


def _stored(x: Any) -> Any:
    return float(x) if isinstance(x, int) and not isinstance(x, bool) else x


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
