"""A simulated day: all of its alarms are derived again, each from its own record alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from explained import through_plane

from models.base import micros
from models.catalogue import event_of, topics
from models.decode import Rejection, decode
from rules.derive import NO_MINIMUM, rule_of
from rules.explain import derive
from rules.judge import Judge
from rules.load import default
from rules.program import compile_program
from rules.story import story
from sources.simulator.stream import Sent, simulate

HOUR = 3_600_000_000
TICK = 10_000_000
MORNING = micros(datetime(2026, 11, 25, 0, 0, tzinfo=UTC))  # seven o'clock in Hạ Long


def told_of(seed, start, hours):
    """Every alarm of a simulated time, as the plane has it at its end."""
    rules = default()
    judges = {name: Judge(event_of(name), 0, "day", whole=True) for name in topics()}
    signals = []
    for name, judge in judges.items():
        signals += judge.control(0, start, start, compile_program(rules, 0, event_of(name)))
    offset, tick = 0, start
    for item in simulate(seed, start, start + hours * HOUR, 1.0):
        if not isinstance(item, Sent):
            continue
        while item.stamp_us > tick:
            offset += 1
            for judge in judges.values():
                signals += judge.pass_by(offset, tick)
            tick += TICK
        offset += 1
        event = decode(event_of(item.topic), item.value, item.stamp_us, item.key)
        if isinstance(event, Rejection):
            signals += judges[item.topic].pass_by(offset, item.stamp_us, "rejected")
        else:
            signals += judges[item.topic].event(offset, item.stamp_us, event, offset)
    return through_plane(signals)


def check(told, least):
    assert len(told) >= least
    for alarm, history in told:
        assert derive(alarm) == [], alarm.rule
        assert alarm.retracted or alarm.proof.minimal or rule_of(alarm.proof).kind in NO_MINIMUM
        assert [line.part for line in story(alarm, history)].count("told") == len(history)


def test_the_alarms_of_a_simulated_hour_are_derived_again():
    check(told_of(3, MORNING, 1), least=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_alarms_of_a_simulated_day_are_derived_again(seed):
    check(told_of(seed, MORNING - 7 * HOUR, 24), least=30)
