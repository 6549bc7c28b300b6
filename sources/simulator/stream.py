"""The city as one stream of records in the order of their stamps: a pure function of seed, start and load."""

from __future__ import annotations

import heapq
from datetime import timedelta
from itertools import count
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from models.base import moment
from models.catalogue import event_of, topics
from sources.simulator import city as c
from sources.simulator import faults, incidents
from sources.simulator.incidents import SKY, Truth
from sources.simulator.rhythm import HOUR, Weather, local, midnight, weather
from sources.simulator.sensors import MINUTE, MS, OPEN_H, SECOND, WHAT, WHEN, finish, voice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.base import Micros, Place
    from sources.simulator.faults import Fault
    from sources.simulator.incidents import Effect, Scripted
    from sources.simulator.sensors import Fields, Voice


_Ending = TypeVar("_Ending", "Effect", "Fault")

#: Within so long every sensor that speaks at intervals has said what it measures, as devices do when they are connected.
FIRST_WORD_MS = 8_000


class Sent(NamedTuple):
    """One record as it reaches the log. `value` may be broken; `flaw` says what was done to it on the way.

    `late_us` is how long before the stamp it was observed. A doubled event has the event id of the first.
    """

    stamp_us: Micros
    topic: str
    key: bytes
    value: bytes
    event_id: str
    observed_us: Micros
    flaw: str | None = None

    @property
    def late_us(self) -> Micros:
        return self.stamp_us - self.observed_us


def events(
    seed: int, start: Micros, until: Micros | None, load: float = 1.0, shift_us: Micros = 0
) -> Iterator[Sent]:
    """What the city's sensors send between `start` and `until` (None: without end), in the order of stamps.

    The same arguments give the same bytes, on any machine and in any process. Memory is bounded by the city and by
    what a day holds, not by the length of the run. `shift_us` moves every time in the records, and nothing else.
    """
    return (item for item in simulate(seed, start, until, load, shift_us) if isinstance(item, Sent))


def truth(seed: int, start: Micros, until: Micros, load: float = 1.0) -> list[Truth]:
    """What happens in that time, by start."""
    plans = _Plans(seed, start - start % MS, load)
    found: list[Truth] = [incidents.staged(seed, plans.city, plans.start).truth]
    for day in range(local(start).day, local(until).day + 1):
        found += [it.truth for it in plans.incidents(day) if it.rules] + [
            it.truth for it in plans.faults(day)
        ]
    return sorted((t for t in found if t.start < until), key=lambda t: (t.start, t.id))


def simulate(
    seed: int,
    start: Micros,
    until: Micros | None,
    load: float = 1.0,
    shift_us: Micros = 0,
    *,
    stage: bool = True,
) -> Iterator[Sent | Truth]:
    """As `events`, with each `Truth` where it begins: before anything that it causes. `stage`: begin with an incident."""
    return _Run(seed, start - start % MS, until, load, shift_us, stage=stage).items()


class _Plans:
    """What will happen on a day, without what was over before the simulation began."""

    def __init__(self, seed: int, start: Micros, load: float) -> None:
        self.seed, self.start, self.city = seed, start, c.city(load)

    def incidents(self, day: int) -> list[incidents.Incident]:
        return [it for it in incidents.plan(self.seed, self.city, day) if it.start >= self.start]

    def faults(self, day: int) -> list[Fault]:
        return [it for it in faults.plan(self.seed, self.city, day) if it.start >= self.start]


