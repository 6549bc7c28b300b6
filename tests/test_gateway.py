"""A gateway dies during alarms: one alarm, its sensors not seen, nothing cleared, nothing told that is not so; and its return."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from console.sensors import Sensors, said
from models.alarm import Command, Signal
from models.base import micros, moment
from models.keys import partition_of
from models.traffic import TrafficFlow
from rules.defined import compile_wide
from rules.judge import Judge
from rules.lifecycle import Plane
from rules.program import compile_program
from rules.spec import RuleSet
from rules.wide import Control

if TYPE_CHECKING:
    from models.alarm import Alarm, AlarmEvent, Mark

S = 1_000_000
T0 = 1_767_225_600
TOPIC = TrafficFlow.topic.name
PARTITIONS = TrafficFlow.topic.partitions
WORDS = {"vi": "x", "en": "x"}

#: Forty sensors behind the gateway, of four intervals, and twenty behind another.
EVERY = {f"s{n:02}": (20, 30, 40, 60)[n % 4] for n in range(60)}
BEHIND = {key: "tu-dong" if key < "s40" else "tu-tay" for key in EVERY}
JAMMED = {"s03", "s11", "s22", "s30", "s37"}
#: Two of the jams end after the gateway is back.
EASED = {"s11", "s30"}
DIES, BACK, EASES, END = 900, 2400, 3000, 4200

RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                "id": "jam",
                "kind": "threshold",
                "on": TOPIC,
                "by": ["segment_id"],
                "title": WORDS,
                "levels": [
                    {"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20", "for": "2m", "keep": "1m"}
                ],
            },
            {
                "id": "silent",
                "kind": "absence",
                "on": TOPIC,
                "by": ["segment_id"],
                "title": WORDS,
                "misses": 3,
                "wait": "1m",
                "priority": "P4",
            },
        ],
        "wide": [
            {
                "id": "gateway-silent",
                "kind": "root",
                "of": ["silent"],
                "by": ["feed", "gateway"],
                "share": {"feed": 0.9, "gateway": 0.5},
                "least": 3,
                "title": WORDS,
                "priority": "P2",
            }
        ],
        "registry": {
            "sensors": [
                {"topic": TOPIC, "key": key, "every": f"{every}s", "gateway": BEHIND[key]}
                for key, every in EVERY.items()
            ]
        },
    }
)  # fmt: skip


class Told(NamedTuple):
    """One line of the history: the second at which it was told, and how the alarm then stood."""

    at: float
    type: str
    rule: str
    state: str
    labels: dict[str, str]


class City:
    """Every partition's judge and the alarm plane, each a function of its log; second by second."""

    def __init__(self, rules: RuleSet = RULES) -> None:
        self.judges = [Judge(TrafficFlow, n, "log") for n in range(PARTITIONS)]
        self.offsets = [0] * PARTITIONS
        self.plane = Plane("log")
        self.log = 0
        self.now = 0
        self.history: list[Told] = []
        self.sensors = Sensors()
        self.sensors.set_up(rules, T0 * S)
        self.alarm_of: dict[str, str] = {}
        self._input(Control(T0 * S, compile_wide(rules, 0)))
        for n, judge in enumerate(self.judges):
            self._all(
                judge.control(self._next(n), self._stamp(), T0 * S, compile_program(rules, 0, TrafficFlow))
            )

    def _stamp(self) -> int:
        return (T0 + self.now) * S

    def _next(self, partition: int) -> int:
        self.offsets[partition] += 1
        return self.offsets[partition]

    def _all(self, signals: list[Signal]) -> None:
        for signal in signals:
            self._input(signal)

    def _input(self, record: Signal | Mark | Command | Control | None) -> None:
        """A record of the alarm plane's log, and after it what the rules over signals make of it."""
        self.log += 1
        self._keep(self.plane.step(self.log, self._stamp(), record))
        for more in self.plane.conclude(self.log, self._stamp(), record):
            self._input(more)

    def _keep(self, entries: list[AlarmEvent]) -> None:
        for entry in entries:
            alarm = entry.alarm
            self.history.append(Told(self.now, entry.type, alarm.rule, alarm.state, alarm.labels))

    def hear(self, key: str, speed: float) -> None:
        event = TrafficFlow(
            event_id=f"{key}-{self.now}", source_id="t", observed_at=moment(self._stamp()), segment_id=key, speed_kmh=speed
        )  # fmt: skip
        n = partition_of(key.encode(), PARTITIONS)
        digest = zlib.crc32(event.wire())
        self._all(self.judges[n].event(self._next(n), self._stamp(), event, digest))
        self.sensors.hear(TOPIC, key, said(event, self._stamp()))

    def acknowledge(self, key: str) -> None:
        alarm = next(a for a in self.plane.alarms() if a.labels == {"segment_id": key})
        self._input(
            Command(command_id=f"c-{key}", action="acknowledge", alarm_id=alarm.alarm_id, actor="lan")
        )

    def tick(self) -> None:
        for n, judge in enumerate(self.judges):
            self._all(judge.pass_by(self._next(n), self._stamp()))
        due = self.plane.wide.due()
        if due is not None and due <= self._stamp():
            self._input(None)

    def seen(self) -> dict[str, tuple[str, str | None]]:
        """Status and why of every sensor, as the console works it out."""
        alarms: set[str] = set()
        missed: dict[str, bool] = {}
        for alarm in self.plane.alarms():
            if alarm.active and "segment_id" in alarm.labels:
                id_ = f"{TOPIC}|{alarm.labels['segment_id']}"
                if alarm.rule == "silent":
                    missed[id_] = alarm.state == "DSUPR"
                else:
                    alarms.add(id_)
        self.sensors.look(self._stamp(), alarms, missed)
        return {seen.id.partition("|")[2]: (seen.status, seen.why) for seen in self.sensors.shown()}

    def states(self, rule: str) -> dict[str, tuple[Any, ...]]:
        return {a.labels.get("segment_id", ""): stands(a) for a in self.plane.alarms() if a.rule == rule}


