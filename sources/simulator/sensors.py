"""What each kind of sensor says, and when it speaks next: one function a topic, two tables at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from models.base import moment
from sources.simulator import city as c
from sources.simulator.rhythm import HOUR, busy, local, midnight, school_day, tide_m

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.base import Micros
    from sources.simulator.city import Sensor
    from sources.simulator.rhythm import Moment, Weather

Fields = dict[str, Any]

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND

#: Stamps are milliseconds in Kafka, so that is how fine the city's clocks are.
MS: Micros = 1000


@dataclass
class Voice:
    """A sensor with its own dice and its own slow drift, so that no other sensor changes what it says."""

    sensor: Sensor
    rng: Random
    drift: float = 0.0
    last: Fields | None = None
    phase: Micros = field(init=False)

    def __post_init__(self) -> None:
        every = self.sensor.every_s
        self.phase = self.rng.randrange(round((every or 1800) * 1000)) * MS

    def wander(self, step: float) -> float:
        """The next value of a slow random walk around 0 with a spread of about 2.3 steps."""
        self.drift = 0.9 * self.drift + self.rng.gauss(0, step)
        return self.drift


def voice(seed: int, sensor: Sensor) -> Voice:
    return Voice(sensor, Random(f"{seed}/{sensor.topic}/{sensor.key}"))  # noqa: S311 - the same for the same seed


# --- when -----------------------------------------------------------------------------------------------------------


def _periodic(who: Voice, after: Micros) -> Micros:
    every = round((who.sensor.every_s or 0) * SECOND)
    return after + every - (after - who.phase) % every


def _by_chance(per_hour: Callable[[Voice, Moment], float]) -> Callable[[Voice, Micros], Micros]:
    """Something that happens so often an hour on average, as busy as it is at the time."""

    def following(who: Voice, after: Micros) -> Micros:
        at = after
        # Chance has no memory: looking again after an hour lets the rate follow the day and changes nothing else.
        while (gap := who.rng.expovariate(max(per_hour(who, local(at)), 1e-3))) > 1:
            at += HOUR
        return at + max(MS, round(gap * HOUR) // MS * MS)

    return following


def _roll_call(who: Voice, after: Micros) -> Micros:
    """Half past seven and this school's minutes, on the next school day."""
    day = local(after).day
    while True:
        at = midnight(day) + 7 * HOUR + 30 * MINUTE + who.phase
        if at > after and school_day(day):
            return at
        day += 1


def _camera_rate(who: Voice, now: Moment) -> float:
    return 360 * (0.1 + 1.5 * busy(who.sensor.traits["rhythm"], now))


def _arrival_rate(who: Voice, now: Moment) -> float:
    return 2.2 * float(who.sensor.traits["arrivals"]) * busy("illness", now)


# --- what -----------------------------------------------------------------------------------------------------------


def _flow(who: Voice, now: Moment, sky: Weather) -> Fields:
    traits = who.sensor.traits
    demand = max(0.01, busy(traits["rhythm"], now) * (1 + who.wander(0.04)))
    wet = 1 - min(0.3, sky.rain_mmh / 100)
    speed = traits["free_kmh"] * wet * (1 - 0.5 * min(1.2, demand) ** 3) + who.rng.gauss(0, 1.5)
    intensity = 650 * traits["lanes"] * demand * (0.9 + 0.2 * wet)
    return {
        "speed_kmh": max(8.0, speed),
        "intensity_vehh": intensity,
        "occupancy_pct": min(
            70.0, 0.7 * intensity / max(8.0, speed) / traits["lanes"] + who.rng.uniform(0, 2)
        ),
    }


def _travel(who: Voice, now: Moment, sky: Weather) -> Fields:
    traits = who.sensor.traits
    speed = (
        traits["free_kmh"] * 0.75 * (1 - 0.4 * busy("city", now) ** 3) * (1 - min(0.3, sky.rain_mmh / 100))
    )
    return {"travel_time_s": 3600 * traits["km"] / speed * (1 + who.wander(0.02))}


#: kind, class, weight. A camera's doubtful finds are many, its sure ones rare.
_SEEN: tuple[tuple[str, str | None, float], ...] = (
    ("motion", None, 30), ("object_detected", "car", 14), ("object_detected", "motorcycle", 16),
    ("object_detected", "person", 14), ("line_crossed", "motorcycle", 12), ("line_crossed", "car", 8),
    ("objects_inside", "person", 5.5), ("loitering", "person", 0.4), ("object_abandoned", "other", 0.01),
)  # fmt: skip
_SEEN_WEIGHTS = tuple(weight for _, _, weight in _SEEN)


