"""What a clock that jumps by more than L finds: past alarms are told once and stay told."""

from __future__ import annotations

from test_core_judge import T0, flow, run


def told(signals, rule):
    return [
        (s.op, s.start.timestamp() - T0, s.end and s.end.timestamp() - T0) for s in signals if s.rule == rule
    ]


def test_an_alarm_that_ended_before_the_horizon_of_a_jump_is_not_retracted_by_the_next_change():
    signals = run(
        (0, flow(1, "a", T0, 1)),
        (1, flow(2, "a", T0 + 1, 50)),
        (500, "tick"),
        (510, flow(3, "a", T0 + 510, 1)),
        (900, flow(4, "a", T0 + 890, 1)),
    )[1]
    assert told(signals, "slow") == [("put", 0, None), ("put", 0, 21), ("put", 510, None)]


def test_an_alarm_that_began_and_ended_within_a_jump_is_told_once():
    signals = run(
        (0, flow(1, "a", T0, 50)),
        (10, flow(2, "a", T0 + 10, 8)),
        (500, flow(3, "a", T0 + 499, 50)),
        (900, flow(4, "a", T0 + 899, 8)),
        (1500, "tick"),
    )[1]
    assert told(signals, "slow") == [("put", 40, None), ("put", 40, 539), ("put", 929, None)]
    silent = [(s.op, s.start, s.end) for s in signals if s.rule == "silent" and s.labels["segment_id"] == "a"]
    assert all(op == "put" for op, _, _ in silent)
    assert len(silent) == len(set(silent))
