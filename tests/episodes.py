"""Drawn episodes: small rules of one kind, what a few subjects observed around their bounds, and how that was delivered.

An episode is a function of its kind and its seed. Its deliveries carry the same events in other orders; what is late in one
is late in all.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from models.base import Event, micros, moment
from models.camera import CameraCount, CameraEvent
from models.citizen import CitizenReport
from models.traffic import TrafficFlow
from rules.calendar import DAY, OFFSET
from rules.spec import RuleSet
from rules.terms import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = 1_000_000
#: 07:00 on a Thursday in the city, and the beginning of a pane of any length that is drawn.
T0 = 1_767_225_600 * S
KINDS = ("threshold", "rate", "count", "distinct", "ratio", "absence", "schedule", "event", "baseline")

TICK, REJECTED, RULES = "tick", "rejected", "rules"


class Delivery(NamedTuple):
    """A record: an event, or a word. `stamp` is when it was appended to its log."""

    stamp: int
    what: Event | str


class Said(NamedTuple):
    """A version of the rules: appended at `stamp`, in force from `since`."""

    stamp: int
    since: int
    rules: RuleSet


class Episode(NamedTuple):
    kind: str
    seed: int
    versions: tuple[Said, ...]
    event: type[Event]
    until: int
    orders: tuple[tuple[Delivery, ...], ...]
    #: Subjects of which two ids said something of one moment: their ledger depends on the order of the log.
    contradicted: frozenset[str]


def episode(kind: str, seed: int, orders: int = 2) -> Episode:
    """The episode of this kind and seed."""
    r = Random(f"{kind} {seed}")
    rule, event = _RULES[kind](r)
    observed = list(_observed(r, kind, event))
    contradicted = frozenset(event.topic.key_of(e) for e in _contradicting(r, observed))
    last = max([T0, *(micros(e.observed_at) for e in observed)])
    until = last + event.topic.late_us + r.choice([700, 1000, 2000]) * S
    versions = tuple(_versions(r, kind, rule, event, last))
    late = {id(e) for e in observed if r.random() < 0.07}
    made = tuple(_delivered(r, versions, observed, late, event.topic.late_us, until) for _ in range(orders))
    return Episode(kind, seed, versions, event, until, made, contradicted)


# --- versions of the rules --------------------------------------------------------------------------------------------


def _versions(r: Random, kind: str, rule: dict[str, Any], event: type[Event], last: int) -> Iterator[Said]:
    """Mostly one; else others follow, in which rules are changed, gone, new, or as they were.

    A version is never in force from a moment at which anything else can happen: whether that comes before or after is not
    what is asked here.
    """
    sensors = _sensors(r, kind, event)
    calendars = _calendars(r, kind)
    rules = [rule, *(_another(r, event) for _ in range(r.choice([0, 0, 0, 1, 2])))]
    named = [_named(r, f"drawn-{n}", said, event) for n, said in enumerate(rules)]
    said, since = T0, T0 + r.choice([0, 0, 60, 100]) * S
    for n in range(r.choice([1, 1, 1, 2, 3])):
        if n:
            said = r.randint(said, max(said, since, last))
            since = max(since, said) + r.choice([0, 0, 30, 100]) * S + S // 2
            named = [said for rule in named for said in _changed(r, rule, event)]
            if r.random() < 0.2:
                named.append(_named(r, f"drawn-{n + 5}", _another(r, event), event))
            if r.random() < 0.3:
                sensors = _serviced(r, kind, sensors)
            if r.random() < 0.15:
                calendars = _calendars(r, kind)
        yield Said(said, since, _rules(event, named, calendars, sensors))


def _another(r: Random, event: type[Event]) -> dict[str, Any]:
    """A further rule on the same topic, of any kind."""
    while True:
        rule, on = _RULES[r.choice(KINDS)](r)
        if on is event:
            return rule


def _named(r: Random, name: str, rule: dict[str, Any], event: type[Event]) -> dict[str, Any]:
    whole = {"id": name, "on": event.topic.name, "by": list(event.topic.key), **rule}
    if rule["kind"] == "schedule" or r.random() < 0.25:
        whole["during"] = "hours"
    if r.random() < 0.1:
        whole["tell"] = False
    if rule["kind"] != "absence" and r.random() < 0.15:
        key = event.topic.key[0]
        chosen = r.choice([f"{key} == 'a'", f"{key} in ('b', 'c')"])
        whole["where"] = f"{chosen} and ({rule['where']})" if "where" in rule else chosen
    return whole


def _changed(r: Random, rule: dict[str, Any], event: type[Event]) -> Iterator[dict[str, Any]]:
    """The rule in the next version: the same, another of its kind, one that is told or not told, or none."""
    what = r.choice(["same", "same", "other", "tell", "gone"])
    if rule["kind"] == "baseline" and what == "other":
        yield rule | {"raise": r.choice([0.5, 0.6, 0.75])}
    elif what == "other":
        on = None
        while on is not event:
            other, on = _RULES[rule["kind"]](r)
        other = _named(r, rule["id"], other, event)
        yield other
    elif what == "tell":
        yield rule | {"tell": not rule.get("tell", True)}
    elif what != "gone":
        yield rule


# --- rules ----------------------------------------------------------------------------------------------------------


def _lasting(r: Random, *seconds: int) -> str:
    return duration_text(r.choice(seconds) * S)


def _levels(r: Random, draw: Callable[[int], dict[str, str]], most: int = 3) -> list[dict[str, Any]]:
    """One to `most` levels, worst first mostly; `draw` gives the bounds of the n-th."""
    n = r.randint(1, most)
    priorities = sorted(r.sample(["P1", "P2", "P3", "P4"], n))
    levels = []
    for i, priority in enumerate(priorities):
        level = {"priority": priority, **draw(i)}
        if r.random() < 0.6:
            level["keep"] = _lasting(r, 0, 5, 10, 30, 60)
        levels.append(level)
    if r.random() < 0.1:
        r.shuffle(levels)
    return levels


def _for(r: Random) -> dict[str, str]:
    return {"for": _lasting(r, 0, 5, 20, 30, 60)} if r.random() < 0.6 else {}


def _threshold(r: Random) -> tuple[dict[str, Any], type[Event]]:
    rising = r.random() < 0.4

    def draw(i: int) -> dict[str, str]:
        if rising:
            said = {"raise": f"speed_kmh > {(40, 30, 20)[i]}"}
            clear = f"speed_kmh < {(30, 20, 12)[i]}"
        else:
            said = {"raise": f"speed_kmh < {(4, 10, 20)[i]}"}
            clear = f"speed_kmh > {(10, 12, 20)[i]}"
        if r.random() < 0.2:
            said["raise"] += r.choice([" and occupancy_pct >= 50", " or occupancy_pct >= 95"])
        return said | _for(r) | ({"clear": clear} if r.random() < 0.6 else {})

    where = {"where": "occupancy_pct < 90 or occupancy_pct is None"} if r.random() < 0.2 else {}
    return {"kind": "threshold", "levels": _levels(r, draw), **where}, TrafficFlow


def _rate(r: Random) -> tuple[dict[str, Any], type[Event]]:
    event, of = r.choice([(TrafficFlow, "speed_kmh"), (CameraCount, "count")])
    rising = r.random() < 0.5
    sign = "" if rising else "-"

    def draw(i: int) -> dict[str, str]:
        bound, clear = (30, 15, 6)[i], (20, 6, 0)[i]
        said = {"raise": f"rate {'>' if rising else '<'} {sign}{bound}"}
        if r.random() < 0.2:
            said["raise"] += f" and {of} > 3"
        if r.random() < 0.6:
            said["clear"] = f"rate {'<' if rising else '>'} {sign}{clear}"
        return said | _for(r)

    where = {"where": f"{of} < 45"} if r.random() < 0.2 else {}
    over = {"over": _lasting(r, 20, 30, 60, 120, 300), "per": r.choice(["1m", "100s"])}
    return {"kind": "rate", "of": of, **over, "levels": _levels(r, draw), **where}, event


def _bounds(r: Random, word: str, most: int) -> Callable[[int], dict[str, str]]:
    at = sorted(r.sample(range(1, most + 1), 3), reverse=True)

    def draw(i: int) -> dict[str, str]:
        said = {"raise": f"{word} >= {at[i]}"}
        if r.random() < 0.6:
            said["clear"] = f"{word} < {r.randint(1, at[i])}"
        return said

    return draw


def _count(r: Random) -> tuple[dict[str, Any], type[Event]]:
    event, where = r.choice(
        [
            (TrafficFlow, "speed_kmh > 12"),
            (TrafficFlow, None),
            (CameraEvent, "kind == 'tamper'"),
            (CameraEvent, "confidence > 0.5"),
        ]
    )
    chosen = {} if where is None else {"where": where}
    levels = _levels(r, _bounds(r, "count", 6))
    return {"kind": "count", "window": _lasting(r, 20, 60, 120, 300), "levels": levels, **chosen}, event


def _distinct(r: Random) -> tuple[dict[str, Any], type[Event]]:
    event, of = r.choice([(CameraEvent, "zone"), (CameraEvent, "kind"), (TrafficFlow, "speed_kmh")])
    where = {"where": "confidence > 0.5"} if event is CameraEvent and r.random() < 0.3 else {}
    levels = _levels(r, _bounds(r, "distinct", 4))
    window = _lasting(r, 20, 60, 120, 300)
    return {"kind": "distinct", "of": of, "window": window, "levels": levels, **where}, event


def _ratio(r: Random) -> tuple[dict[str, Any], type[Event]]:
    event, of, where = r.choice(
        [
            (TrafficFlow, "speed_kmh < 10", None),
            (TrafficFlow, "speed_kmh < 20", "occupancy_pct < 90"),
            (CameraEvent, "active", None),
            (CameraEvent, "confidence > 0.5", "kind != 'motion'"),
        ]
    )
    rising = r.random() < 0.7

    def draw(i: int) -> dict[str, str]:
        bound, clear = ((0.9, 0.7, 0.5)[i], (0.6, 0.5, 0.3)[i])
        if rising:
            said = {"raise": f"ratio >= {bound}", "clear": f"ratio < {clear}"}
        else:
            said = {"raise": f"ratio <= {1 - bound:.1f}", "clear": f"ratio > {1 - clear:.1f}"}
        if r.random() < 0.4:
            del said["clear"]
        if r.random() < 0.2:
            said["raise"] += " and total >= 4"
        return said | _for(r)

    pane = r.choice([10, 30, 60])
    span = {"pane": f"{pane}s", "window": f"{pane * r.randint(1, 4)}s", "least": r.randint(1, 4)}
    chosen = {} if where is None else {"where": where}
    return {"kind": "ratio", "of": of, **span, "levels": _levels(r, draw), **chosen}, event


def _absence(r: Random) -> tuple[dict[str, Any], type[Event]]:
    said: dict[str, Any] = (
        {"after": _lasting(r, 20, 60, 90)} if r.random() < 0.5 else {"misses": r.randint(1, 3)}
    )
    if r.random() < 0.5:
        said["wait"] = _lasting(r, 0, 10, 60, 120)
    return {"kind": "absence", "priority": "P3", **said}, r.choice([TrafficFlow, CameraEvent])


def _schedule(r: Random) -> tuple[dict[str, Any], type[Event]]:
    where = {"where": "speed_kmh > 12"} if r.random() < 0.6 else {}
    return {"kind": "schedule", "due": _lasting(r, 30, 60, 120), "priority": "P4", **where}, TrafficFlow


def _happening(r: Random) -> tuple[dict[str, Any], type[Event]]:
    if r.random() < 0.25:
        said = {"raise": "status == 'open'", "clear": "status == 'closed'", "at": "due_at"}
        if r.random() < 0.6:
            said["before"] = _lasting(r, 0, 30, 60)
        return {"kind": "event", "priority": "P2", **said}, CitizenReport
    event, raised, clear = r.choice(
        [
            (TrafficFlow, "occupancy_pct >= 90", "occupancy_pct < 50"),
            (CameraEvent, "kind == 'tamper'", "kind == 'motion'"),
            (CameraEvent, "active", "not active"),
        ]
    )
    said = {"raise": raised} | ({"clear": clear} if r.random() < 0.6 else {})
    if r.random() < 0.7:
        said["keep"] = _lasting(r, 0, 5, 15, 60)
    where = {"where": "confidence > 0.3"} if event is CameraEvent and r.random() < 0.3 else {}
    return {"kind": "event", "priority": "P2", **said, **where}, event


def _baseline(r: Random) -> tuple[dict[str, Any], type[Event]]:
    said = {"of": "speed_kmh", "raise": r.choice([0.5, 0.6, 0.75]), "keep": _lasting(r, 15, 60, 3600)}
    if r.random() < 0.3:
        said["least"] = 5.0
    return {"kind": "baseline", **said}, TrafficFlow


_RULES: dict[str, Callable[[Random], tuple[dict[str, Any], type[Event]]]] = {
    "threshold": _threshold,
    "rate": _rate,
    "count": _count,
    "distinct": _distinct,
    "ratio": _ratio,
    "absence": _absence,
    "schedule": _schedule,
    "event": _happening,
    "baseline": _baseline,
}


def _rules(
    event: type[Event],
    named: list[dict[str, Any]],
    calendars: list[dict[str, Any]],
    sensors: list[dict[str, Any]],
) -> RuleSet:
    return RuleSet.model_validate({"rules": named, "calendars": calendars, "registry": {"sensors": sensors}})


def _sensors(r: Random, kind: str, event: type[Event]) -> list[dict[str, Any]]:
    """What the registry knows, some of it with planned maintenance."""
    least = 2 if kind in ("absence", "schedule") else 0
    found = []
    for key in r.sample(SUBJECTS, r.randint(least, 4)):
        sensor: dict[str, Any] = {"topic": event.topic.name, "key": key, "every": _lasting(r, 20, 30, 60)}
        if r.random() < 0.25:
            sensor["maintenance"] = list(_maintenance(r, kind))
        found.append(sensor)
    return found


def _serviced(r: Random, kind: str, sensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The registry of a later version: one is gone, or all have other maintenance, or none."""
    if sensors and r.random() < 0.4:
        return r.sample(sensors, len(sensors) - 1)
    found = []
    for sensor in sensors:
        planned = list(_maintenance(r, kind)) if r.random() < 0.4 else []
        found.append(sensor | {"maintenance": planned})
    return found


