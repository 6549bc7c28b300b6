"""What goes wrong with sensors and lines: stuck, spiking, silent, dead gateways, wrong clocks; late, doubled, broken events."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from sources.simulator import city as c
from sources.simulator.incidents import Scripted, Truth
from sources.simulator.rhythm import midnight
from sources.simulator.sensors import MINUTE, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.base import Micros
    from sources.simulator.city import City, Sensor
    from sources.simulator.sensors import Fields

#: What tells that a sensor of a topic is silent, and after how many minutes.
SILENCE = {
    c.FLOW: ("road-detector-silent", 10),
    c.COUNT: ("camera-count-silent", 10),
    c.QUEUE: ("hospital-queue-silent", 15),
    c.AIR: ("air-station-silent", 240),
    c.WATER: ("water-gauge-silent", 120),
}


class Fault(NamedTuple):
    """A fault of some sensors. What it does is its `kind`; `size` is a factor of a spike, microseconds of a wrong clock.

    A gateway that `keeps` sends what it has kept when it comes back.
    """

    id: str
    kind: str
    start: Micros
    end: Micros
    sensors: tuple[tuple[str, str], ...]
    rules: tuple[str, ...] = ()
    size: float = 0.0
    keeps: bool = False
    script: tuple[Scripted, ...] = ()

    @property
    def truth(self) -> Truth:
        subjects = dict.fromkeys(key.split("/")[0] for _, key in self.sensors)
        topics = sorted({topic for topic, _ in self.sensors})
        return Truth(
            "fault", self.id, self.kind, self.start, self.end, tuple(subjects), tuple(topics), self.rules
        )


class _Case(NamedTuple):
    id: str
    start: Micros
    city: City
    rng: Random


def _of(case: _Case, *topics: str) -> Sensor:
    return case.rng.choice(case.city.by_topic[case.rng.choice(topics)])


def _stuck(case: _Case) -> Fault:
    """The last value, again and again."""
    sensor = _of(case, c.FLOW, c.COUNT, c.AIR, c.WATER)
    end = case.start + case.rng.randrange(60, 360) * MINUTE
    return Fault(case.id, "stuck", case.start, end, ((sensor.topic, sensor.key),))


def _spike(case: _Case) -> Fault:
    """One or two readings that cannot be."""
    sensor = _of(case, c.FLOW, c.COUNT, c.AIR)
    end = case.start + round((sensor.every_s or 60) * case.rng.choice((1, 2))) * SECOND
    return Fault(
        case.id, "spike", case.start, end, ((sensor.topic, sensor.key),), size=case.rng.uniform(4, 12)
    )


def _silent(case: _Case) -> Fault:
    """A sensor says nothing, for long enough or not."""
    sensor = _of(case, *SILENCE)
    rule, least = SILENCE[sensor.topic]
    minutes = round(least * case.rng.uniform(0.7, 3)) + 5
    # The silence is told of so long after the last value, which may be one interval old when the fault begins.
    rules = (rule,) if minutes > least + (sensor.every_s or 0) / 60 else ()
    return Fault(
        case.id, "silent", case.start, case.start + minutes * MINUTE, ((sensor.topic, sensor.key),), rules
    )


def _gateway(case: _Case) -> Fault:
    """Everything behind one cabinet falls silent together; some cabinets keep what they could not send."""
    groups = sorted({s.gateway for s in case.city.sensors if s.gateway.startswith(("tu-", "nvr-"))})
    name = case.rng.choice(groups)
    minutes = case.rng.randrange(8, 50)
    members = tuple((s.topic, s.key) for s in case.city.sensors if s.gateway == name)
    rules = ("gateway-silent", "road-detector-silent", "camera-count-silent") if minutes > 14 else ()
    keeps = case.rng.random() < 0.5
    return Fault(
        case.id, "gateway-dead", case.start, case.start + minutes * MINUTE, members, rules, keeps=keeps
    )


def _signal_loss(case: _Case) -> Fault:
    """A camera's picture is gone; its recorder says so, and says when it is back."""
    sensor = _of(case, c.CAMERA)
    end = case.start + case.rng.randrange(4, 60) * MINUTE
    lost = tuple(
        (topic, sensor.key) for topic in (c.CAMERA, c.COUNT) if (topic, sensor.key) in case.city.by_key
    )
    script = tuple(
        Scripted(
            at, c.CAMERA, sensor.key, sensor.place, {**sensor.fields, "kind": "signal_loss", "active": active}
        )
        for at, active in ((case.start, True), (end, False))
    )
    return Fault(case.id, "signal-loss", case.start, end, lost, ("camera-signal-lost",), script=script)


