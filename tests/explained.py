"""What tests of explanations share: the alarms of the rules' own tests, as the alarm plane makes them of the judge's signals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import rules
from models.alarm import AlarmEvent
from models.base import micros
from models.catalogue import event_of
from rules.lifecycle import Plane
from rules.proof import signals_of
from rules.spec import RULES
from rules.testing import parse_tests
from sinks.contract import Point, Record
from sinks.points import pointer
from streams.domain import domains

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.alarm import Alarm, Signal
    from models.base import Event
    from rules.testing import Test

HERE = Path(__file__).parent
_ALL = parse_tests(Path(rules.__file__).parent) + parse_tests(HERE / "cases" / "rules" / "kinds.yaml")
#: Of rules on a topic; those over signals are in test_explain_wide.py.
CASES = [case for case in _ALL if isinstance(case.rule, RULES)]


class Told(NamedTuple):
    """An alarm with its history."""

    alarm: Alarm
    history: list[AlarmEvent]


def through_plane(signals: Iterable[Signal]) -> list[Told]:
    """What the plane tells of these signals, each record read back from its JSON."""
    plane, history = Plane("log"), dict[str, list[AlarmEvent]]()
    for offset, signal in enumerate(signals):
        for entry in plane.step(offset, micros(signal.stamp), signal):
            read = AlarmEvent.model_validate_json(entry.model_dump_json(exclude_none=True))
            history.setdefault(read.alarm.alarm_id, []).append(read)
    return [Told(entries[-1].alarm, entries) for entries in history.values()]


def events_of_case(case: Test) -> list[Event]:
    return [event for event in case.events() if event.topic.name == case.rule.on]


def alarms_of(case: Test) -> list[Told]:
    return through_plane(signals_of(case.rules(), event_of(case.rule.on), events_of_case(case), case.until()))


def points(events: Iterable[Event]) -> list[Point]:
    """As the store app writes them."""
    made = {name: pointer(d.event, d.fields, d.tags) for name, d in domains().items()}
    return [made[event.topic.name](event, False) for event in events]


def records(told: Iterable[Told]) -> list[Record]:
    """As the store app keeps them."""
    found = []
    for alarm, history in told:
        found.append(Record("alarm", alarm.alarm_id, micros(alarm.start), _body(alarm)))
        for entry in history:
            body = _body(entry) | {"alarm_id": alarm.alarm_id}
            found.append(Record("alarm_event", entry.id, micros(entry.at), body))
    return found


def _body(of: Alarm | AlarmEvent) -> dict[str, object]:
    return dict(json.loads(of.model_dump_json(exclude_none=True)))
