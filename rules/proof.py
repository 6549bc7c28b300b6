"""The judge as rule tests use it: what an operator would have been told of some events, and nothing less."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from models.base import micros
from models.catalogue import event_of
from rules.expecting import START
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.alarm import Signal
    from models.base import Event, Micros
    from rules.spec import RuleSet


def interval_judge(
    rules: RuleSet, events: list[Event], until: Micros, since: Micros = START
) -> list[Interval]:
    """The ledger of the events, each arriving when it was observed, once the clock has come to `until`.

    The rules are in force from `since`, as in the log: from then on the registry's sensors are listened for. Events
    are in the order of time. What is held is no alarm; of a rule that tells nobody of anything it is all there is.
    """
    quiet = {rule.id for rule in rules.rules if not rule.tell}
    standing: dict[str, Interval] = {}
    for topic in sorted({rule.on for rule in rules.rules}):
        mine = [event for event in events if event.topic.name == topic]
        for signal in signals_of(rules, event_of(topic), mine, until, since):
            if signal.op == "put" and (not signal.held or signal.rule in quiet):
                standing[signal.alarm_id] = _interval(signal)
            else:
                standing.pop(signal.alarm_id, None)
    return list(standing.values())


def signals_of(
    rules: RuleSet, event_class: type[Event], events: Iterable[Event], until: Micros, since: Micros = START
) -> Iterable[Signal]:
    """All that is told of one topic's events, in order: the same, before it is a ledger."""
    judge = Judge(event_class, 0, "test", whole=True)
    yield from judge.control(0, since, since, compile_program(rules, 0, event_class))
    offset = 0
    for event in events:
        offset += 1
        yield from judge.event(offset, event.at, event, zlib.crc32(event.wire()))
    yield from judge.pass_by(offset + 1, until)


def _interval(signal: Signal) -> Interval:
    return Interval(
        rule=signal.rule,
        labels=tuple(signal.labels.items()),
        start_us=micros(signal.start),
        end_us=None if signal.end is None else micros(signal.end),
        priority=signal.priority,
        peak=signal.peak,
    )
