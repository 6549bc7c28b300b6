"""What alarms mean together, as functions of a set of them: who is near whom, how many at once, what covers what.

The law of this file: every answer is a function of the set of members, sorted by (start, fingerprint), and of nothing
else. Who came first, in which chunk and on which partition, is not in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import groupby
from math import asin, ceil, cos, radians, sin, sqrt
from typing import TYPE_CHECKING, NamedTuple

from models.base import Micros  # noqa: TC001 - msgspec reads a member's annotations when it is saved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

Labels = tuple[tuple[str, str], ...]

#: Mean radius of the earth (IUGG R1).
_EARTH_M = 6_371_008.8
#: No two places are nearer than their latitudes are: a degree is at least this long on the sphere.
_DEGREE_M = 111_194.0

#: A situation names at most this many alarms as evidence.
MAX_EVIDENCE = 50


class Member(NamedTuple):
    """One occurrence of an alarm, as its detector last said it: what rules over signals look at. They sort by time.

    `offset` is the record of the input log that said so: evidence names it, and nothing is decided by it.
    """

    start: Micros
    fingerprint: str
    alarm_id: str
    end: Micros | None
    rule: str
    topic: str
    labels: Labels
    lat: float | None
    lon: float | None
    ward: str | None
    site: str | None
    offset: int


class Found(NamedTuple):
    """A situation: of which group or anchor (`labels`), since when, and what made it one.

    `end` may lie ahead, where it is known already. `anchor` is the beginning of the first of `evidence`, by which it is
    known.
    """

    labels: Labels
    start: Micros
    end: Micros | None
    peak: int
    evidence: tuple[Member, ...]
    anchor: Micros


class Span(NamedTuple):
    """A time for which a member counts."""

    start: Micros
    end: Micros | None
    member: Member


class Cover(NamedTuple):
    """A time in which others are suppressed, and the alarm that is the reason."""

    start: Micros
    end: Micros | None
    by: str


# --- near -----------------------------------------------------------------------------------------------------------


def distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Metres between two places (latitude, longitude) by the haversine formula.

    The earth is no sphere: the answer is wrong by at most 0.6 %, of 500 m by 3 m.
    """
    lat_a, lat_b = radians(a[0]), radians(b[0])
    across = sin(radians(b[1] - a[1]) / 2) ** 2 * cos(lat_a) * cos(lat_b)
    return 2 * _EARTH_M * asin(min(1.0, sqrt(sin((lat_b - lat_a) / 2) ** 2 + across)))


def near(a: Member, b: Member, within_m: float) -> bool:
    """Whether two members are no farther apart. What has no coordinates is near nothing."""
    if a.lat is None or a.lon is None or b.lat is None or b.lon is None:
        return False
    if abs(a.lat - b.lat) * _DEGREE_M > within_m:
        return False
    return distance_m((a.lat, a.lon), (b.lat, b.lon)) <= within_m


class Nearby:
    """Members in order of latitude: who is near is found without asking those far in the north or south."""

    def __init__(self, members: Iterable[Member]) -> None:
        placed = sorted(((m.lat, m) for m in members if m.lat is not None), key=lambda one: one[0])
        self._lats = [lat for lat, _ in placed]
        self._members = [member for _, member in placed]

    def of(self, member: Member, within_m: float) -> list[Member]:
        """Those that are `near` this member."""
        if member.lat is None:
            return []
        band = within_m / _DEGREE_M + 1e-9  # rounding leaves nobody out: `near` decides
        first = bisect_left(self._lats, member.lat - band)
        last = bisect_right(self._lats, member.lat + band)
        return [one for one in self._members[first:last] if near(one, member, within_m)]


# --- one after the other, near one another --------------------------------------------------------------------------


def clusters(
    members: Iterable[Member],
    within_m: float,
    window: Micros,
    anchors: Collection[str] | None = None,
) -> list[list[Member]]:
    """Each anchor, in order of time, with those it gathers; it stands first, the others follow in order of time.

    Without `anchors` everyone who is not gathered by an earlier one is one. Otherwise only alarms of these rules are, and
    they gather what begins up to `window` before them, too: a road jams before the crash is reported.
    """
    ordered = sorted(members)
    found: list[list[Member]] = []
    others: list[Member] = []
    for member in ordered:
        if anchors is not None and member.rule not in anchors:
            others.append(member)
            continue
        home = _home(found, member, within_m, window)
        if home is None:
            found.append([member])
        else:
            home.append(member)
    for member in others:
        home = _home(found, member, within_m, window)
        if home is not None:
            home.append(member)
    return [[cluster[0], *sorted(cluster[1:])] for cluster in found]