def _camera(who: Voice, _now: Moment, _sky: Weather) -> Fields:
    kind, of, _ = who.rng.choices(_SEEN, _SEEN_WEIGHTS)[0]
    fields: Fields = {"kind": kind}
    if of is not None:
        fields |= {"object_class": of, "object_id": str(who.rng.randrange(1, 100_000))}
        sure = (
            who.rng.triangular(0.2, 0.65, 0.35) if kind == "object_abandoned" else who.rng.uniform(0.6, 0.99)
        )
        fields["confidence"] = round(sure, 2)
    return fields


def _count(who: Voice, now: Moment, sky: Weather) -> Fields:
    dry = 1 / (1 + sky.rain_mmh / 8)
    usual = who.sensor.traits["crowd"] * busy(who.sensor.traits["rhythm"], now) * dry
    return {"count": max(0.0, usual * (1 + who.wander(0.05)) + who.rng.gauss(0, 2))}


def _queue(who: Voice, now: Moment, _sky: Weather) -> Fields:
    load = busy("illness", now) * (1 + who.wander(0.05))
    waiting = max(0.0, 14 * load + who.rng.gauss(0, 1))
    return {
        "waiting": waiting,
        "waiting_urgent": min(3.0, max(0.0, waiting * 0.09 + who.rng.gauss(0, 0.5))),
        "wait_p90_min": max(5.0, 20 + 45 * load),
        "diverting": 0.0,
    }


def _beds(who: Voice, now: Moment, _sky: Weather) -> Fields:
    share = 0.5 + 0.22 * busy("illness", now) if who.sensor.traits["unit"] == "ed" else 0.8
    return {"beds_occupied": who.sensor.traits["beds"] * min(0.96, share + who.wander(0.012))}


def _roll(who: Voice, _now: Moment, sky: Weather) -> Fields:
    missing = 0.03 + min(0.05, sky.rain_mmh / 400) + abs(who.rng.gauss(0, 0.012))
    return {"present": who.sensor.traits["pupils"] * (1 - missing)}


def _room(who: Voice, now: Moment, sky: Weather) -> Fields:
    there = busy("lessons", now) if school_day(now.day) else 0.0
    shut = 1 + min(0.3, sky.rain_mmh / 40 + max(0.0, sky.haze_ugm3 - 40) / 250)  # windows are closed
    # The sun's hours and the season are left out: rooms are between 20 and 30 degrees.
    return {
        "co2_ppm": 430 + 620 * there * shut * (1 + who.wander(0.03)),
        "temperature_c": 24 + 4 * math.sin((now.hour - 9) * math.pi / 12) + who.rng.gauss(0, 0.2),
        "humidity_pct": min(98.0, 68 + sky.rain_mmh + who.rng.gauss(0, 2)),
        "occupied": there > 0.1,
    }


def _air(who: Voice, now: Moment, sky: Weather) -> Fields:
    traffic = busy("city", now)
    pm25 = max(2.0, 9 + who.sensor.traits["dust"] * (sky.haze_ugm3 + 9 * traffic) * (1 + who.wander(0.06)))
    return {
        "pm25_ugm3": pm25,
        "pm10_ugm3": pm25 * 1.6,
        "no2_ugm3": 15 + 40 * traffic + who.rng.uniform(0, 5),
        "so2_ugm3": 8 + who.rng.uniform(0, 4),
        "co_ugm3": 500 + 900 * traffic + who.rng.uniform(0, 100),
        "o3_ugm3": max(5.0, 30 + 50 * math.sin((now.hour - 8) * math.pi / 12) + who.rng.gauss(0, 4)),
    }


def _water(who: Voice, now: Moment, sky: Weather) -> Fields:
    at = midnight(now.day) + round(now.hour * HOUR)
    return {"level_m": tide_m(at) + min(0.25, sky.rain_mmh / 100) + who.rng.gauss(0, 0.015)}


_MOVEMENTS = ("register", "admit", "discharge", "transfer")
_SYNDROMES = ("injury", "respiratory", "fever", "gastrointestinal", "cardiac", "neurological", "other")


def movement(rng: Random, kind: str, syndrome: str, triage: int, age: str) -> Fields:
    """One movement of a patient who is nobody: the token is a roll of the dice."""
    fields: Fields = {
        "movement": kind,
        "patient": f"tok_{rng.getrandbits(128):032x}",
        "patient_class": "emergency" if kind == "register" else "inpatient",
        "age_band": age,
    }
    if kind == "register":
        fields |= {"unit": "ed", "syndrome": syndrome, "triage": triage}
    return fields


