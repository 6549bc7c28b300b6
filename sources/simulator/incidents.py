"""What happens in the city: labelled incidents that leave their marks in several domains, planned a day at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sources.simulator import city as c
from sources.simulator.rhythm import HOUR, high_water, local, midnight, school_day, tide_m
from sources.simulator.sensors import MINUTE, SECOND, movement, report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.base import Micros, Place
    from sources.simulator.city import City, Sensor
    from sources.simulator.sensors import Fields

#: The key of effects on the weather of the whole city, which every sensor feels.
SKY = "sky"

#: An effect leaves this much of the usual unrest, so that a jam is no straight line.
_MOST = 0.95


class Effect(NamedTuple):
    """Draws one value of one sensor to `to`, or by `plus`, in full between the ramps at both ends of [start, end]."""

    topic: str
    key: str
    name: str
    start: Micros
    end: Micros
    ramp: Micros
    to: float | None = None
    plus: float = 0.0

    def weight(self, at: Micros) -> float:
        if not self.start <= at < self.end:
            return 0.0
        return min(_MOST, (at - self.start + 1) / (self.ramp + 1), (self.end - at) / (self.ramp + 1))

    def on(self, value: float, at: Micros) -> float:
        """The value as the incident leaves it."""
        w = self.weight(at)
        return value + w * self.plus if self.to is None else value + w * (self.to - value)


class Scripted(NamedTuple):
    """One event that an incident causes, said by whom it concerns. `sure`: it is not late, lost or broken on its way."""

    at: Micros
    topic: str
    key: str
    place: Place | None
    fields: Fields
    sure: bool = False


class Truth(NamedTuple):
    """What really happened, for who compares it with the alarms. `rules` are those that should have told of it."""

    what: Literal["incident", "fault"]
    id: str
    kind: str
    start: Micros
    end: Micros
    subjects: tuple[str, ...]
    topics: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass
class Incident:
    """One incident being written: its builder adds effects and script; `truth` is what comes of it."""

    id: str
    kind: str
    rules: tuple[str, ...]
    start: Micros
    city: City
    rng: Random
    end: Micros = 0
    effects: list[Effect] = field(default_factory=list)
    script: list[Scripted] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    reported: int = 0

    @property
    def truth(self) -> Truth:
        topics = {e.topic for e in self.effects if e.topic != SKY} | {s.topic for s in self.script}
        subjects = tuple(dict.fromkeys(self.subjects))
        return Truth(
            "incident", self.id, self.kind, self.start, self.end, subjects, tuple(sorted(topics)), self.rules
        )

    def lasts(self, least_min: float, most_min: float) -> None:
        self.end = self.start + _ms(self.rng.uniform(least_min, most_min))

    def draw(self, sensor: Sensor, ramp_min: float, *, delay_min: float = 0, **to: float) -> None:
        """Draw values of a sensor to these."""
        self.subjects.append(sensor.fields.get("facility_id", sensor.key))
        start = self.start + _ms(delay_min)
        self.effects += [
            Effect(sensor.topic, sensor.key, name, start, self.end, _ms(ramp_min), value)
            for name, value in to.items()
        ]

    def sky(self, ramp_min: float, **plus: float) -> None:
        """Make the weather worse, for everybody."""
        self.effects += [
            Effect(SKY, SKY, name, self.start, self.end, _ms(ramp_min), None, value)
            for name, value in plus.items()
        ]

    def say(self, minutes: float, sensor: Sensor, **fields: Any) -> None:
        """An event of a sensor, so long after the start, in its own name and place."""
        self.subjects.append(sensor.key)
        at = self.start + _ms(minutes)
        self.script.append(Scripted(at, sensor.topic, sensor.key, sensor.place, {**sensor.fields, **fields}))

    def on_road(self, minutes: float, sensor: Sensor, category: str, **fields: Any) -> None:
        """The traffic police say this of the incident, at the place of a road's detector."""
        name = f"tn-{self.id}"
        self.subjects.append(name)
        said = {"incident_id": name, "category": category, **fields}
        self.script.append(Scripted(self.start + _ms(minutes), c.INCIDENT, name, sensor.place, said))

    def reports(self, count: int, code: str, at: Sensor, first_min: float, last_min: float) -> None:
        """Citizens report it from nearby, and are told when it is over."""
        for _ in range(count):
            self.reported += 1
            name = f"pa-{self.id}-{self.reported}"
            self.subjects.append(name)
            when = self.start + _ms(self.rng.uniform(first_min, last_min))
            for moment, status in ((when, "open"), (max(self.end, when + _ms(1)), "closed")):
                said = report(code, name, when, status=status)
                self.script.append(Scripted(moment, c.REPORT, name, at.place, said))

    def patients(
        self, count: int, hospital: str, syndrome: str, triage: Sequence[int], span: tuple[float, float]
    ) -> None:
        """People arrive at an emergency department between two minutes after the start."""
        here = self.city.by_key[c.ADT, hospital]
        age = "5-17" if hospital == "san-nhi" else "18-64"
        for _ in range(count):
            said = movement(self.rng, "register", syndrome, self.rng.choice(triage), age)
            self.say(self.rng.uniform(*span), here, **said)


