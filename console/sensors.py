"""What sensors say, and whether they are seen: pure; the clock is an argument."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from console import wire
from console.shapes import sensor_id
from models import catalogue
from models.base import moment
from rules.sight import NOTHING, Heard, Sight, allowance_us, sight, whole_feed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from models.base import Event, Micros
    from rules.spec import RuleSet

Values = dict[str, float | str | bool]

#: Of a word that a sensor says. Nothing longer is a value to look at.
MOST_LETTERS = 100

#: A rate is that of the last minute, or of as long as we have counted.
RATE_US: Micros = 60_000_000


class Said(NamedTuple):
    """One observation, as far as the console shows it."""

    at: Micros
    arrived: Micros
    late: bool
    has_value: bool
    values: Values


@dataclass(slots=True)
class _Sensor:
    topic: str
    every: Micros
    allowance: Micros
    known: Micros
    heard: Heard = NOTHING
    values: Values = field(default_factory=dict)


@cache
def _reader(event: type[Event]) -> tuple[tuple[str, ...], Callable[[Event], tuple[Any, ...]]]:
    """Names and values of what may be seen of an event: never a personal field, nothing the key says anyway."""
    names = tuple(n for n in event.public() if n not in event.topic.key)
    read = attrgetter("quality", *names)  # of one name it would give no tuple
    return names, lambda found: read(found)[1:] if names else ()


def said(event: Event, stamp: Micros) -> Said:
    """What an event says. Lists and absent values are left out."""
    names, read = _reader(type(event))
    values: Values = {}
    for name, value in zip(names, read(event), strict=True):
        if isinstance(value, bool):
            values[name] = value
        elif isinstance(value, int | float):
            values[name] = float(value)
        elif isinstance(value, str) and len(value) <= MOST_LETTERS:
            values[name] = value
    at = event.at
    return Said(at, stamp, stamp - at > type(event).topic.late_us, event.quality != "no_value", values)


class Sensors:
    """The registry's sensors as they are seen. `tell` says which of them are seen differently than last time."""

    def __init__(self) -> None:
        self._sensors: dict[str, _Sensor] = {}
        self._shown: dict[str, wire.Seen] = {}
        self._newest: dict[str, Micros] = {}
        self._counts: Counter[str] = Counter()
        self._rates: deque[tuple[Micros, Counter[str]]] = deque()

    # --- in -----------------------------------------------------------------------------------------------------

    def set_up(self, rules: RuleSet, known: Micros) -> None:
        """The registry in force. A sensor that was known before keeps what is known of it."""
        before = self._sensors
        self._sensors = {}
        for listed in rules.registry.sensors:
            id_ = sensor_id(listed.topic, listed.key)
            allowance = allowance_us(listed.every_us, rules.of(listed.topic))
            old = before.get(id_)
            if old is None:
                self._sensors[id_] = _Sensor(listed.topic, listed.every_us, allowance, known)
            else:
                old.every, old.allowance = listed.every_us, allowance
                self._sensors[id_] = old
        self._shown = {id_: seen for id_, seen in self._shown.items() if id_ in self._sensors}

    def count(self, topic: str, events: int) -> None:
        self._counts[topic] += events

    def hear(self, topic: str, key: str, what: Said) -> None:
        """One observation, in any order."""
        if not what.late:
            self._newest[topic] = max(what.at, self._newest.get(topic, what.at))
        sensor = self._sensors.get(sensor_id(topic, key))
        if sensor is None:
            return
        at, judged, measured, arrived = sensor.heard
        if not what.late:
            if judged is None or what.at >= judged:
                sensor.values = what.values
            judged = _later(judged, what.at)
            measured = _later(measured, what.at) if what.has_value else measured
        sensor.heard = Heard(_later(at, what.at), judged, measured, _later(arrived, what.arrived))

    # --- out ----------------------------------------------------------------------------------------------------

    def look(self, now: Micros, alarms: Collection[str], missed: Mapping[str, bool]) -> tuple[wire.Seen, ...]:
        """Look at all sensors: those that are seen differently than at the last look.

        `alarms` are the ids of sensors where something is wrong, `missed` of those an absence rule misses, and whether that
        is suppressed: then something else is the reason, and known.
        """
        found = {
            id_: sight(
                sensor.heard,
                allowance=sensor.allowance,
                known=sensor.known,
                now=now,
                alarm=id_ in alarms,
                missed=id_ in missed,
                behind=missed.get(id_, False),
            )
            for id_, sensor in self._sensors.items()
        }
        silent = {topic for topic, ids in self._by_topic().items() if whole_feed(found[i] for i in ids)}
        changed: list[wire.Seen] = []
        for id_, sensor in self._sensors.items():
            one = found[id_]._replace(why="feed") if sensor.topic in silent else found[id_]
            seen = _seen(id_, one, sensor)
            if self._shown.get(id_) != seen:
                self._shown[id_] = seen
                changed.append(seen)
        return tuple(changed)

    def shown(self) -> tuple[wire.Seen, ...]:
        """All sensors, as of the last look."""
        return tuple(self._shown.values())

    def tally(self) -> dict[wire.Status, int]:
        counts: dict[wire.Status, int] = {"ok": 0, "alarm": 0, "blind": 0, "waiting": 0}
        for seen in self._shown.values():
            counts[seen.status] += 1
        return counts

    def feeds(self, now: Micros, canaries: Mapping[str, wire.Canary]) -> tuple[tuple[wire.Feed, ...], float]:
        """Every source topic, and events a second over all of them."""
        self._rates.append((now, self._counts.copy()))
        while len(self._rates) > 2 and now - self._rates[1][0] >= RATE_US:
            self._rates.popleft()
        since, before = self._rates[0]
        minutes = (now - since) / RATE_US
        grown = {t: (n - before[t]) / minutes for t, n in self._counts.items()} if minutes > 0 else {}
        ids = self._by_topic()
        feeds = tuple(
            self._feed(topic, ids.get(topic, ()), grown, canaries.get(topic)) for topic in catalogue.topics()
        )
        return feeds, sum(grown.values()) / 60

    def _feed(
        self, topic: str, ids: Collection[str], rates: Mapping[str, float], canary: wire.Canary | None
    ) -> wire.Feed:
        found = [self._shown[id_] for id_ in ids if id_ in self._shown]
        blind = sum(seen.why is not None for seen in found)
        newest = self._newest.get(topic)
        lost = canary is not None and canary.lost
        return wire.Feed(
            topic=topic,
            level="bad" if lost or 0 < blind == len(found) else "warn" if blind else "ok",
            per_minute=rates.get(topic, 0.0),
            at=None if newest is None else moment(newest),
            sensors=len(found),
            blind=blind,
            canary=canary,
        )

    def _by_topic(self) -> dict[str, list[str]]:
        ids: dict[str, list[str]] = {}
        for id_, sensor in self._sensors.items():
            ids.setdefault(sensor.topic, []).append(id_)
        return ids

    def every(self, id_: str | None) -> Micros:
        """How often it should speak; 0 for what is not of the registry."""
        sensor = None if id_ is None else self._sensors.get(id_)
        return 0 if sensor is None else sensor.every

    def __contains__(self, id_: str) -> bool:
        return id_ in self._sensors


def _later(one: Micros | None, other: Micros) -> Micros:
    return other if one is None else max(one, other)


def _seen(id_: str, found: Sight, sensor: _Sensor) -> wire.Seen:
    return wire.Seen(
        id=id_,
        status=found.status,
        why=found.why,
        since=None if found.since is None else moment(found.since),
        at=None if sensor.heard.at is None else moment(sensor.heard.at),
        values=sensor.values,
    )
