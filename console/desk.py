"""All that the console knows, in one place: the log and the store put it in, subscribers and questions take it out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, get_args

from bus.latency import Hop
from bus.logtime import LogTime
from console import hub, shapes, wire
from console.alarms import Alarms, Known
from console.canaries import Canaries, Through
from console.sensors import Sensors
from models import catalogue
from models.base import moment
from rules.spec import Absence, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bus.canary import Canary
    from models.alarm import Alarm, AlarmEvent
    from models.base import Micros
    from rules.spec import AnyRule
    from settings import Settings

#: Alarms that are over and seen stay on the list for so long.
OVER_US: Micros = 3_600_000_000

#: Latencies are those of so many last changes.
LATENCIES = 10_000

#: How long a subscriber that comes while the log is read waits for it.
PATIENCE_S = 5.0

#: The last one of any part is that of all.
LEVELS: tuple[wire.Level, ...] = ("ok", "warn", "bad")


class Desk:
    """One object a console, used by one event loop. Nothing here waits but `join`."""

    def __init__(self, settings: Settings, log_id: str | None) -> None:
        self.clock: wire.Clock = settings.kafka.clock
        self.alarms, self.sensors, self.hub = Alarms(log_id), Sensors(), hub.Hub()
        self.rules = RuleSet()
        self.version: int | None = None
        self.loaded = asyncio.Event()  # the log has been read to its end once
        self.latencies: deque[float] = deque(maxlen=LATENCIES)
        self.canary_latencies: deque[float] = deque(maxlen=LATENCIES)
        self.parts = {
            id_: wire.Part(id=id_, level="warn", behind_s=None, why="not asked yet")
            for id_ in get_args(wire.PartId)
        }
        self.canaries = Canaries({t.name: t.partitions for t in catalogue.topics().values()}, _quiet())
        if self.clock == "writer":  # who feeds a replay sends none
            del self.parts["through"]
        self.left_open = 0
        self.lags: dict[str, int] = {}
        self._hop, self._canary_hop = Hop("console", settings), Hop("canary", settings)
        self._by_id: dict[str, AnyRule] = {}
        self._shown: dict[str, wire.Rule] = {}
        self._newest: Micros = 0
        self._time, self._stamped = LogTime(), not settings.kafka.embedded

    # --- time ---------------------------------------------------------------------------------------------------

    def now(self) -> Micros:
        """The time by which the city is looked at: the log's, so that a wrong clock here makes nobody blind, or seen."""
        if self.clock == "writer":
            return self._newest
        return self._time.now() or time.time_ns() // 1000

    def passed(self, stamp: Micros) -> None:
        """A record has this stamp."""
        self._newest = max(self._newest, stamp)

    def appended(self, stamp: Micros) -> None:
        """A record with this stamp has just come on a source topic, where the broker sets it (the embedded one does not)."""
        self.passed(stamp)
        if self._stamped:
            self._time.see(stamp)

    # --- in -----------------------------------------------------------------------------------------------------

    def put_rules(self, version: int, rules: RuleSet, stamp: Micros) -> None:
        """The newest set: whoever listens is told, and then all alarms anew."""
        self.passed(stamp)
        self.rules, self.version = rules, version
        self._by_id = {rule.id: rule for rule in rules.rules}
        self._shown = {rule.id: rule for rule in shapes.rules_of(rules)}
        self.sensors.set_up(rules, stamp)
        self.alarms.change(
            lambda alarm: alarm.model_copy(
                update={"sensor": self._sensor(alarm.rule, alarm.labels, alarm.sensor)}
            )
        )
        self.hub.send(self._city())
        if self.loaded.is_set():
            self.tell_all()

    def put_alarm(self, offset: int, found: Alarm, record: bytes, stamp: Micros) -> None:
        """A record of `city.alarm.state.v1`."""
        told = self.alarms.take(offset, self.known(found, record, stamp))
        if told is None or not self.loaded.is_set():
            return
        self.hub.send(told)
        took = self._hop.done(stamp / 1000)
        if took is not None:
            self.latencies.append(took)

    def known(self, found: Alarm, record: bytes, stamp: Micros) -> Known:
        topic = found.evidence[0].topic if found.evidence else None
        sensor = self._sensor(found.rule, found.labels, topic)
        return Known(shapes.alarm(found, moment(stamp), sensor), record)

    def _sensor(self, rule_id: str, labels: dict[str, str], otherwise: str | None) -> str | None:
        """The sensor of the registry that an alarm is about: by its rule, else by the topic of its evidence."""
        rule = self._by_id.get(rule_id)
        name = rule.on if rule is not None else (otherwise or "").partition("|")[0]
        topic = catalogue.topics().get(name)
        if topic is None or not set(topic.key) <= labels.keys():
            return None
        id_ = shapes.sensor_id(name, "/".join(labels[part] for part in topic.key))
        return id_ if id_ in self.sensors else None

    def put_entry(self, found: AlarmEvent) -> None:
        """A record of `city.alarm.event.v1`."""
        entry, alarm_id = shapes.entry(found), found.alarm.alarm_id
        if self.alarms.add(alarm_id, entry, found.alarm.position) and self.loaded.is_set():
            self.hub.send(hub.frame("entry", wire.NewEntry(alarm_id=alarm_id, entry=entry)))

    def put_canary(self, one: Canary) -> None:
        """A canary has come through."""
        self.canaries.came(one)
        took = self._canary_hop.done(one.stamp / 1000) if self.loaded.is_set() else None
        if took is not None:
            self.canary_latencies.append(took)

    def put_part(self, part: wire.Part) -> None:
        self.parts[part.id] = part

    def ready(self) -> None:
        """The log has been read to its end: from now on everybody is told each change."""
        if not self.loaded.is_set():
            self.look()
            self.loaded.set()
            self.tell_all()

    # --- rounds -------------------------------------------------------------------------------------------------

    def look(self) -> tuple[wire.Seen, ...]:
        """Look at all sensors; what changed."""
        alarms: set[str] = set()
        missed: dict[str, bool] = {}
        for alarm in self.alarms.open():
            if alarm.active and alarm.sensor is not None:
                if isinstance(self._by_id.get(alarm.rule), Absence):
                    missed[alarm.sensor] = alarm.state == "DSUPR"
                else:
                    alarms.add(alarm.sensor)
        return self.sensors.look(self.now(), alarms, missed)

    def tell_seen(self) -> None:
        changed = self.look()
        if changed and self.hub.subscribers:
            self.hub.send(hub.frame("seen", wire.SeenChanges(seen=changed)))

    def tell_health(self) -> None:
        self.hub.send(hub.frame("health", self.health()))

    def tell_all(self) -> None:
        """Everything anew, to everybody who listens."""
        if self.hub.subscribers:
            self.hub.send(self.snapshot())

    # --- out ----------------------------------------------------------------------------------------------------

    def city(self) -> wire.City:
        return shapes.city(self.alarms.log_id or "", self.clock, self.version, self.rules)

    def through(self) -> dict[str, Through]:
        """Whether what is sent on a feed comes through, by topic; in a replay nobody asks."""
        return self.canaries.look(self.now(), _quiet()) if self.clock == "log" else {}

    def health(self) -> wire.Health:
        canaries = {topic: shapes.canary(found) for topic, found in self.through().items()}
        feeds, per_second = self.sensors.feeds(time.monotonic_ns() // 1000, canaries)
        parts = tuple(self.parts.values())
        return wire.Health(
            now=moment(self.now()),
            level=max((part.level for part in parts), key=LEVELS.index, default="ok"),
            per_second=per_second,
            parts=parts,
            feeds=feeds,
            sensors=self.sensors.tally(),
            left_open=self.left_open,
            suppressed=sum(alarm.state == "DSUPR" for alarm in self.alarms.open()),
        )

    def snapshot(self) -> bytes:
        """Everything as it stands, as an event of the stream."""
        before = moment(max(0, self.now() - OVER_US))
        alarms = [a for a in self.alarms.all() if a.state != "NORM" or a.changed_at >= before]
        return hub.frame(
            "snapshot",
            wire.Snapshot(alarms=tuple(alarms), seen=self.sensors.shown(), health=self.health()),
            self.alarms.place(self.alarms.read_to) if self.loaded.is_set() else None,
        )

    def _city(self) -> bytes:
        return hub.frame("city", wire.CityChanged(rules_version=self.version))

    async def join(self, place: str | None) -> hub.Subscriber:
        """A new subscriber: told what it missed since `place`, where that is known, else all there is."""
        try:
            await asyncio.wait_for(self.loaded.wait(), PATIENCE_S)
        except TimeoutError:
            self.tell_seen()  # the broker is away: what the store knew is told, and all again when it is back
        subscriber = hub.Subscriber()
        missed = self.alarms.since(place) if self.loaded.is_set() else None
        if missed is not None:
            seen = wire.SeenChanges(seen=self.sensors.shown())
            subscriber.offer(*missed, hub.frame("seen", seen), hub.frame("health", self.health()))
        elif place:
            subscriber.offer(self._city(), self.snapshot())
        else:
            subscriber.offer(self.snapshot())
        self.hub.add(subscriber)
        return subscriber

    def rule(self, rule_id: str) -> AnyRule | None:
        """The rule, if it is in force."""
        return self._by_id.get(rule_id)

    def shown_rule(self, rule_id: str) -> wire.Rule | None:
        """The rule as it is shown, if it is in force; those over signals, too."""
        return self._shown.get(rule_id)

    def unready(self) -> str | None:
        """Why what is shown is not what is: the log is not read yet, or its broker is away."""
        if not self.loaded.is_set():
            return "the log is not read yet"
        broker = self.parts.get("broker")
        return None if broker is None or broker.level == "ok" else f"the broker does not answer: {broker.why}"

    def latency(self) -> dict[str, Any]:
        """Of the last live changes, in seconds."""
        return _spread(self.latencies)

    def canary_latency(self) -> dict[str, Any]:
        """Of the last canaries from their feed to here, in seconds."""
        return _spread(self.canary_latencies)


def _spread(latencies: Iterable[float]) -> dict[str, Any]:
    found = sorted(latencies)
    if not found:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    last = len(found) - 1
    return {
        "n": len(found),
        "p50": found[round(last * 0.5)],
        "p99": found[round(last * 0.99)],
        "max": found[-1],
    }


def _quiet() -> Micros:
    """A clock that nobody sets."""
    return time.monotonic_ns() // 1000