def _maintenance(r: Random, kind: str) -> Iterator[dict[str, Any]]:
    unit = 900 if kind == "baseline" else 5
    for _ in range(r.randint(1, 2)):
        begin = T0 + r.randint(-10, 110) * unit * S
        end = begin + r.randint(1, 40) * unit * S
        yield {"from": moment(begin), "to": moment(end), "why": "drawn"}


def _calendars(r: Random, kind: str) -> list[dict[str, Any]]:
    """Windows of some minutes, some of which follow on one another; for what takes days, of some hours."""
    if kind == "baseline":
        times = [r.choice(["06:00-18:00", "00:00-24:00", "22:00-05:00", "07:00-23:30"])]
    else:
        edges = sorted(r.sample(range(-3, 20), 2 * r.randint(1, 3)))
        times = [f"{_clock(a)}-{_clock(b)}" for a, b in zip(edges[::2], edges[1::2], strict=True)]
        if r.random() < 0.3:
            times.append(f"{_clock(edges[1])}-{_clock(edges[1] + 1)}")
    hours: dict[str, Any] = {"id": "hours", "times": times}
    calendars = [hours]
    if r.random() < 0.3:
        begin = r.randint(-2, 12)
        calendars.append({"id": "holidays", "times": [f"{_clock(begin)}-{_clock(begin + r.randint(1, 3))}"]})
        hours["except"] = ["holidays"]
    return calendars


