"""A rule's fold, watched: at each sample and each timer, what began, was waited for, became worse, or ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rules.calendar import INF
from rules.derive import fed
from rules.machine import Absence, Baseline, Count, Episode, Happening, Rate, Ratio, Scheduled, T, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.base import Micros
    from rules.derive import Given
    from rules.machine import Kind, Sample

#: waits: what raises is seen, and must last; dropped: it did not; falls: what clears is seen, and must last; again: it
#: did not; listens: a word is waited for; the rest as they say.
What = Literal["waits", "dropped", "raised", "worse", "falls", "again", "over", "listens"]

#: No fold of a proof has more timers.
MOST_TIMERS = 10_000


class Turn(NamedTuple):
    """Something that changed. `until`: when a timer will act, if nothing else does; `level` is the number of the level."""

    what: What
    level: int | None = None
    until: Micros | None = None
    episode: Episode | None = None


class Step(NamedTuple):
    """A moment: the sample, or None where time alone acted."""

    at: Micros
    sample: Sample | None
    turns: tuple[Turn, ...]


class View(NamedTuple):
    """What can be seen of a state from outside."""

    open: Episode | None
    active: frozenset[int]
    pending: dict[int, Micros]
    falling: dict[int, Micros]
    silent_at: Micros | None


def steps(given: Given) -> Iterator[Step]:
    """Every sample that was given, and every timer that changed something, in the order of the fold."""
    kind, state = given.kind, given.state
    upto = min(given.clock, given.until)
    for sample in given.samples:
        state = yield from _timers(kind, state, sample[T])
        before, closed = view(kind, state), list[Episode]()
        state = fed(kind, state, sample, closed)
        yield Step(sample[T], sample, _turns(before, view(kind, state), closed))
    state = yield from _timers(kind, state, upto)
    standing = kind.open(state)
    if standing is not None and given.until <= upto:
        yield Step(upto, None, (Turn("over", episode=standing._replace(end=upto)),))


def _timers(kind: Kind, state: Any, upto: Micros) -> Any:
    for _ in range(MOST_TIMERS):
        due = kind.due(state)
        if due > upto:
            break
        before, closed = view(kind, state), list[Episode]()
        state = kind.expire(state, due, closed)
        turns = _turns(before, view(kind, state), closed)
        if turns:
            yield Step(due, None, turns)
    return state


def _turns(before: View, after: View, closed: list[Episode]) -> tuple[Turn, ...]:
    found = [Turn("over", episode=e) for e in closed]
    ended = bool(closed)
    if after.open is not None:
        for level in sorted(after.active - (frozenset() if ended else before.active)):
            first = before.open is None or ended
            found.append(
                Turn("raised" if first and not _raised(found) else "worse", level, episode=after.open)
            )
        if (before.open is None or ended) and not _raised(found):
            found.append(Turn("raised", episode=after.open))
    found += [Turn("waits", n, until) for n, until in after.pending.items() if n not in before.pending]
    found += [Turn("dropped", n) for n in before.pending if n not in after.pending and n not in after.active]
    found += [Turn("falls", n, until) for n, until in after.falling.items() if n not in before.falling]
    if not ended:
        found += [Turn("again", n) for n in before.falling if n not in after.falling and n in after.active]
    if after.silent_at is not None and after.silent_at != before.silent_at:
        found.append(Turn("listens", until=after.silent_at))
    return tuple(found)


def _raised(found: list[Turn]) -> bool:
    return any(turn.what == "raised" for turn in found)


def view(kind: Kind, state: Any) -> View:
    while isinstance(kind, Scheduled):
        kind, state = kind.kind, None if state is None else state[0]
    standing = kind.open(state)
    active: set[int] = set()
    pending: dict[int, Micros] = {}
    falling: dict[int, Micros] = {}
    silent_at = None
    if isinstance(kind, Absence):
        due = kind.due(state)
        silent_at = due if standing is None and due < INF else None
    elif state is not None and isinstance(kind, Threshold | Happening | Count | Rate | Ratio | Baseline):
        inner = state if isinstance(kind, Threshold | Happening) else state[1]
        for n, (pend, on, fall) in enumerate(inner[0] if inner is not None else ()):
            level = kind.levels.levels[n]
            if on is not None:
                active.add(n)
                if fall is not None:
                    falling[n] = fall + level.keep
            elif pend is not None:
                pending[n] = pend + level.for_
    return View(standing, frozenset(active), pending, falling, silent_at)