def _adt(who: Voice, _now: Moment, _sky: Weather) -> Fields:
    rng = who.rng
    child = who.sensor.key == "san-nhi"
    return movement(
        rng,
        rng.choices(_MOVEMENTS, (10, 4, 4, 2))[0],
        rng.choices(_SYNDROMES, (20, 20, 15, 15, 8, 6, 16))[0],
        rng.choices((1, 2, 3, 4, 5), (1, 9, 35, 40, 15))[0],
        rng.choices(("0-4", "5-17", "18-64", "65+"), (50, 40, 10, 0) if child else (4, 8, 58, 30))[0],
    )


#: category, code, name, weight
SERVICES = (
    ("infrastructure", "den-duong", "Đèn đường hỏng", 25), ("infrastructure", "o-ga", "Ổ gà, hư hỏng mặt đường", 20),
    ("infrastructure", "thoat-nuoc", "Thoát nước, ngập úng", 8), ("environment", "rac", "Rác thải, vệ sinh", 22),
    ("environment", "khoi-bui", "Khói, bụi, mùi", 8), ("traffic", "do-xe", "Đỗ xe sai quy định", 12),
    ("traffic", "tai-nan", "Tai nạn, ùn tắc", 4), ("security", "trat-tu", "An ninh trật tự", 1),
)  # fmt: skip
_SERVICE_WEIGHTS = tuple(row[3] for row in SERVICES)
SERVICE = {code: (category, code, name) for category, code, name, _ in SERVICES}


def report(code: str, report_id: str, at: Micros, *, status: str = "open") -> Fields:
    """One state of a citizen's report."""
    category, code, name = SERVICE[code]
    return {
        "report_id": report_id, "category": category, "service_code": code, "service_name": name, "status": status,
        "channel": "app", "requested_at": moment(at),
    }  # fmt: skip


def _report_rate(_who: Voice, now: Moment) -> float:
    return 0.35 * (0.1 + busy("city", now))


_ON_ROADS = ("breakdown", "roadworks", "congestion", "public_event", "collision")


def _on_road(who: Voice, _now: Moment, _sky: Weather) -> Fields:
    """Small things that the traffic police note; what is grave is an incident of the plan."""
    return {"category": who.rng.choices(_ON_ROADS, (50, 20, 10, 5, 15))[0], "injured": 0}


def _said(who: Voice, _now: Moment, _sky: Weather) -> Fields:
    category, code, name, _ = who.rng.choices(SERVICES, _SERVICE_WEIGHTS)[0]
    return {"category": category, "service_code": code, "service_name": name, "channel": "app"}


WHEN: dict[str, Callable[[Voice, Micros], Micros]] = {
    c.FLOW: _periodic, c.TRAVEL: _periodic, c.COUNT: _periodic, c.BEDS: _periodic, c.QUEUE: _periodic,
    c.ROOM: _periodic, c.AIR: _periodic, c.WATER: _periodic, c.ROLL: _roll_call,
    c.CAMERA: _by_chance(_camera_rate), c.ADT: _by_chance(_arrival_rate), c.REPORT: _by_chance(_report_rate),
    c.INCIDENT: _by_chance(lambda _who, now: 0.5 * (0.1 + busy("city", now))),
}  # fmt: skip

WHAT: dict[str, Callable[[Voice, Moment, Weather], Fields]] = {
    c.FLOW: _flow, c.TRAVEL: _travel, c.COUNT: _count, c.BEDS: _beds, c.QUEUE: _queue, c.ROOM: _room, c.AIR: _air,
    c.WATER: _water, c.ROLL: _roll, c.CAMERA: _camera, c.ADT: _adt, c.REPORT: _said, c.INCIDENT: _on_road,
}  # fmt: skip

#: What is opened is closed after so many hours, by a second event under the same name.
OPEN_H: dict[str, tuple[str, str, float, float]] = {
    c.REPORT: ("report_id", "pa", 0.5, 20),
    c.INCIDENT: ("incident_id", "tn", 0.3, 2),
}

#: How values leave the sensor: whole where the model counts, else to a tenth.
WHOLE = frozenset({"count", "waiting", "waiting_urgent", "beds_occupied", "present", "injured"})
TRUTHS = frozenset({"diverting", "occupied"})
_DIGITS = {"level_m": 2, "confidence": 2}


def finish(fields: Fields) -> Fields:
    """Values as the models want them: nothing below zero but temperatures and levels."""
    return {name: _finished(name, value) for name, value in fields.items()}


def _finished(name: str, value: Any) -> Any:
    if name in TRUTHS:
        return value >= 0.5
    if name in WHOLE:
        return max(0, round(value))
    if isinstance(value, float):
        least = -100.0 if name in ("level_m", "temperature_c") else 0.0
        return max(least, round(value, _DIGITS.get(name, 1)))
    return value