def _clock(minutes: int) -> str:
    """So many minutes after the episode's beginning, as the city's clocks show it."""
    total = (T0 + OFFSET) % DAY // (60 * S) + minutes
    return f"{total // 60:02d}:{total % 60:02d}"


# --- what was observed -------------------------------------------------------------------------------------------------

SUBJECTS = ("a", "b", "c", "d", "e")


def _observed(r: Random, kind: str, event: type[Event]) -> Iterator[Event]:
    """What two to five subjects observed, with gaps, corrections included."""
    busy = r.choice([0.15, 0.5, 0.9])
    subjects = SUBJECTS[: 1 if kind == "baseline" else r.randint(2, 4)]
    for n, (key, t) in enumerate((k, t) for k in subjects for t in _times(r, kind, busy)):
        for sub in range(2 if event is CameraCount and r.random() < 0.5 else 1):
            again = 2 if event.topic.kind == "events" and r.random() < 0.15 else 1
            for copy in range(again):
                name = f"{r.randint(0, 999):03d}.{n}.{sub}.{copy}"
                yield from _said(r, kind, event, name, key, t, sub)


def _times(r: Random, kind: str, busy: float) -> list[int]:
    """Seconds, after the episode's beginning, at which a subject spoke."""
    if kind == "baseline":
        often = [15 * n for n in range(26) if r.random() < 0.75]
        return [burst * 17_100 + t for burst in sorted(r.sample(range(9), 7)) for t in often]
    step, end = r.choice([5, 5, 10]), r.choice([200, 400, 700])
    times = [t for t in range(0, end, step) if r.random() < busy]
    if r.random() < 0.4:
        gap = r.randint(0, end)
        times = [t for t in times if not gap <= t < gap + 120]
    return times[:24]


