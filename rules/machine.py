"""The kinds of rules as folds: a state takes a sample, and time acts on it at the moments that are due.

The law of this file: `expire(expire(s, t1), t2) == expire(s, t2)` for t1 <= t2, and a timer due at t acts before a
sample at t. States are plain tuples (None is quiet), so that a snapshot is the state itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.base import Micros

INF: Micros = 1 << 62

#: (observed_at, event_id, sub-series, offset, revision, digest of the bytes, values). Ordered by its first two.
Sample = tuple[int, str, str, int, int, int, tuple[Any, ...]]
T: Final = 0
ID: Final = 1
SUB: Final = 2
OFFSET: Final = 3
REVISION: Final = 4
DIGEST: Final = 5
VALUES: Final = 6

Test = "Callable[[tuple[Any, ...]], bool | None]"

#: Episodes name at most this many events as evidence.
MAX_EVIDENCE = 20


class Episode(NamedTuple):
    """The condition of one rule held from `start` to `end` (None: it still does). `rank` indexes PRIORITIES.

    `held`: nobody is told of it, or not yet; the rules over signals know.
    """

    start: Micros
    end: Micros | None
    rank: int
    peak: float | None
    evidence: tuple[Sample, ...]
    held: bool = False


class Kind(Protocol):
    """What every kind of rule can do. `closed` collects the episodes that ended.

    `wakes` tells whether a sample of these values can move the quiet state: nearly none does, and a sample that does
    not is not fed at all.
    """

    @property
    def wakes(self) -> Callable[[Any], bool | None]: ...
    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any: ...
    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any: ...
    def due(self, state: Any) -> Micros: ...
    def open(self, state: Any) -> Episode | None: ...


class Level(NamedTuple):
    """How soon a raise counts (`for_`), and how long a clear must last (`keep`)."""

    rank: int
    for_: Micros
    keep: Micros


# Levels' state: (one (pending since, active since, clear since) a level, start, rank, peak, evidence)
_OFF: tuple[Any, Any, Any] = (None, None, None)


class Levels:
    """The machine below threshold, count and event: several levels, one episode while any of them is active."""

    def __init__(self, levels: Sequence[Level], sign: int = 1) -> None:
        self.levels = tuple(levels)
        self.sign = sign
        self._quiet: Any = (tuple(_OFF for _ in levels), None, len(levels) + 9, None, ())

    def feed(
        self,
        state: Any,
        t: Micros,
        marks: Sequence[tuple[bool | None, bool | None]],
        value: float | None,
        seen: tuple[Sample, ...],
        closed: list[Episode],
    ) -> Any:
        """`marks` are (raise, clear) for each level; None where the sample says nothing. `seen`: the evidence."""
        machines, start, rank, peak, evidence = state or self._quiet
        idle = all(m is _OFF or m == _OFF for m in machines)
        after: list[Any] = []
        for level, (pend, on, fall), (raised, cleared) in zip(self.levels, machines, marks, strict=True):
            if raised:
                if on is not None:
                    fall = None
                elif level.for_ == 0:
                    pend, on = None, t
                    start, rank = t if start is None else start, min(rank, level.rank)
                elif pend is None:
                    pend = t
            elif raised is False and on is None:
                pend = None
            if cleared and on is not None and fall is None:
                fall = t
            after.append((pend, on, fall))
        busy = any(m != _OFF for m in after)
        if not busy:
            return None
        if idle:
            evidence = seen[-MAX_EVIDENCE:]
            peak = value
        elif value is not None and (peak is None or (value - peak) * self.sign > 0):
            peak = value
            evidence = (evidence[0], *seen[-1:])
        after = [
            _OFF if f is not None and lv.keep == 0 else (p, o, f)
            for lv, (p, o, f) in zip(self.levels, after, strict=True)
        ]
        if start is not None and all(on is None for _, on, _ in after):
            last = seen[-1:] if seen and seen[-1] not in evidence else ()
            closed.append(Episode(start, t, rank, peak, (*evidence, *last)))
            start, rank = None, self._quiet[2]
            if all(m == _OFF for m in after):
                return None
            evidence, peak = seen[-1:], value
        return (tuple(after), start, rank, peak, evidence)

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:
        while state is not None and (now := self.due(state)) <= upto:
            machines, start, rank, peak, evidence = state
            after: list[Any] = []
            for level, (pend, on, fall) in zip(self.levels, machines, strict=True):
                if on is None and pend is not None and pend + level.for_ <= now:
                    after.append((None, now, None))
                    start, rank = now if start is None else start, min(rank, level.rank)
                elif fall is not None and fall + level.keep <= now:
                    after.append(_OFF)
                else:
                    after.append((pend, on, fall))
            if start is not None and all(on is None for _, on, _ in after):
                closed.append(Episode(start, now, rank, peak, evidence))
                start, rank = None, self._quiet[2]
            state = None if all(m == _OFF for m in after) else (tuple(after), start, rank, peak, evidence)
        return state

    def due(self, state: Any) -> Micros:
        if state is None:
            return INF
        soonest = INF
        for level, (pend, on, fall) in zip(self.levels, state[0], strict=True):
            if on is None:
                if pend is not None and pend + level.for_ < soonest:
                    soonest = pend + level.for_
            elif fall is not None and fall + level.keep < soonest:
                soonest = fall + level.keep
        return soonest

    def open(self, state: Any) -> Episode | None:
        if state is None or state[1] is None:
            return None
        return Episode(state[1], None, state[2], state[3], state[4])


def _waking(where: Any, raises: Sequence[Any]) -> Callable[[Any], bool | None]:
    """Whether any of `raises` holds where `where` does."""
    if where is None and len(raises) == 1:
        only: Callable[[Any], bool | None] = raises[0]  # a third faster than one more function around it
        return only

    def wakes(values: Any) -> bool:
        if where is not None and not where(values):
            return False
        for raise_ in raises:  # noqa: SIM110 - any() costs a generator
            if raise_(values):
                return True
        return False

    return wakes


class Threshold:
    """Raise and clear by expressions over one sample; without a `clear` the negation of `raise` clears."""

    def __init__(
        self,
        levels: Sequence[tuple[Level, Any, Any]],
        where: Any = None,
        measure: Callable[[tuple[Any, ...]], float | None] | None = None,
        sign: int = 1,
    ) -> None:
        self.levels = Levels([level for level, _, _ in levels], sign)
        self.tests = tuple((raise_, clear) for _, raise_, clear in levels)
        self.where = where
        self.wakes = _waking(where, [raise_ for _, raise_, _ in levels])
        self.measure = measure
        self.expire, self.due, self.open = self.levels.expire, self.levels.due, self.levels.open

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values = sample[VALUES]
        if self.where is not None and not self.where(values):
            return state
        marks = []
        for raise_, clear in self.tests:
            raised = raise_(values)
            cleared = (None if raised is None else not raised) if clear is None else clear(values)
            marks.append((raised, bool(cleared) and not raised))
        value = None if self.measure is None else self.measure(values)
        return self.levels.feed(state, sample[T], marks, value, (sample,), closed)


class Happening:
    """An event that matters by itself. It lasts until `clear` (if there is one) and `keep` after the last."""

    def __init__(self, level: Level, raise_: Any, clear: Any = None, where: Any = None) -> None:
        self.levels = Levels([level])
        self.raise_, self.clear, self.where = raise_, clear, where
        self.wakes = _waking(where, [raise_])
        self.expire, self.due, self.open = self.levels.expire, self.levels.due, self.levels.open

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values = sample[VALUES]
        if self.where is not None and not self.where(values):
            return state
        raised = bool(self.raise_(values))
        cleared = raised if self.clear is None else not raised and bool(self.clear(values))
        if not raised and not cleared:
            return state
        return self.levels.feed(state, sample[T], [(raised or None, cleared)], None, (sample,), closed)


class Count:
    """How many samples within (t - window, t]; kept are the last N, which is all that `count >= N` needs."""

    def __init__(self, levels: Sequence[tuple[Level, int, int]], window: Micros, where: Any = None) -> None:
        self.levels = Levels([level for level, _, _ in levels])
        self.bounds = tuple((at, below) for _, at, below in levels)
        self.most = max(at for at, _ in self.bounds)
        self.window = window
        self.where = where
        self.wakes: Callable[[Any], bool | None] = where or (lambda _values: True)

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        if self.where is not None and not self.where(sample[VALUES]):
            return state
        ring, inner = state or ((), None)
        ring = (*ring, sample)[-self.most :]
        t = sample[T]
        inside = tuple(s for s in ring if s[T] > t - self.window)
        marks = [(len(inside) >= at or None, len(inside) < below) for at, below in self.bounds]
        return (ring, self.levels.feed(inner, t, marks, None, inside, closed))

    def _drop(self, ring: tuple[Sample, ...], inner: Any) -> Micros:
        """When the count next falls below the bound of an active level that is not yet clearing."""
        soonest = INF
        if inner is not None:
            for (_, on, fall), (_, below) in zip(inner[0], self.bounds, strict=True):
                if on is not None and fall is None:
                    soonest = min(soonest, ring[-below][T] + self.window)
        return soonest

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:
        while state is not None and (now := self.due(state)) <= upto:
            ring, inner = state
            inner = self.levels.expire(inner, now, closed)
            if self._drop(ring, inner) <= now:
                left = sum(1 for s in ring if s[T] > now - self.window)
                inner = self.levels.feed(
                    inner, now, [(None, left < below) for _, below in self.bounds], None, (), closed
                )
            gone = inner is None and ring[-1][T] + self.window <= now
            state = None if gone else (ring, inner)
        return state

    def due(self, state: Any) -> Micros:
        if state is None:
            return INF
        ring, inner = state
        if inner is None:
            return int(ring[-1][T]) + self.window
        return min(self.levels.due(inner), self._drop(ring, inner))

    def open(self, state: Any) -> Episode | None:
        return None if state is None else self.levels.open(state[1])


class Absence:
    """A subject of the registry that does not speak. State: (last heard, silence allowed, silent since, last sample)."""

    def __init__(self, rank: int, after: Micros | None, misses: int | None) -> None:
        self.rank, self.after, self.misses = rank, after, misses
        self.wakes: Callable[[Any], bool | None] = lambda _values: False  # what is not listened for

    def initial(self, since: Micros, every: Micros) -> Any:
        """The state of a subject that the registry has known since `since` and expects `every` so often."""
        return (since, self.after if self.after is not None else every * (self.misses or 1), None, ())

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        if state is None:
            return None
        _, after, start, last = state
        if start is not None:
            closed.append(Episode(start, sample[T], self.rank, None, (*last, sample)))
        return (sample[T], after, None, (sample,))

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:  # noqa: ARG002 - silence never ends itself
        if state is None or state[2] is not None or state[0] + state[1] > upto:
            return state
        return (state[0], state[1], state[0] + state[1], state[3])

    def due(self, state: Any) -> Micros:
        return INF if state is None or state[2] is not None else int(state[0] + state[1])

    def open(self, state: Any) -> Episode | None:
        return (
            None if state is None or state[2] is None else Episode(state[2], None, self.rank, None, state[3])
        )