def _ms(minutes: float) -> Micros:
    """Whole milliseconds of some minutes."""
    return round(minutes * 60_000) * 1000


# --- the kinds ------------------------------------------------------------------------------------------------------


def _crash(it: Incident, where: Sensor | None = None, first_min: float = 1.5) -> None:
    """Flow falls, and on the road behind too; camera, police, citizens and a hospital see it in their own ways."""
    rng, here = it.rng, where or it.rng.choice(it.city.by_topic[c.FLOW])
    it.lasts(35, 90)
    injured = rng.choices((0, 1, 2, 4, 7), (4, 3, 2, 1, 1))[0] if where is None else 6
    blocked = where is not None or rng.random() < 0.65
    _slow(it, here, 2, blocked=blocked)
    behind = it.city.by_key.get((c.FLOW, f"hl-{here.traits['road']}-{here.traits['n'] + 1}"))
    if behind is not None:
        _slow(it, behind, 6, blocked=blocked and rng.random() < 0.6)
    _routes(it, here.traits["road"], 2.0)
    known = injured if injured < 3 or where is not None else 2  # how many there are is mostly seen later
    it.on_road(first_min, here, "collision", injured=known)
    if known < injured:
        it.on_road(first_min + 5, here, "collision", injured=injured)
    it.on_road((it.end - it.start) / MINUTE, here, "collision", injured=injured, status="closed")
    camera = it.city.near(c.CAMERA, here.at)
    for n in range(3):
        it.say(
            first_min + 0.2 + 2 * n,
            camera,
            kind="loitering",
            object_class="vehicle",
            active=True,
            confidence=0.8,
        )
    it.reports(1, "tai-nan", here, first_min + 0.1, first_min + 0.4)
    it.reports(rng.randint(1, 4), "tai-nan", here, first_min + 0.5, 15)
    if injured:
        hospital = it.city.near(c.ADT, here.at).key
        it.patients(injured, hospital, "injury", (1, 2, 3) if injured > 3 else (2, 3), (18, 35))
        it.draw(it.city.by_key[c.QUEUE, hospital], 10, delay_min=18, waiting=16 + 2.0 * injured)


def _slow(it: Incident, segment: Sensor, after_min: float, *, blocked: bool) -> None:
    speed, busy = (
        (it.rng.uniform(1.5, 7), it.rng.uniform(84, 96)) if blocked else (it.rng.uniform(11, 18), 60.0)
    )
    it.draw(segment, 2, delay_min=after_min, speed_kmh=speed, occupancy_pct=busy, intensity_vehh=250)


def _routes(it: Incident, road: str, factor: float) -> None:
    for route in it.city.by_topic[c.TRAVEL]:
        if road in route.traits["over"]:
            it.draw(route, 10, travel_time_s=factor * 3600 * route.traits["km"] / 30)