def _clock(case: _Case) -> Fault:
    """A sensor's clock is wrong: what is ahead is refused, what is behind comes too late to be judged."""
    sensor = _of(case, c.FLOW, c.COUNT)
    end = case.start + case.rng.randrange(30, 90) * MINUTE
    wrong = case.rng.choice((-1, 1)) * case.rng.randrange(6, 40) * MINUTE
    rules = (SILENCE[sensor.topic][0],)
    return Fault(
        case.id, "wrong-clock", case.start, end, ((sensor.topic, sensor.key),), rules, size=float(wrong)
    )


#: How many a day of each; a city of twice the sensors has as many again.
FAULTS: tuple[tuple[str, Callable[[_Case], Fault], float], ...] = (
    ("stuck", _stuck, 2), ("spike", _spike, 4), ("silent", _silent, 3), ("gateway-dead", _gateway, 1.2),
    ("signal-loss", _signal_loss, 2), ("wrong-clock", _clock, 1),
)  # fmt: skip


def plan(seed: int, city: City, day: int) -> list[Fault]:
    """The faults of a local day, in order of time."""
    rng = Random(f"faults/{seed}/{day}")  # noqa: S311 - a simulation, the same for the same seed
    found: list[Fault] = []
    registered = c.city().by_key
    for kind, build, mean in FAULTS:
        for n in range(int(mean) + (rng.random() < mean % 1)):
            start = midnight(day) + rng.randrange(86_400) * SECOND
            case = _Case(f"{kind}-{day}-{n + 1}", start, city, Random(rng.getrandbits(64)))  # noqa: S311
            fault = build(case)
            # Only what is registered is ever missed: the sensors that a greater load adds are not.
            known = any(sensor in registered for sensor in fault.sensors)
            found.append(fault if known else fault._replace(rules=()))
    return sorted(found, key=lambda it: (it.start, it.id))


def spiked(fields: Fields, factor: float) -> Fields:
    """Numbers beyond anything that happens."""
    return {
        name: value * factor
        if isinstance(value, float) and name not in ("occupancy_pct", "humidity_pct")
        else value
        for name, value in fields.items()
    }


# --- on the line ----------------------------------------------------------------------------------------------------

#: What may happen to an event on its way, and to how many of a thousand.
FLAWS: tuple[tuple[str, float], ...] = (
    ("doubled", 4.0), ("late", 3.0), ("cut", 0.5), ("wrong type", 0.4), ("contradicted", 0.2),
)  # fmt: skip
_FLAW_SUM = sum(share for _, share in FLAWS) / 1000


def flaw(rng: Random) -> str | None:
    """What happens to the next event, mostly nothing."""
    dice = rng.random()
    if dice >= _FLAW_SUM:
        return None
    for name, share in FLAWS:
        dice -= share / 1000
        if dice < 0:
            return name
    return None


def wrong_type(value: bytes, rng: Random) -> bytes:
    """The event with words where a number or a time belongs, as a form filled in by hand has them."""
    body: dict[str, Any] = json.loads(value)
    numbers = [
        n
        for n, v in body.items()
        if isinstance(v, float | int) and not isinstance(v, bool) and n != "revision"
    ]
    body[rng.choice(numbers) if numbers else "observed_at"] = "không đo được"
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