def _said(r: Random, kind: str, event: type[Event], name: str, key: str, t: int, sub: int) -> Iterator[Event]:
    """An event, and in some cases its corrections."""
    common = {"event_id": name, "source_id": "drawn", "observed_at": moment(T0 + t * S)}
    values = _VALUES[event](r, kind, t, sub)
    yield event(**common, **{event.topic.key[0]: key}, **values)
    revision = 0
    while r.random() < 0.1:
        revision += r.randint(1, 2)
        values = _VALUES[event](r, kind, t, sub)
        yield event(**common, **{event.topic.key[0]: key}, **values, revision=revision)


def _flow(r: Random, kind: str, t: int, _sub: int) -> dict[str, Any]:
    speed = r.choice([None, 2, 3, 4, 5, 8, 10, 12, 12, 15, 20, 30, 35, 50])
    if kind == "baseline":
        speed = 30 + r.randint(0, 9)
        if r.random() < (0.12 if t > 86_400 else 0.005):
            speed = r.choice([None, 0, 20, 45, 60, 100, 150])
    occupancy = r.choice([None, None, 5, 45, 60, 92, 97])
    return {
        "speed_kmh": None if speed is None else float(speed),
        "occupancy_pct": None if occupancy is None else float(occupancy),
    }


def _camera(r: Random, _kind: str, _t: int, _sub: int) -> dict[str, Any]:
    return {
        "kind": r.choice(["tamper", "motion", "loitering", "other"]),
        "active": r.choice([None, True, False]),
        "zone": r.choice([None, "n", "s", "w"]),
        "confidence": r.choice([None, 0.2, 0.4, 0.6, 0.9]),
    }