def _obstruction(it: Incident) -> None:
    """A tree or a slope came down; half of the road is left."""
    here = it.rng.choice(it.city.by_topic[c.FLOW])
    it.lasts(40, 120)
    _slow(it, here, 3, blocked=it.rng.random() < 0.4)
    it.sky(20, rain_mmh=6)
    it.on_road(it.rng.uniform(3, 10), here, "obstruction", injured=0)
    it.on_road((it.end - it.start) / MINUTE, here, "obstruction", injured=0, status="closed")
    it.reports(it.rng.randint(1, 3), "tai-nan", here, 2, 15)


def _haze(it: Incident) -> None:
    """Smoke lies over the city: stations see it, windows are shut, people cough and complain."""
    it.lasts(300, 600)
    level = it.rng.uniform(65, 190)
    it.sky(60, haze_ugm3=level * 0.6)
    for station in it.city.by_topic[c.AIR]:
        pm25 = level * it.rng.uniform(0.85, 1.1)
        it.draw(station, 60, pm25_ugm3=pm25, pm10_ugm3=1.5 * pm25)
    here = it.city.by_topic[c.REPORT][it.rng.randrange(3)]
    it.reports(it.rng.randint(3, 7), "khoi-bui", here, 40, 240)
    it.patients(it.rng.randint(4, 9), "dk-tinh", "respiratory", (2, 3, 4), (90, 300))


def _flood(it: Incident) -> None:
    """Heavy rain on a high tide: the gauge, the coast roads and the citizens tell of it."""
    top = high_water(local(it.start).day)
    it.start = max(midnight(local(it.start).day), top - 2 * HOUR)
    it.lasts(240, 300)
    it.sky(30, rain_mmh=it.rng.uniform(20, 45))
    gauge = it.city.by_topic[c.WATER][0]
    it.draw(gauge, 70, level_m=max(tide_m(top) + 0.5, it.rng.uniform(3.9, 4.9)))
    coast = [s for s in it.city.by_topic[c.FLOW] if s.traits["coastal"]]
    for segment in it.rng.sample(coast, min(4, len(coast))):
        _slow(it, segment, 60, blocked=it.rng.random() < 0.5)
    first = it.rng.choice(coast)
    it.reports(it.rng.randint(4, 8), "thoat-nuoc", first, 50, 180)
    it.on_road(75, first, "closure", injured=0)
    it.on_road((it.end - it.start) / MINUTE, first, "closure", injured=0, status="closed")


def _crowd(it: Incident) -> None:
    """More people at one place than there is room for."""
    busy = [s for s in it.city.by_topic[c.COUNT] if s.traits["crowd"] >= 100]
    here = it.rng.choice(busy)
    it.lasts(40, 120)
    it.draw(here, 10, count=it.rng.uniform(200, 650))
    for other in busy:
        if other.traits["site"] == here.traits["site"] and other.key != here.key:
            it.draw(other, 15, count=it.rng.uniform(150, 400))
    it.reports(it.rng.randint(0, 2), "do-xe", here, 10, 40)


def _abandoned(it: Incident) -> None:
    """Something is left behind; the camera says so again and again, people keep away."""
    here = it.rng.choice([s for s in it.city.by_topic[c.CAMERA] if s.traits["crowd"]])
    it.lasts(15, 45)
    thing = str(it.rng.randrange(100_000, 200_000))
    sure = it.rng.uniform(0.5, 0.95)
    for n in range(3):
        said = {"object_id": thing, "object_class": "other", "confidence": round(sure + 0.01 * n, 2)}
        it.say(0.5 + 4 * n, here, kind="object_abandoned", active=True, **said)
    it.draw(it.city.by_key[c.COUNT, here.key], 3, delay_min=3, count=12)
    it.reports(it.rng.choice((0, 0, 1)), "trat-tu", here, 3, 10)


