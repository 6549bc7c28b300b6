"""The events that an alarm rests on, compared with the log byte for byte, and with the store where the log has forgotten."""

from __future__ import annotations

import json
import zlib
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from commands.output import tell
from commands.reach import ask, broker_if_any
from models.base import Micros, micros
from models.catalogue import ALARM_INPUT, topics
from rules.derive import NotDerivableError, cited, rule_of
from rules.derive_wide import is_wide, members_of
from rules.machine import DIGEST, ID, OFFSET, VALUES, T
from rules.story import proofs_of
from sinks.contract import Query, StoreError, Unavailable
from sinks.open import may_hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from commands.reach import Broker
    from models.alarm import Alarm, AlarmEvent, Proof
    from settings import Settings
    from sinks.contract import Row, Store

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


def events_of(alarm: Alarm, history: Iterable[AlarmEvent]) -> list[Cited]:
    """Every event that the story rests on, each once."""
    found = {}
    for proof in proofs_of(alarm, history):
        try:
            cites = _alarms_of(proof) if is_wide(proof) else _events_of(proof)
        except NotDerivableError:
            continue  # `derive` says why
        for event in cites:
            found[event.topic, event.offset, event.event_id, event.digest] = event
    return [found[key] for key in sorted(found)]


def _events_of(proof: Proof) -> list[Cited]:
    topic = rule_of(proof).on
    return [
        Cited(
            proof.log,
            topic,
            proof.partition,
            s[OFFSET],
            s[ID],
            s[T],
            s[DIGEST],
            dict(zip(proof.names, s[VALUES], strict=True)),
        )
        for s in cited(proof)
    ]


def _alarms_of(proof: Proof) -> list[Cited]:
    """Of a rule over signals: the alarms that it looked at, each at the place where its detector said it."""
    return [
        Cited(
            proof.log,
            ALARM_INPUT,
            0,
            m.offset,
            m.alarm_id,
            m.start,
            0,
            {"start": m.start, "end": m.end, "rule": m.rule},
        )
        for m in members_of(proof, beside=True)
    ]


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
    from commands.folder import running  # noqa: PLC0415 - as above

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
    if event.topic == ALARM_INPUT:
        return _said(event, "log", _json(found[1]))
    if zlib.crc32(found[1] or b"") == event.digest:
        return Checked(event, "log", "same")
    id_ = _json(found[1]).get("event_id")
    if id_ == event.event_id:
        return Checked(event, "log", "altered", "its bytes are others")
    return Checked(event, "log", "altered", f"another record stands at its place: {id_ or 'no event'}")


def _json(raw: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(raw or b"null")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _said(event: Cited, where: Where, body: Mapping[str, Any]) -> Checked:
    """An alarm that was looked at, against what is said of it now."""
    if body.get("alarm_id") != event.event_id:
        return Checked(
            event,
            where,
            "altered",
            f"another record stands at its place: {body.get('alarm_id') or 'no alarm'}",
        )
    for name in ("start", "end"):
        has = None if body.get(name) is None else micros(datetime.fromisoformat(body[name]))
        if has != event.values[name]:
            return Checked(event, where, "altered", f"its {name} is another")
    return Checked(event, where, "same")


async def _alarm(store: Store, event: Cited) -> Checked:
    """What the store has of an alarm that was looked at. It may have ended since."""
    found = await store.kept("alarm", id_=event.event_id)
    if not found:
        return Checked(event, "store", "forgotten", "an alarm that was only held is not kept")
    body = found[0].body
    return _said(event, "store", body if event.values["end"] is not None else {**body, "end": None})


async def _in_store(store: Store, events: Sequence[Cited]) -> list[Checked]:
    return [await (_alarm if e.topic == ALARM_INPUT else _point)(store, e) for e in events]


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
