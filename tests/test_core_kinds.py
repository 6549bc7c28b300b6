"""What drawn episodes have found in the core, each as the least case that shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from zlib import crc32

from models.base import Place, micros, moment
from models.decode import Rejection, decode
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import RuleSet

if TYPE_CHECKING:
    from models.alarm import Signal
    from rules.program import Program

S = 1_000_000
T0 = 1_767_225_600


def rules_of(*rules: dict, sensors: tuple[str, ...] = ()) -> RuleSet:
    topic = TrafficFlow.topic
    common = {"on": topic.name, "by": list(topic.key)}
    there = [{"topic": topic.name, "key": key, "every": "30s"} for key in sensors]
    return RuleSet.model_validate(
        {"rules": [common | rule for rule in rules], "registry": {"sensors": there}}
    )


class World:
    """One judge of everything, its log, and what it told. Times are seconds after T0."""

    def __init__(self, rules: RuleSet, since: int = 0) -> None:
        self.judge = Judge(TrafficFlow, 0, "log", whole=True)
        self.programs: dict[int, Program] = {}
        self.offset = -1
        self.signals: list[Signal] = []
        self.rule(rules, 0, since)

    def rule(self, rules: RuleSet, at: int, since: int) -> None:
        """Another version of the rules, appended at `at`, in force from `since`."""
        self.offset += 1
        program = compile_program(rules, self.offset + 7, TrafficFlow)
        self.programs[program.version] = program
        self.signals += self.judge.control(self.offset, (T0 + at) * S, (T0 + since) * S, program)

    def hear(self, t: int, speed: float, at: int | None = None) -> None:
        """A speed observed at t, appended at `at`."""
        self.offset += 1
        event = TrafficFlow(
            event_id=f"e{self.offset:03d}",
            source_id="t",
            observed_at=moment((T0 + t) * S),
            segment_id="a",
            speed_kmh=speed,
        )
        stamp = (T0 + (t if at is None else at)) * S
        self.signals += self.judge.event(self.offset, stamp, event, crc32(event.wire()))

    def tick(self, at: int) -> None:
        self.offset += 1
        self.signals += self.judge.pass_by(self.offset, (T0 + at) * S)

    def restart(self) -> None:
        blobs = [self.judge.dump(n) for n in range(self.judge.buckets)]
        self.judge = Judge(TrafficFlow, 0, "log", whole=True)
        self.judge.programs |= self.programs
        for n, blob in enumerate(blobs):
            self.judge.load(n, blob)

    def ledger(self) -> list[tuple]:
        standing = {}
        for s in self.signals:
            if s.op == "retract":
                del standing[s.alarm_id]
            else:
                standing[s.alarm_id] = s
        return [
            (s.rule, micros(s.start) // S - T0, s.end and micros(s.end) // S - T0, s.peak)
            for s in standing.values()
        ]


def test_an_event_without_clear_and_keep_is_told_and_is_over_at_once():
    world = World(rules_of({"id": "stands", "kind": "event", "priority": "P2", "raise": "speed_kmh < 3"}))
    world.hear(10, 1)
    world.hear(20, 50)
    assert world.ledger() == [("stands", 10, 10, None)]


def test_an_event_that_is_over_at_once_is_not_told_of_another_rule():
    at_once = {"id": "stands", "kind": "event", "priority": "P2", "raise": "speed_kmh < 3"}
    lasting = {"id": "slow", "kind": "event", "priority": "P3", "raise": "speed_kmh < 10", "keep": "1m"}
    world = World(rules_of(at_once, lasting))
    world.hear(10, 1)
    world.tick(100)
    assert sorted(world.ledger()) == [("slow", 10, 70, None), ("stands", 10, 10, None)]


PEAKS = {
    "id": "slow",
    "kind": "threshold",
    "levels": [
        {"priority": "P1", "raise": "speed_kmh < 4", "clear": "speed_kmh > 8"},
        {"priority": "P3", "raise": "speed_kmh < 10", "for": "30s"},
    ],
}


def test_a_peak_is_the_most_extreme_value_since_any_level_began_to_pend():
    world = World(rules_of(PEAKS))
    for t, speed in ((0, 2), (10, 9), (40, 9), (50, 50)):
        world.hear(t, speed)
    assert world.ledger() == [("slow", 0, 10, 2.0), ("slow", 30, 50, 2.0)]


def test_the_same_where_the_first_episode_ends_by_its_keep():
    kept = PEAKS | {"levels": [PEAKS["levels"][0] | {"keep": "5s"}, PEAKS["levels"][1]]}
    world = World(rules_of(kept))
    for t, speed in ((0, 2), (10, 9), (40, 9), (50, 50)):
        world.hear(t, speed)
    assert world.ledger() == [("slow", 0, 15, 2.0), ("slow", 30, 50, 2.0)]


def test_who_is_listened_for_from_a_later_moment_on_is_not_forgotten_before_it():
    silent = {"id": "silent", "kind": "absence", "after": "90s", "priority": "P4"}
    world = World(rules_of(silent, sensors=("a",)), since=60)
    world.tick(30)
    world.restart()
    world.tick(300)
    assert world.ledger() == [("silent", 150, None, None)]


def test_an_alarm_that_ended_before_the_horizon_of_a_jump_is_told_once_however_many_samples_wait():
    """The samples are enough for the series to fold the oldest of them before the jump is judged."""
    stands = {"id": "stands", "kind": "event", "priority": "P2", "raise": "speed_kmh < 3", "keep": "5m"}
    world = World(rules_of(stands))
    world.hear(0, 1)
    for n in range(1, 20):
        world.hear(n, 50)
    world.hear(1000, 50, at=995)
    world.hear(1010, 1)
    assert world.ledger() == [("stands", 0, 300, None), ("stands", 1010, None, None)]


def test_what_was_observed_before_a_change_of_the_rules_is_not_judged_by_the_new_ones():
    """The sample comes after the change; nothing else of its subject has come before."""
    before = {"id": "slow", "kind": "event", "priority": "P2", "raise": "speed_kmh < 3", "keep": "1m"}
    world = World(rules_of(before, sensors=("a",)))
    world.rule(rules_of(before | {"raise": "speed_kmh < 10"}, sensors=("a",)), 15, 15)
    world.hear(10, 5, at=18)
    world.tick(100)
    assert world.ledger() == []


def test_an_alarm_that_was_told_is_not_held_because_a_later_version_would_not_tell_it():
    slow = {
        "id": "slow",
        "kind": "event",
        "priority": "P2",
        "raise": "speed_kmh < 3",
        "clear": "speed_kmh > 9",
    }
    world = World(rules_of(slow))
    world.hear(10, 1)
    world.rule(rules_of(slow | {"tell": False}), 20, 20)
    assert [(s.held, s.end and micros(s.end) // S - T0, s.rules_version) for s in world.signals] == [
        (False, None, 7),
        (False, 20, 7),
    ]


def test_a_new_interval_in_the_registry_counts_from_the_version_that_says_it():
    silent = {"id": "silent", "kind": "absence", "misses": 2, "priority": "P4"}
    world = World(rules_of(silent, sensors=("a",)))
    slower = rules_of(silent, sensors=("a",)).model_dump(mode="json", by_alias=True)
    slower["registry"]["sensors"][0]["every"] = "5m"
    world.hear(10, 50)
    world.rule(RuleSet.model_validate(slower), 20, 20)
    world.hear(30, 50)
    world.tick(300)
    assert world.ledger() == []


BEGIN = T0 * S


def flow(n: int, t: int, speed: float) -> TrafficFlow:
    return TrafficFlow(
        event_id=f"e{n}", source_id="t", observed_at=moment(BEGIN + t * S), segment_id="a", speed_kmh=speed
    )


def test_what_was_observed_at_the_very_moment_of_new_rules_is_judged_by_them_and_no_cut_shows():
    """The sample came before the control record, and has its time to the microsecond."""

    def slow(priority):
        return rules_of(
            {"id": "slow", "kind": "event", "priority": priority, "raise": "speed_kmh < 60", "keep": "1h"}
        )

    def told(cut):
        judge = Judge(TrafficFlow, 0, "log", whole=True)
        programs = [compile_program(slow(p), n, TrafficFlow) for n, p in enumerate(("P3", "P2"))]
        signals = judge.control(0, BEGIN, BEGIN, programs[0])
        signals += judge.event(1, BEGIN + 100 * S, flow(1, 100, 50), 1)
        signals += judge.control(2, BEGIN + 100 * S, BEGIN + 100 * S, programs[1])
        if cut:
            blobs = [judge.dump(n) for n in range(judge.buckets)]
            judge = Judge(TrafficFlow, 0, "log", whole=True)
            judge.programs |= dict(enumerate(programs))
            for n, blob in enumerate(blobs):
                judge.load(n, blob)
        signals += judge.event(3, BEGIN + 110 * S, flow(2, 90, 80), 2)
        return [(s.op, s.priority, s.rules_version) for s in signals]

    assert told(cut=False) == told(cut=True)
    assert told(cut=False)[-1] == ("put", "P2", 1)


def test_the_clock_has_one_reminder_a_series_however_often_something_nearer_is_due():
    rules = rules_of(
        {
            "id": "slow",
            "kind": "threshold",
            "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "for": "1m"}],
        },
        {"id": "silent", "kind": "absence", "after": "10m", "priority": "P4"},
        sensors=("a",),
    )
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    judge.control(0, BEGIN, BEGIN, compile_program(rules, 0, TrafficFlow))
    for n in range(1, 2000):
        judge.event(n, BEGIN + n * 30 * S, flow(n, n * 30, 5 if n % 40 < 4 else 50), n)
    assert sum(len(b.heap) for b in judge._buckets) <= 3


def test_a_quotient_of_nearly_nothing_is_no_peak_and_stops_nobody():
    rules = rules_of(
        {
            "id": "odd",
            "kind": "event",
            "priority": "P4",
            "raise": "occupancy_pct / speed_kmh > 2",
            "keep": "1m",
        }
    )
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    judge.control(0, BEGIN, BEGIN, compile_program(rules, 0, TrafficFlow))
    event = flow(1, 1, 5e-324).model_copy(update={"occupancy_pct": 50.0})
    (signal,) = judge.event(1, BEGIN + S, event, 1)
    assert signal.peak is None


def test_a_revision_that_no_checkpoint_can_hold_is_no_event():
    wire = json.loads(flow(1, 1, 50).wire()) | {"revision": 2**70}
    found = decode(TrafficFlow, json.dumps(wire).encode(), BEGIN + S)
    assert isinstance(found, Rejection)


def test_an_alarm_that_ends_long_after_its_last_event_still_says_where_it_is():
    """The clock has jumped past the horizon; rules over signals would find it nowhere."""
    rules = rules_of(
        {"id": "slow", "kind": "event", "priority": "P4", "raise": "speed_kmh < 10", "keep": "5m"}
    )
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    judge.control(0, BEGIN, BEGIN, compile_program(rules, 0, TrafficFlow))
    event = flow(1, 1, 5).model_copy(update={"place": Place(lat=20.95, lon=107.08)})
    (raised,) = judge.event(1, BEGIN + S, event, 1)
    (over,) = judge.pass_by(2, BEGIN + 3600 * S)
    assert raised.place == over.place == event.place
    assert over.end is not None