def _vandal(it: Incident) -> None:
    """A hand over the lens."""
    here = it.rng.choice(it.city.by_topic[c.CAMERA])
    it.lasts(10, 30)
    it.say(0.5, here, kind="tamper", active=True)
    it.say((it.end - it.start) / MINUTE, here, kind="tamper", active=False)


def _brawl(it: Incident) -> None:
    """People fight; others telephone."""
    here = it.rng.choice([s for s in it.city.by_topic[c.CAMERA] if s.traits["crowd"]])
    it.lasts(20, 60)
    for n in range(4):
        it.say(0.3 + 1.5 * n, here, kind="loitering", object_class="person", active=True, confidence=0.7)
    it.reports(it.rng.randint(1, 3), "trat-tu", here, 1, 8)
    it.patients(it.rng.randint(0, 2), "dk-tinh", "injury", (2, 3), (25, 50))


def _overload(it: Incident) -> None:
    """More patients than an emergency department can see."""
    hospital = it.rng.choice(it.city.by_topic[c.QUEUE])
    it.lasts(120, 270)
    beds = it.city.by_key[c.BEDS, f"{hospital.key}/ed"]
    it.draw(beds, 30, beds_occupied=beds.traits["beds"] * it.rng.uniform(0.9, 1.12))
    urgent, full = it.rng.uniform(4, 9), float(it.rng.random() < 0.4)
    wait = it.rng.uniform(90, 190)
    it.draw(hospital, 30, waiting=35, waiting_urgent=urgent, wait_p90_min=wait, diverting=full)
    it.patients(it.rng.randint(10, 20), hospital.key, "respiratory", (2, 3, 3, 4), (0, 90))


def _fever(it: Incident) -> None:
    """Children of one school stay at home, and some come to the paediatric hospital."""
    school = it.rng.choice(it.city.by_topic[c.ROLL])
    it.end = it.start + 11 * HOUR
    it.draw(school, 0, present=school.traits["pupils"] * (1 - it.rng.uniform(0.22, 0.5)))
    it.patients(it.rng.randint(8, 16), "san-nhi", "fever", (3, 3, 4), (60, 600))


def _stale(it: Incident) -> None:
    """A classroom's ventilation fails."""
    room = it.rng.choice(it.city.by_topic[c.ROOM])
    it.lasts(60, 120)
    it.draw(room, 10, co2_ppm=it.rng.uniform(1300, 3600))


# --- everyday things that look like incidents and are none ----------------------------------------------------------


def _standstill(it: Incident) -> None:
    """The rush hour, a school's gate, a level crossing: some minutes, and gone."""
    here = it.rng.choice([s for s in it.city.by_topic[c.FLOW] if s.traits["rhythm"] == "city"])
    it.lasts(4, 9)
    it.draw(here, 1, speed_kmh=it.rng.uniform(4, 9), occupancy_pct=it.rng.uniform(80, 92))


def _coaches(it: Incident) -> None:
    """Coaches unload."""
    here = it.rng.choice([s for s in it.city.by_topic[c.COUNT] if s.traits["crowd"] >= 100])
    it.lasts(4, 9)
    it.draw(here, 1, count=it.rng.uniform(240, 320))


def _luggage(it: Incident) -> None:
    """A bag whose owner comes back."""
    here = it.rng.choice([s for s in it.city.by_topic[c.CAMERA] if s.traits["crowd"]])
    it.lasts(2, 4)
    it.say(1, here, kind="object_abandoned", object_class="other", active=True, confidence=0.7)


def _cleaning(it: Incident) -> None:
    """Somebody wipes a lens."""
    here = it.rng.choice(it.city.by_topic[c.CAMERA])
    it.lasts(1, 3)
    it.say(0.5, here, kind="tamper", active=True)


