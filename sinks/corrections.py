"""An event has one point in InfluxDB, whatever its tags: which of those that stand there a batch takes away. Pure.

A series is its tags, and InfluxDB replaces within a series only. So an event that comes again with other tags is written
first; then what it was before is deleted, at its nanosecond.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from sinks import line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sinks.contract import Point
    from sinks.line import Place

#: Where events stand is asked for in so many spans at most, with so much between them: a statement costs as much as some
#: hundreds of rows, whether it finds any or not.
SPANS, APART_NS = 20, 600 * 10**9

#: Measurement, late, nanosecond, id.
Identity = tuple[str, bool, int, str]


class Standing(NamedTuple):
    """A point of an event as the server has it; `tags` with `late`, as InfluxDB sees it."""

    measurement: str
    tags: frozenset[tuple[str, str]]
    ns: int
    event_id: str
    revision: int

    @property
    def identity(self) -> Identity:
        return self.measurement, ("late", "1") in self.tags, self.ns, self.event_id

    @property
    def place(self) -> Place:
        return line.series(self.measurement, tuple(self.tags), late=False), self.ns


def standing(point: Point) -> Standing:
    """An event's point as it will stand."""
    tags = frozenset((*point.tags, ("late", "1"))) if point.late else frozenset(point.tags)
    ns = line.ns_of(point.time, point.event_id)
    return Standing(point.measurement, tags, ns, point.event_id, point.revision)


def statements(events: Iterable[Standing]) -> list[str]:
    """What asks for all that may stand where these events will, and for some that stand between."""
    times: dict[str, set[int]] = {}
    for event in events:
        times.setdefault(event.measurement, set()).add(event.ns)
    return [
        f'SELECT "{line.EVENT_ID}"::field, "{line.REVISION}"::field FROM "{measurement}"'  # noqa: S608 - a checked name
        f" WHERE time >= {first} AND time <= {last} GROUP BY *"
        for measurement, of in times.items()
        for first, last in spans(of)
    ]


def spans(times: Iterable[int], most: int = SPANS) -> list[tuple[int, int]]:
    """(first, last) of groups of times, cut where nothing is for longest."""
    ordered = sorted(times)
    apart = [n for n in range(1, len(ordered)) if ordered[n] - ordered[n - 1] > APART_NS]
    widest = sorted(apart, key=lambda n: ordered[n - 1] - ordered[n])[: most - 1]
    cuts = [0, *sorted(widest), len(ordered)]
    return [(ordered[start], ordered[end - 1]) for start, end in pairwise(cuts)]


def settle(
    events: dict[Identity, Standing], there: Mapping[tuple[str, int], Iterable[Standing]]
) -> dict[Identity, list[Standing]]:
    """Leave out the events that are there in a greater revision; of the others what each was when it had other tags."""
    gone: dict[Identity, list[Standing]] = {}
    for identity, event in list(events.items()):
        same = [one for one in there[event.measurement, event.ns] if one.identity == identity]
        if any(one.revision > event.revision for one in same):
            del events[identity]
        elif others := [one for one in same if one.tags != event.tags]:
            gone[identity] = others
    return gone


def predicate(gone: Standing) -> str:
    """What the server deletes at the nanosecond: there is no way to say that a tag is absent, so what has more goes too."""
    named = [
        f'"{name}"="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in sorted(gone.tags)
    ]
    return " AND ".join([f'_measurement="{gone.measurement}"', *named])


def takes_more(gone: Iterable[Standing], stay: Iterable[Standing]) -> set[tuple[str, int]]:
    """Measurements and nanoseconds where these deletions take what is to stay, too."""
    tags: dict[tuple[str, int], list[frozenset[tuple[str, str]]]] = {}
    for one in gone:
        tags.setdefault((one.measurement, one.ns), []).append(one.tags)
    return {
        (one.measurement, one.ns)
        for one in (stay if tags else ())
        if any(of < one.tags for of in tags.get((one.measurement, one.ns), ()))
    }