def _report(r: Random, _kind: str, t: int, _sub: int) -> dict[str, Any]:
    due = r.choice([None, t - 30, t, t + 10, t + 60, t + 60, t + 300])
    due_at = None if due is None else moment(T0 + due * S)
    return {"status": r.choice(["open", "open", "closed"]), "due_at": due_at}


def _crowd(r: Random, _kind: str, _t: int, sub: int) -> dict[str, Any]:
    return {"object_class": ("person", "car")[sub], "count": r.choice([None, 0, 2, 5, 5, 9, 20, 40])}


_VALUES: dict[type[Event], Callable[[Random, str, int, int], dict[str, Any]]] = {
    TrafficFlow: _flow,
    CameraEvent: _camera,
    CitizenReport: _report,
    CameraCount: _crowd,
}


def _contradicting(r: Random, observed: list[Event]) -> Iterator[Event]:
    """In one episode of six, further events that say of a moment under another id what was said already."""
    if not observed or observed[0].topic.kind == "events" or r.random() > 1 / 6:
        return
    for e in r.sample(observed, min(3, len(observed))):
        other = e.model_copy(update={"event_id": f"{r.randint(0, 999):03d}.x{len(observed)}", "revision": 0})
        observed.append(other)
        yield other


# --- how it was delivered -------------------------------------------------------------------------------------------------


def _delivered(
    r: Random, versions: tuple[Said, ...], observed: list[Event], late: set[int], lateness: int, until: int
) -> tuple[Delivery, ...]:
    """One order of arrival: shuffled within the lateness, some twice, in batches of some length; some too late."""
    batch = r.choice([1, 1, 5, 30]) * S
    most = r.choice([5 * S, lateness // 2, lateness])
    found = [(said.stamp, 0, Delivery(said.stamp, f"{RULES} {n}")) for n, said in enumerate(versions)]
    for e in observed:
        at = micros(e.observed_at)
        stamps = [_stamp(r, at, most, lateness, batch, late=id(e) in late)]
        while r.random() < 0.15:
            stamps.append(min(until, stamps[0] + r.randint(0, 2 * lateness)))
        found += [(s, r.randint(1, 9), Delivery(s, e)) for s in stamps]
    for _ in range(r.choice([0, 3, 12])):
        stamp = r.randint(T0, until)
        stamp -= stamp % (5 * S)
        found.append((stamp, r.randint(1, 9), Delivery(stamp, TICK if r.random() < 0.8 else REJECTED)))
    found.append((until, 10, Delivery(until, TICK)))
    return tuple(d for _, _, d in sorted(found, key=lambda f: f[:2]))


def _stamp(r: Random, at: int, most: int, lateness: int, batch: int, *, late: bool) -> int:
    """When an event was appended: a little ahead of its time, after it, at the very end of L, or later than that."""
    if late:
        return max(T0, at) + lateness + r.choice([1, S, 60 * S, 600 * S])
    edge = at + lateness
    if r.random() < 0.05:
        return edge
    stamp = at + (-r.randint(1, 60) * S if r.random() < 0.05 else r.randint(0, most // S) * S)
    return max(T0, min(edge, stamp + -stamp % batch))