def _home(
    found: Sequence[list[Member]], member: Member, within_m: float, window: Micros
) -> list[Member] | None:
    """The earliest cluster whose anchor is near enough."""
    first = bisect_left(found, member.start - window, key=lambda cluster: cluster[0].start)
    for n in range(first, len(found)):
        anchor = found[n][0]
        if anchor.start > member.start + window:
            break
        if near(anchor, member, within_m):
            return found[n]
    return None


def situation(cluster: Sequence[Member], need: int, name_of: Callable[[Member], object]) -> Found | None:
    """What the cluster is, if there are `need` different names in it: from the moment there were, until all is over."""
    names: set[object] = set()
    start: Micros | None = None
    for member in sorted(cluster):
        names.add(name_of(member))
        if start is None and len(names) >= need:
            start = member.start
    if start is None:
        return None
    anchor = cluster[0]
    ends = [member.end for member in cluster]
    over = None if None in ends else max(start, *(end for end in ends if end is not None))
    labels = (("rule", anchor.rule), *anchor.labels)
    return Found(labels, start, over, len(names), tuple(cluster[:MAX_EVIDENCE]), anchor.start)


# --- at the same time -----------------------------------------------------------------------------------------------


def needed(least: int, share: float | None, registered: int) -> int:
    """How many it takes, of so many that are registered."""
    return least if share is None else max(least, ceil(share * registered - 1e-9))


def crowded(spans: Iterable[Span], need: int, keep: Micros, labels: Labels) -> list[Found]:
    """The times in which members of `need` different subjects count at once, and `keep` after.

    What begins at the very moment that another ends takes its place without a gap.
    """
    edges = sorted(
        edge
        for span in spans
        if span.end is None or span.end > span.start
        for edge in (
            (span.start, 1, span.member),
            *(() if span.end is None else ((span.end, 0, span.member),)),
        )
    )
    found: list[Found] = []
    active: dict[str, Member] = {}
    subjects: dict[Labels, int] = {}
    for now, here in groupby(edges, key=lambda edge: edge[0]):
        for _, begins, member in here:
            step = 1 if begins else -1
            subjects[member.labels] = subjects.get(member.labels, 0) + step
            if not subjects[member.labels]:
                del subjects[member.labels]
            if begins:
                active[member.alarm_id] = member
            else:
                active.pop(member.alarm_id, None)
        _turn(found, now, len(subjects), need, keep, active.values(), labels)
    return found


def _turn(
    found: list[Found],
    now: Micros,
    count: int,
    need: int,
    keep: Micros,
    active: Collection[Member],
    labels: Labels,
) -> None:
    """Begin, go on with or end the last of `found` at a moment at which the count may have changed."""
    last = found[-1] if found else None
    standing = last is not None and last.end is None
    if count >= need:
        if last is not None and (last.end is None or now <= last.end):
            found[-1] = last._replace(end=None, peak=max(last.peak, count))
        else:
            evidence = tuple(sorted(active))[:MAX_EVIDENCE]
            found.append(Found(labels, now, None, count, evidence, evidence[0].start))
    elif standing and last is not None:
        found[-1] = last._replace(end=now + keep)


def without(spans: Iterable[Span], gone: Sequence[Found]) -> Iterator[Span]:
    """The spans less the times of `gone` (disjoint, in order of time)."""
    for span in spans:
        at: Micros | None = span.start
        for hole in gone:
            if at is None or (span.end is not None and hole.start >= span.end):
                break
            if hole.end is not None and hole.end <= at:
                continue
            if hole.start > at:
                yield Span(at, hole.start, span.member)
            at = hole.end
        if at is not None and (span.end is None or at < span.end):
            yield Span(at, span.end, span.member)


# --- under something else -------------------------------------------------------------------------------------------


def covered(member: Member, covers: Iterable[Cover], release: Micros, now: Micros) -> Cover | None:
    """The cover under which the member is now, or was when it ended; none if it outlasted it by `release`.

    Of several the one that lets go last, so that nobody is called in between.
    """
    best: Cover | None = None
    for cover in covers:
        if member.end is None:
            holds = cover.start <= now and (cover.end is None or now < cover.end + release)
        else:
            holds = cover.start < member.end and (cover.end is None or member.end <= cover.end + release)
        if holds and (best is None or _reach(cover) > _reach(best)):
            best = cover
    return best


def _reach(cover: Cover) -> tuple[bool, Micros, Micros, str]:
    return cover.end is None, cover.end or 0, -cover.start, cover.by