def stands(alarm: Alarm) -> tuple[Any, ...]:
    since, until = micros(alarm.start) // S - T0, None if alarm.end is None else micros(alarm.end) // S - T0
    return alarm.state, since, until, alarm.priority, alarm.acked_by, alarm.retracted


def live(*, dies: bool) -> tuple[City, dict[int, dict[str, tuple[str, str | None]]]]:
    """An hour and ten minutes of the city, and how its sensors were seen at some moments."""
    city, looks = City(), {}
    for city.now in range(1, END):
        for n, (key, every) in enumerate(EVERY.items()):
            dead = dies and key < "s40" and DIES <= city.now < BACK
            if city.now % every == (7 * n) % every and not dead:
                jammed = key in JAMMED and not (key in EASED and city.now >= EASES)
                city.hear(key, 5.0 if jammed and city.now >= 300 else 45.0)
        if city.now % 5 == 0:
            city.tick()
        if city.now == DIES - 60:
            city.acknowledge("s03")
            city.acknowledge("s11")
        if city.now in (DIES - 1, BACK - 1, END - 1):
            looks[city.now] = city.seen()
    return city, looks


@pytest.fixture(scope="module")
def died() -> tuple[City, dict[int, dict[str, tuple[str, str | None]]]]:
    return live(dies=True)


@pytest.fixture(scope="module")
def lived() -> tuple[City, dict[int, dict[str, tuple[str, str | None]]]]:
    return live(dies=False)


def test_one_alarm_is_told_for_a_gateway_with_forty_sensors(died: Any) -> None:
    city, _ = died
    asked = [t for t in city.history if t.at >= DIES and t.state == "UNACK"]
    assert {(t.rule, *t.labels.items()) for t in asked} == {("gateway-silent", ("gateway", "tu-dong"))}
    # Its beginning is corrected while partitions say which of their sensors fell silent in the last seconds.
    assert [t.type for t in asked] == ["raised", *["revised"] * (len(asked) - 1)]
    assert DIES + 60 < asked[0].at <= asked[-1].at <= asked[0].at + 5 < DIES + 120


def test_its_silences_are_kept_and_counted_and_nobody_is_called_for_them(died: Any) -> None:
    city, _ = died
    silences = [t for t in city.history if t.rule == "silent"]
    assert sum(t.type == "raised" for t in silences) == 40
    assert {t.state for t in silences} == {"DSUPR", "NORM"}
    assert len(city.states("silent")) == 40


def test_forty_sensors_are_not_seen_and_the_jams_among_them_still_stand(died: Any) -> None:
    _, looks = died
    seen = looks[BACK - 1]
    assert {seen[key] for key in EVERY if key < "s40" and key not in JAMMED} == {("blind", "gateway")}
    assert {seen[key] for key in JAMMED} == {("alarm", "gateway")}
    assert {seen[key] for key in EVERY if key >= "s40"} == {("ok", None)}


def test_nothing_clears_and_nothing_is_raised_falsely_while_it_is_dead(died: Any) -> None:
    city, _ = died
    during = [t for t in city.history if DIES <= t.at < BACK and t.rule == "jam"]
    assert during == []
    jams = [t for t in city.history if t.rule == "jam"]
    assert [t.type for t in jams].count("raised") == 5


def test_on_its_return_all_is_as_if_it_had_never_died(died: Any, lived: Any) -> None:
    (city, looks), (other, other_looks) = died, lived
    assert looks[DIES - 1] == other_looks[DIES - 1]
    assert city.states("jam") == other.states("jam")
    assert {state for state, *_ in city.states("jam").values()} == {"ACKED", "UNACK", "NORM", "RTNUN"}
    assert looks[END - 1] == other_looks[END - 1]
    assert {state for state, *_ in city.states("silent").values()} == {"NORM"}
    ((state, *_),) = city.states("gateway-silent").values()
    assert state == "RTNUN"  # it is over, and somebody should know that it was
    assert other.states("silent") == other.states("gateway-silent") == {}


def test_whatever_the_alarm_plane_read_is_accounted_for(died: Any) -> None:
    city, _ = died
    counts = city.plane.counts()
    assert min(counts.values()) >= 0
    assert counts["held"] >= 80  # each silence was held first, and marked before it was told
    assert counts["unknown_alarm"] == counts["repeated"] == 0