class Kind(NamedTuple):
    """A row of the plan: how often a weekday and a day of the weekend, within which local hours, and who should tell.

    What nobody should be told of has no rules, and no place in the truth: an alarm of it is a false one.
    """

    name: str
    build: Callable[[Incident], None]
    weekday: float
    weekend: float
    hours: tuple[float, float]
    rules: tuple[str, ...]
    schooldays: bool = False


# fmt: off
KINDS = (
    Kind("crash", _crash, 3, 3, (5.5, 22), ("road-jammed", "incident-with-injured", "incident-grave", "ed-red-triage-cluster")),
    Kind("obstruction", _obstruction, 1.5, 1.5, (0, 23), ("road-closed", "road-jammed")),
    Kind("haze", _haze, 0.6, 0.6, (3, 12), ("air-unhealthy",)),
    Kind("flood", _flood, 0.5, 0.5, (11.9, 12.1), ("water-high", "road-jammed", "road-closed")),
    Kind("crowd", _crowd, 1, 3, (9, 20), ("crowd-dense",)),
    Kind("abandoned-object", _abandoned, 1.5, 2, (7, 22), ("camera-object-abandoned", "citizen-report-security")),
    Kind("camera-covered", _vandal, 0.6, 0.6, (0, 23), ("camera-tampered",)),
    Kind("brawl", _brawl, 0.7, 1.5, (17, 23.5), ("citizen-report-security",)),
    Kind("ed-overload", _overload, 1.2, 1.2, (8, 19), ("ed-crowded", "ed-urgent-waiting", "ed-wait-long", "ed-diverting")),
    Kind("fever-in-school", _fever, 0.7, 0, (6, 6.5), ("school-absence-high",), schooldays=True),
    Kind("stale-air", _stale, 1, 0, (7.5, 14), ("school-room-stale-air",), schooldays=True),
    Kind("standstill", _standstill, 6, 4, (6.5, 19), ()),
    Kind("coaches", _coaches, 2, 5, (8, 18), ()),
    Kind("luggage", _luggage, 0.6, 1, (7, 22), ()),
    Kind("cleaning", _cleaning, 0.4, 0.1, (8, 16), ()),
)
# fmt: on

_BY_NAME = {kind.name: kind for kind in KINDS}

#: The tide must be near its springs for rain to make a flood of it.
_FLOOD_TIDE_M = 3.0


def plan(seed: int, city: City, day: int) -> list[Incident]:
    """The incidents of a local day, in order of time. A day's plan depends on no other day's."""
    rng = Random(f"incidents/{seed}/{day}")  # noqa: S311 - a simulation, the same for the same seed
    weekend = local(midnight(day)).weekend
    found: list[Incident] = []
    for kind in KINDS:
        mean = kind.weekend if weekend else kind.weekday
        count = int(mean) + (rng.random() < mean % 1)
        if (kind.schooldays and not school_day(day)) or (
            kind.name == "flood" and tide_m(high_water(day)) < _FLOOD_TIDE_M
        ):
            count = 0
        for n in range(count):
            start = midnight(day) + round(rng.uniform(*kind.hours) * 3600) * SECOND
            found.append(_build(kind, f"{kind.name}-{day}-{n + 1}", start, city, Random(rng.getrandbits(64))))  # noqa: S311
    return sorted(found, key=lambda it: (it.start, it.id))


def staged(seed: int, city: City, start: Micros) -> Incident:
    """The grave crash on Bãi Cháy bridge that a simulation begins with, so that nobody waits for a first alarm."""
    kind, name = _BY_NAME["crash"], f"crash-staged-{start // SECOND}"
    it = Incident(name, kind.name, kind.rules, start + SECOND // 2, city, Random(f"staged/{seed}"))  # noqa: S311
    _crash(it, city.by_key[c.FLOW, "hl-cau-bai-chay-1"], first_min=0.5 / 60)
    it.script = [said._replace(sure=True) for said in it.script]
    return it


def _build(kind: Kind, name: str, start: Micros, city: City, rng: Random) -> Incident:
    it = Incident(name, kind.name, kind.rules, start, city, rng)
    kind.build(it)
    return it