class _Run:
    """One run. `due` holds what will speak next, by true time; `line` what was said and has not yet arrived."""

    def __init__(
        self,
        seed: int,
        start: Micros,
        until: Micros | None,
        load: float,
        shift_us: Micros,
        *,
        stage: bool = True,
    ) -> None:
        self.seed, self.until, self.shift = seed, until, shift_us
        self.plans = _Plans(seed, start, load)
        self.line_rng = Random(f"line/{seed}")  # noqa: S311 - a simulation, the same for the same seed
        self.order = count()
        self.due: list[tuple[Micros, int, Voice | Scripted | Truth | int]] = []
        self.line: list[tuple[Micros, int, Sent]] = []
        self.effects: dict[tuple[str, str], list[Effect]] = {}
        self.faulty: dict[tuple[str, str], list[Fault]] = {}
        self._begin(start, stage=stage)

    def _begin(self, start: Micros, *, stage: bool) -> None:
        for sensor in self.plans.city.sensors:
            who = voice(self.seed, sensor)
            # What speaks at intervals says its value when it is switched on, not only an hour later.
            first = (
                start + who.rng.randrange(FIRST_WORD_MS) * MS
                if sensor.every_s
                else WHEN[sensor.topic](who, start)
            )
            self._at(first, who)
        if stage:
            self._happens(incidents.staged(self.seed, self.plans.city, start))
        self._at(start, local(start).day)

    def _at(self, at: Micros, thing: Voice | Scripted | Truth | int) -> None:
        heapq.heappush(self.due, (at, next(self.order), thing))

    def items(self) -> Iterator[Sent | Truth]:
        while True:
            at, _, thing = self.due[0]
            # Nothing said from now on can arrive before now, so what has arrived by now is complete.
            edge = at if self.until is None else min(at, self.until)
            while self.line and self.line[0][0] < edge:
                yield heapq.heappop(self.line)[2]
            if edge == self.until:
                return
            heapq.heappop(self.due)
            if isinstance(thing, Truth):
                yield thing._replace(start=thing.start + self.shift, end=thing.end + self.shift)
            elif isinstance(thing, int):
                self._plan(thing)
            elif isinstance(thing, incidents.Scripted):
                self._scripted(at, thing)
            else:
                self._speaks(at, thing)

    # --- what happens -----------------------------------------------------------------------------------------------

    def _plan(self, day: int) -> None:
        """Take up a day: forget what ended, learn what comes, wait for the next."""
        begin = midnight(day)
        _forget(self.effects, begin)
        _forget(self.faulty, begin)
        for incident in self.plans.incidents(day):
            self._happens(incident)
        for fault in self.plans.faults(day):
            self._at(fault.start, fault.truth)
            for sensor in fault.sensors:
                self.faulty.setdefault(sensor, []).append(fault)
            for scripted in fault.script:
                self._at(scripted.at, scripted)
        self._at(midnight(day + 1), day + 1)

    def _happens(self, incident: incidents.Incident) -> None:
        if incident.rules:
            self._at(incident.start, incident.truth)
        for effect in incident.effects:
            self.effects.setdefault((effect.topic, effect.key), []).append(effect)
        for scripted in incident.script:
            self._at(scripted.at, scripted)

    def _sky(self, at: Micros) -> Weather:
        sky = weather(self.seed, at - at % (5 * MINUTE))
        for effect in self.effects.get((SKY, SKY), ()):
            sky = sky._replace(**{effect.name: effect.on(getattr(sky, effect.name), at)})
        return sky

    # --- what is said of it -----------------------------------------------------------------------------------------

    def _speaks(self, at: Micros, who: Voice) -> None:
        sensor = who.sensor
        self._at(WHEN[sensor.topic](who, at), who)
        place = (sensor.topic, sensor.key)
        faulty = [it for it in self.faulty.get(place, ()) if it.start <= at < it.end]
        kinds = {it.kind for it in faulty}
        if kinds & _MUTE or any(it.kind == "gateway-dead" and not it.keeps for it in faulty):
            return
        fields = self._reading(at, who)
        if "stuck" in kinds and who.last is not None:
            fields = who.last
        who.last = fields
        observed, arrives, wrong = at, at, {}
        for it in faulty:
            if it.kind == "spike":
                wrong = finish(faults.spiked(fields, it.size))
            elif it.kind == "wrong-clock":
                observed = at + round(it.size)
            elif it.kind == "gateway-dead":
                arrives = max(arrives, it.end + who.rng.randrange(20_000) * MS)
        fields = {**sensor.fields, **finish(fields)}
        if sensor.topic in OPEN_H:
            fields = self._opened(at, who, fields)
        name = _id(sensor.topic, sensor.key, at)
        self._says(who.rng, name, sensor.topic, sensor.place, fields, observed, arrives, wrong)

    def _reading(self, at: Micros, who: Voice) -> Fields:
        fields = WHAT[who.sensor.topic](who, local(at), self._sky(at))
        for effect in self.effects.get((who.sensor.topic, who.sensor.key), ()):
            if effect.name in fields:
                fields[effect.name] = effect.on(fields[effect.name], at)
        return fields

    def _opened(self, at: Micros, who: Voice, fields: Fields) -> Fields:
        """A name for what begins here, and its end some hours later."""
        name, prefix, least, most = OPEN_H[who.sensor.topic]
        called = {**fields, name: f"{prefix}-{who.sensor.key}-{at // MS:x}", "status": "open"}
        place = self._somewhere(who)
        if who.sensor.topic == c.REPORT:
            called["requested_at"] = moment(at)
        end = at + round(who.rng.uniform(least, most) * HOUR) // MS * MS
        self._at(
            end,
            incidents.Scripted(
                end, who.sensor.topic, str(called[name]), place, {**called, "status": "closed"}
            ),
        )
        return called

    def _somewhere(self, who: Voice) -> Place | None:
        roads = self.plans.city.by_topic[c.FLOW]
        return who.sensor.place or who.rng.choice(roads).place

    def _scripted(self, at: Micros, said: Scripted) -> None:
        muted = any(
            it.start < at < it.end and it.kind in ("gateway-dead", *_MUTE)
            for it in self.faulty.get((said.topic, said.key), ())
        )
        if not muted:
            name = _id(said.topic, said.key, at)
            self._says(self.line_rng, name, said.topic, said.place, said.fields, at, at, {}, sure=said.sure)

    def _says(
        self,
        rng: Random,
        name: str,
        topic: str,
        place: Place | None,
        fields: Fields,
        observed: Micros,
        leaves: Micros,
        wrong: Fields,
        *,
        sure: bool = False,
    ) -> None:
        """Make the event and put it on the line, with what happens to it there. `wrong` are values that cannot be."""
        event_class = event_of(topic)
        if self.shift and "requested_at" in fields:
            fields = {**fields, "requested_at": fields["requested_at"] + timedelta(microseconds=self.shift)}
        seen = observed + self.shift
        event = event_class(
            event_id=name, source_id="simulator", observed_at=moment(seen), place=place, **fields
        )
        if wrong:
            event = event.model_copy(update=wrong)  # which checks nothing
        key, value = event_class.topic.key_of(event).encode(), event.wire()
        arrives = leaves + (_LEAST_DELAY if sure else _delay(rng))
        flaw = None if sure else faults.flaw(rng)
        if flaw == "late":
            arrives += rng.randrange(20, 400) * SECOND
        elif flaw == "cut":
            value = value[: rng.randrange(1, len(value))]
        elif flaw == "wrong type":
            value = faults.wrong_type(value, rng)
        sent = Sent(arrives + self.shift, topic, key, value, name, seen, flaw)
        self._travels(sent)
        if flaw == "doubled":
            self._travels(sent._replace(stamp_us=sent.stamp_us + _delay(rng)))
        elif flaw == "contradicted" and event_class.topic.kind == "samples":
            other = f"{name}-b"
            value = event.model_copy(update={"event_id": other}).wire()
            self._travels(sent._replace(stamp_us=sent.stamp_us + _delay(rng), value=value, event_id=other))

    def _travels(self, sent: Sent) -> None:
        heapq.heappush(self.line, (sent.stamp_us - self.shift, next(self.order), sent))


def _forget(held: dict[tuple[str, str], list[_Ending]], before: Micros) -> None:
    """Drop what ended before a moment."""
    for key in [key for key, found in held.items() if all(it.end <= before for it in found)]:
        del held[key]
    for key, found in held.items():
        held[key] = [it for it in found if it.end > before]


#: Faults in which a sensor says nothing.
_MUTE = frozenset({"silent", "signal-loss"})


def _id(topic: str, key: str, at: Micros) -> str:
    """Who said it and when, by the true time: a wrong clock gives no two events one id."""
    return f"sim-{topics()[topic].measurement}-{key.replace('/', '.')}-{at // MS:x}"


_LEAST_DELAY = 80 * MS


def _delay(rng: Random) -> Micros:
    """From a tenth of a second to some seconds, as radio lines have it."""
    return min(8000 * MS, _LEAST_DELAY + round(rng.expovariate(1 / 350)) * MS)
