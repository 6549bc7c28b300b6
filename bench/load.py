"""The bench's input: what the detectors of a city's roads say, made from a seed; and rules to judge it by."""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from models.base import Micros, Place, moment
from models.keys import partition_of
from models.traffic import TrafficFlow
from rules.load import default
from rules.spec import RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = TrafficFlow.topic
START: Micros = 1_767_225_600_000_000  # 2026-01-01T00:00Z
EVERY: Micros = 10_000_000  # of one detector: 12 samples are within the topic's L of two minutes

#: Shares of the input. What is held up comes after the detector's next sample, and well within L.
BAD, HELD_UP = 0.01, 0.01
#: One detector in this many stands in a jam for the second half of the input.
JAMMED = 50


class Fed(NamedTuple):
    """One record for the topic."""

    partition: int
    key: bytes
    value: bytes
    stamp_ms: int
    event_id: str


def flow(n: int, sensor: int, at: Micros, *, jammed: bool = False, speed: float | None = None) -> TrafficFlow:
    """The event number `n`: about 300 bytes on the wire."""
    free = 35.0 + n * 7 % 250 / 10
    return TrafficFlow(
        event_id=f"{n:08x}-5d6e-4b5d-9a4f-{sensor:012x}",
        source_id="hl-roads-gateway",
        observed_at=moment(at),
        segment_id=f"hl-seg-{sensor:06d}",
        speed_kmh=speed if speed is not None else 2.0 if jammed else free,
        intensity_vehh=400.0 + n % 900,
        occupancy_pct=92.5 if jammed else 5.0 + n % 40 / 2,
        place=Place(lat=20.95 + sensor % 1000 / 10_000, lon=107.05 + sensor // 1000 / 1000, ward="Bạch Đằng"),
    )


def records(count: int, sensors: int, seed: int = 1) -> Iterator[Fed]:
    """`count` records in the order of their arrival, the last of them as early as the detectors allow."""
    chance = random.Random(seed)
    waiting: list[tuple[Micros, int, TrafficFlow]] = []
    for n in range(count):
        turn, sensor = divmod(n, sensors)
        at = START + turn * EVERY + sensor * EVERY // sensors
        event = flow(n, sensor, at, jammed=sensor % JAMMED == 0 and n > count // 2)
        delay = 300_000 + (14_000_000 if chance.random() < HELD_UP else 0)
        heapq.heappush(waiting, (at + delay, n, event))
        while waiting[0][0] <= at:
            yield _fed(*heapq.heappop(waiting), chance)
    while waiting:
        yield _fed(*heapq.heappop(waiting), chance)


def _fed(stamp: Micros, _n: int, event: TrafficFlow, chance: random.Random) -> Fed:
    key = event.segment_id.encode()
    value = event.wire()
    luck = chance.random()
    if luck < BAD / 2:
        value = value.replace(b'"speed_kmh":', b'"speed_kmh":"fast","was":')
    elif luck < BAD:
        value = value[: len(value) * 2 // 3]
    return Fed(partition_of(key, TOPIC.partitions), key, value, stamp // 1000, event.event_id)


# --- rules ----------------------------------------------------------------------------------------------------------

_COMMON: dict[str, Any] = {
    "on": TOPIC.name,
    "by": ["segment_id"],
    "title": {"vi": "Đo tốc độ", "en": "Bench"},
}


def threshold(n: int) -> dict[str, Any]:
    """A rule with hysteresis that only a jam raises, in the grammar of rules/*.yaml."""
    level = {"priority": "P3", "raise": f"speed_kmh < {3 + n / 1000}", "clear": "speed_kmh > 25", "for": "1m"}
    return {**_COMMON, "id": f"bench-slow-{n}", "kind": "threshold", "levels": [level]}


def absence() -> dict[str, Any]:
    return {**_COMMON, "id": "bench-silent", "kind": "absence", "misses": 30, "priority": "P4"}


def elsewhere(n: int) -> dict[str, Any]:
    """A rule on another topic."""
    return {
        "id": f"bench-late-{n}",
        "kind": "threshold",
        "on": "city.traffic.travel_time.v1",
        "by": ["route_id"],
        "title": _COMMON["title"],
        "levels": [{"priority": "P4", "raise": f"travel_time_s > {3600 + n}", "for": "5m"}],
    }


def not_here(n: int) -> dict[str, Any]:
    """A rule of the topic for what is not in the input: one segment, one ward, or the whole of another topic."""
    where = {0: f"segment_id == 'elsewhere-{n}'", 1: f"ward == 'ward-{n}' and speed_kmh is not None"}.get(
        n % 3
    )
    return elsewhere(n) if where is None else {**threshold(n), "id": f"bench-not-here-{n}", "where": where}


def ruleset(rules: list[dict[str, Any]], sensors: int = 0) -> RuleSet:
    """A set of these rules; the first `sensors` detectors are registered, so that their silence is noticed."""
    registered = [{"topic": TOPIC.name, "key": f"hl-seg-{n:06d}", "every": "10s"} for n in range(sensors)]
    return RuleSet.model_validate({"rules": rules, "registry": {"sensors": registered}})


def typical() -> RuleSet:
    """Three rules as cities have them, two of them shipped; others that are shipped later leave the bench as it is."""
    shipped = {
        r.id: r.model_dump(mode="json", by_alias=True, exclude_none=True) for r in default().of(TOPIC.name)
    }
    return ruleset([shipped["road-jammed"], shipped["road-crawling"], threshold(0)])
