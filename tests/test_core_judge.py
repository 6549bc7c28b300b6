"""The core's laws: order of arrival, ticks and cuts do not matter; the ledger is a function of the set of events."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import micros, moment
from models.camera import CameraCount
from models.traffic import TrafficFlow
from rules.calendar import INF
from rules.judge import FormatError, Judge
from rules.machine import Episode
from rules.program import EMPTY, compile_program
from rules.series import Series, Timeline, _match
from rules.spec import Registry, RuleSet

S = 1_000_000
L = TrafficFlow.topic.late_us // S  # 120 s
T0 = 1_767_225_600
TOPIC = "city.traffic.flow.v1"
WORDS = {"vi": "x", "en": "x"}
COMMON = {"on": TOPIC, "by": ["segment_id"], "title": WORDS}
RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                **COMMON,
                "id": "slow",
                "kind": "threshold",
                "levels": [
                    {"priority": "P1", "raise": "speed_kmh < 4", "clear": "speed_kmh > 9", "keep": "20s"},
                    {
                        "priority": "P3",
                        "raise": "speed_kmh < 10",
                        "clear": "speed_kmh > 15",
                        "for": "30s",
                        "keep": "40s",
                    },
                ],
            },
            {
                **COMMON,
                "id": "burst",
                "kind": "count",
                "window": "60s",
                "where": "speed_kmh > 20",
                "levels": [{"priority": "P4", "raise": "count >= 3", "clear": "count < 2", "keep": "10s"}],
            },
            {**COMMON, "id": "silent", "kind": "absence", "after": "90s", "priority": "P4"},
            {
                **COMMON,
                "id": "stuck",
                "kind": "event",
                "raise": "occupancy_pct >= 90",
                "clear": "occupancy_pct < 10",
                "keep": "15s",
                "priority": "P2",
            },
        ],
        "registry": {"sensors": [{"topic": TOPIC, "key": k, "every": "30s"} for k in ("a", "b")]},
    }
)


def flow(n: int, key: str, t: int, speed: float | None, occupancy: float | None = None) -> TrafficFlow:
    return TrafficFlow(
        event_id=f"e{n}",
        source_id="t",
        observed_at=moment(t * S),
        segment_id=key,
        speed_kmh=speed,
        occupancy_pct=occupancy,
    )


class Log:
    """A one-partition log, and what a judge makes of it."""

    def __init__(self) -> None:
        self.records: list[tuple[int, object]] = []

    def add(self, stamp: int, what: object) -> None:
        self.records.append((stamp, what))

    def fresh(self) -> Judge:
        return Judge(TrafficFlow, 0, "log", whole=True)

    def feed(self, judge: Judge, start: int = 0, end: int | None = None) -> list:
        signals = []
        for offset, (stamp, what) in list(enumerate(self.records))[start:end]:
            if what == "tick":
                signals += judge.pass_by(offset, stamp * S)
            elif what == "rules":
                signals += judge.control(offset, stamp * S, 0, compile_program(RULES, 7, TrafficFlow))
            else:
                signals += judge.event(offset, stamp * S, what, zlib.crc32(what.model_dump_json().encode()))
        return signals


def ledger(signals: list) -> Counter:
    """Intervals that stand at the end; peak and evidence are told of an episode when it ends."""
    standing = {}
    for s in signals:
        if s.op == "retract":
            del standing[s.alarm_id]
        else:
            ids = tuple(e.event_id for e in s.evidence) if s.end else ()
            standing[s.alarm_id] = (
                s.rule,
                s.labels["segment_id"],
                s.start,
                s.end,
                s.priority,
                s.end and s.peak,
                ids,
            )
    return Counter(standing.values())


events = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 300).map(lambda x: x // 5 * 5),
        st.sampled_from([None, 2, 3, 8, 8, 12, 12, 17, 30, 30]),
        st.sampled_from([None, None, 5, 50, 95]),
        st.integers(0, L),  # delay of the first arrival
        st.integers(0, L),  # of the other arrival
        st.booleans(),  # comes twice
    ),
    max_size=18,
    unique_by=lambda e: e[:2],
)
ticks = st.lists(st.integers(0, 900), max_size=12)


def log_of(made: list, beats: list[int], which: int) -> Log:
    arrivals = []
    for n, (key, t, speed, occupancy, d1, d2, twice) in enumerate(made):
        event = flow(n, key, T0 + t, speed, occupancy)
        delay = (d1, d2)[which]
        arrivals.append((T0 + t + delay, n, event))
        if twice:
            arrivals.append((T0 + t + min(L, delay + 7), n, event))
    arrivals += [(T0 + b, -1, "tick") for b in beats]
    log = Log()
    log.add(T0, "rules")
    for stamp, _, what in sorted(arrivals, key=lambda x: (x[0], x[1])):
        log.add(stamp, what)
    log.add(T0 + 1000, "tick")
    return log


@given(events, ticks, ticks)
@settings(max_examples=60, deadline=None)
def test_any_order_of_arrival_within_l_and_any_ticks_give_the_same_ledger(made, beats, others):
    first, second = log_of(made, beats, 0), log_of(made, others, 1)
    in_order = log_of([(*e[:4], 0, 0, False) for e in made], [], 0)
    a, b, c = (log.feed(log.fresh()) for log in (first, second, in_order))
    assert ledger(a) == ledger(c)
    assert ledger(b) == ledger(c)


@given(events, ticks)
@settings(max_examples=40, deadline=None)
def test_the_intervals_of_one_alarm_never_overlap(made, beats):
    log = log_of(made, beats, 0)
    by_alarm: dict = {}
    for rule, key, start, end, *_ in ledger(log.feed(log.fresh())):
        by_alarm.setdefault((rule, key), []).append((start, end))
    for spans in by_alarm.values():
        spans.sort()
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end is not None
            assert end <= start


@given(events, ticks, st.data())
@settings(max_examples=60, deadline=None)
def test_a_cut_anywhere_with_buckets_saved_at_different_offsets_writes_the_same_signals(made, beats, data):
    log = log_of(made, beats, 0)
    whole = log.feed(log.fresh())
    cut = data.draw(st.integers(0, len(log.records)))
    judge = log.fresh()
    saved = {}
    done = []
    for offset in range(cut):
        done += log.feed(judge, offset, offset + 1)
        for number in {zlib.crc32(k.encode()) % judge.buckets for k in "ab"} | {0}:
            if data.draw(st.integers(0, 4)) == 0:
                saved[number] = (offset, judge.dump(number))
    second = log.fresh()
    second.programs[7] = compile_program(RULES, 7, TrafficFlow)
    for number, (_, blob) in saved.items():
        second.load(number, blob)
    start = 0
    if len(saved) == len({zlib.crc32(k.encode()) % judge.buckets for k in "ab"} | {0}):
        start = min(o for o, _ in saved.values()) + 1
    again = log.feed(second, start)

    def key(s):
        return (s.fingerprint, s.offset, s.k)

    union = {key(s): s for s in done}
    for s in again:
        assert union.setdefault(key(s), s) == s, "the same place in the log said two things"
    assert sorted(union.values(), key=key) == sorted(whole, key=key)
    assert judge.counts() + Counter() == log_counts(log, cut)
    assert second.counts() == log_counts(log, len(log.records))


def log_counts(log: Log, upto: int) -> Counter:
    judge = log.fresh()
    log.feed(judge, 0, upto)
    return judge.counts()


@given(events, ticks)
@settings(max_examples=60, deadline=None)
def test_every_event_is_stored_late_duplicate_or_conflict_and_nothing_else(made, beats):
    log = log_of(made, beats, 0)
    judge = log.fresh()
    log.feed(judge)
    said = sum(1 for _, w in log.records if isinstance(w, TrafficFlow))
    counts = judge.counts()
    assert sum(counts.values()) == said
    assert counts["stored"] == len(made)
    assert counts["duplicate"] == sum(1 for e in made if e[6])


def run(*records) -> tuple[Judge, list]:
    log = Log()
    log.add(T0, "rules")
    for stamp, what in records:
        log.add(T0 + stamp, what)
    judge = log.fresh()
    return judge, log.feed(judge)


def test_a_late_sample_takes_its_place():
    judge, signals = run(
        (0, flow(1, "a", T0, 2)),
        (60, flow(2, "a", T0 + 60, 20)),
        (70, flow(3, "a", T0 + 30, 2)),
        (200, "tick"),
    )
    p1 = [s for s in signals if s.rule == "slow"]
    assert [(s.op, s.start, s.end) for s in p1] == [
        ("put", moment(T0 * S), None),
        ("put", moment(T0 * S), moment((T0 + 100) * S)),
    ]
    assert judge.counts() == Counter(stored=3)


def test_what_is_observed_longer_than_l_before_its_stamp_is_late_and_changes_nothing():
    judge, signals = run(
        (0, flow(1, "a", T0, 50)), (L + 1, flow(2, "a", T0, 1)), (L + 2, flow(3, "b", T0 + 2, 50))
    )
    assert judge.counts() == Counter(stored=2, late=1)
    assert [s for s in signals if s.rule == "slow"] == []


def test_two_ids_at_one_time_of_one_series_are_a_conflict_and_the_later_wins():
    judge, signals = run((0, flow(1, "a", T0, 1)), (1, flow(2, "a", T0, 50)), (2, "tick"))
    assert judge.counts() == Counter(stored=1, conflict=1)
    assert [s.op for s in signals if s.rule == "slow"] == ["put", "retract"]
    assert signals[-1].cause == "conflict e2"


def test_an_id_is_of_one_event_even_where_one_key_has_several_series():
    judge = Judge(CameraCount, 0, "log")
    judge.control(0, 0, 0, compile_program(RuleSet(), 0, CameraCount))

    def count(id_, what, n):
        return CameraCount(
            event_id=id_, source_id="t", observed_at=moment(T0 * S), camera_id="c", object_class=what, count=n
        )

    made = [count("a", "car", 3), count("b", "bus", 4), count("a", "bicycle", 5)]
    for offset, event in enumerate(made, 1):
        judge.event(offset, T0 * S, event, offset)
    assert judge.counts() == Counter(stored=2, conflict=1)


def test_the_same_id_with_a_greater_revision_corrects_and_with_a_lesser_does_not():
    good = flow(1, "a", T0, 50)
    _, signals = run(
        (0, flow(1, "a", T0, 1)), (1, good.model_copy(update={"revision": 1})), (2, flow(1, "a", T0, 1))
    )
    assert [s.op for s in signals if s.rule == "slow"] == ["put", "retract"]


def test_a_sensor_that_never_spoke_is_absent_from_its_due_time_whatever_record_brought_the_clock():
    _, signals = run((500, "tick"))
    absent = {s.labels["segment_id"]: s for s in signals if s.rule == "silent"}
    assert set(absent) == {"a", "b"}
    assert all(s.start == moment((T0 + 90) * S) and s.end is None for s in absent.values())


def test_silence_does_not_clear_an_alarm():
    _, signals = run((0, flow(1, "a", T0, 1)), (800, "tick"))
    assert [(s.op, s.end) for s in signals if s.rule == "slow"] == [("put", None)]


def test_a_sample_a_little_ahead_of_the_clock_waits_for_it():
    _, signals = run((0, flow(1, "a", T0 + 60, 1)), (30, "tick"), (61, "tick"))
    slow = [s for s in signals if s.rule == "slow"]
    assert [(s.offset, s.start) for s in slow] == [(3, moment((T0 + 60) * S))]


def test_two_alarms_that_a_late_sample_joins_are_told_as_one_revised_and_one_retracted_into_it():
    _, signals = run(
        (0, flow(1, "a", T0, 1)),
        (10, flow(2, "a", T0 + 10, 20)),
        (31, "tick"),
        (40, flow(3, "a", T0 + 40, 1)),
        (45, flow(4, "a", T0 + 25, 1)),
    )
    slow = [s for s in signals if s.rule == "slow"]
    joined = [s for s in slow if s.offset == 5]
    assert sorted(s.op for s in joined) == ["put", "retract"]
    gone = next(s for s in joined if s.op == "retract")
    kept = next(s for s in joined if s.op == "put")
    assert gone.merged_into == kept.alarm_id
    assert kept.start == moment(T0 * S)


def test_a_sample_without_a_value_neither_raises_nor_clears():
    _, signals = run((0, flow(1, "a", T0, 1)), (10, flow(2, "a", T0 + 10, None)), (100, "tick"))
    assert [(s.op, s.end) for s in signals if s.rule == "slow"] == [("put", None)]


def test_a_quiet_series_is_forgotten_at_the_next_dump_and_comes_back_the_same():
    log = Log()
    log.add(T0, flow(1, "z", T0, 50))
    log.add(T0 + 1000, "tick")
    judge = log.fresh()
    log.feed(judge)
    assert judge.size() == 1
    for number in range(judge.buckets):
        judge.dump(number)
    assert judge.size() == 0


def test_a_saved_bucket_of_another_format_is_refused_with_its_place():
    judge = Log().fresh()
    with pytest.raises(FormatError, match=r"city\.traffic\.flow\.v1/0"):
        judge.load(0, b"\xc1 nonsense")
    with pytest.raises(FormatError, match="this engine reads"):
        judge.load(0, judge.dump(0).replace(b"\x94\x02", b"\x94\x09", 1))


def test_a_series_holds_no_more_samples_than_its_horizon_needs():
    log = Log()
    log.add(T0, "rules")
    for n in range(2000):
        log.add(T0 + n * 10, flow(n, "a", T0 + n * 10, 50))
    judge = log.fresh()
    log.feed(judge)
    series: Series = next(s for b in judge._buckets for s in b.series.values() if s.key == "a")
    assert len(series.samples) <= 2 * (L // 10) + 16
    assert micros(moment(series.horizon)) == series.horizon


def test_an_episode_that_is_held_is_told_as_held_and_again_when_it_is_an_alarm():
    announced, held = (), Episode(T0, None, 3, None, (), held=True)
    series = Series("a", (-1, ()), 0)
    for episode, told in (
        (held, True),
        (held, False),
        (held._replace(held=False), True),
        (held._replace(held=False), False),
        (held._replace(end=T0 + 5), True),
    ):
        ops = _match("silent", list(series.announced), [episode])
        assert [op.episode.held for op in ops] == ([episode.held] if told else [])
        assert [op.known for op in ops] == (["x" if announced else None] if told else [])
        series.announce(ops, ["x"] * len(ops))
        announced = series.announced
    assert series.announced[0].held
    assert Series.load(series.dump(), 0, Timeline([(-INF, -1)], {-1: EMPTY})).announced == series.announced


def test_a_rule_that_tells_nobody_makes_only_held_signals():
    quiet = RuleSet.model_validate(
        {
            "rules": [
                {
                    **COMMON,
                    "id": "hot",
                    "kind": "event",
                    "raise": "speed_kmh > 99",
                    "keep": "1m",
                    "priority": "P4",
                    "tell": False,
                }
            ]
        }
    )
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    judge.control(0, T0 * S, 0, compile_program(quiet, 7, TrafficFlow))
    signals = judge.event(1, T0 * S, flow(1, "a", T0, 120), 1) + judge.pass_by(2, (T0 + 100) * S)
    assert [(s.op, s.end is None, s.held) for s in signals] == [("put", True, True), ("put", False, True)]


def test_a_sensor_under_maintenance_is_neither_missed_nor_judged_and_what_stands_ends_when_it_begins():
    away = {"from": moment((T0 + 100) * S), "to": moment((T0 + 400) * S), "why": "new head"}
    sensors = [
        {"topic": TOPIC, "key": "a", "every": "30s", "maintenance": [away]},
        {"topic": TOPIC, "key": "b", "every": "30s"},
    ]
    rules = RULES.model_copy(update={"registry": Registry.model_validate({"sensors": sensors})})
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    signals = judge.control(0, T0 * S, 0, compile_program(rules, 7, TrafficFlow))
    for n, t in enumerate((0, 60, 150, 300)):
        signals += judge.event(2 * n + 1, (T0 + t) * S, flow(2 * n, "a", T0 + t, 1), n)
        signals += judge.event(2 * n + 2, (T0 + t) * S, flow(2 * n + 1, "b", T0 + t, 1), n)
    signals += judge.pass_by(99, (T0 + 495) * S)
    told = {
        (s.rule, s.labels["segment_id"]): (s.start.timestamp() - T0, s.end and s.end.timestamp() - T0)
        for s in signals
    }
    assert told["slow", "a"] == (0, 100)
    assert told["slow", "b"] == (0, None)
    assert told["silent", "a"] == (490, None)
    assert told["silent", "b"] == (390, None)
