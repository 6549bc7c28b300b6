"""The kinds of rules as folds: a state takes a sample, and time acts on it at the moments that are due.

The law of this file: `expire(expire(s, t1), t2) == expire(s, t2)` for t1 <= t2, and a timer due at t acts before a
sample at t. States are plain tuples (None is quiet), so that a snapshot is the state itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from models.base import micros
from rules import calendar
from rules.baseline import Baseline as Detector
from rules.baseline import Params

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.base import Micros
    from rules.calendar import Windows

INF: Final[Micros] = calendar.INF

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

#: What a series usually does is forgotten when it has said nothing for so long.
FORGOTTEN: Final[Micros] = 60 * 86_400_000_000

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
    not is not fed at all. A kind that `listens` has a state for a subject that has not spoken: `initial`. `kept` is what
    of a state outlives its rule's being out of force, or another rule of the same `memory` taking its place; `paced` is a
    state of one that listens once its subject is expected at another interval.
    """

    listens: bool

    @property
    def wakes(self) -> Callable[[Any], bool | None]: ...
    def initial(self, since: Micros, every: Micros) -> Any: ...
    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any: ...
    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any: ...
    def due(self, state: Any) -> Micros: ...
    def open(self, state: Any) -> Episode | None: ...
    def kept(self, state: Any) -> Any: ...
    def paced(self, state: Any, every: Micros, at: Micros) -> Any: ...


class _Deaf:
    """A kind that begins with the first sample, and remembers nothing of what it was."""

    listens = False

    def initial(self, since: Micros, every: Micros) -> Any:  # noqa: ARG002 - the face of Kind
        return None

    def kept(self, state: Any) -> Any:  # noqa: ARG002
        return None

    def paced(self, state: Any, every: Micros, at: Micros) -> Any:  # noqa: ARG002
        return state


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


class Threshold(_Deaf):
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
        marks = [_mark(raise_, clear, values) for raise_, clear in self.tests]
        value = None if self.measure is None else self.measure(values)
        return self.levels.feed(state, sample[T], marks, value, (sample,), closed)


class Happening(_Deaf):
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


class Deadline(_Deaf):
    """An event that names a moment, and matters from `before` it on unless it is cleared. State: (then, since, sample)."""

    def __init__(
        self, rank: int, at: int, before: Micros, raise_: Any, clear: Any, where: Any = None
    ) -> None:
        self.rank, self.at, self.before = rank, at, before
        self.raise_, self.clear, self.where = raise_, clear, where
        self.wakes = _waking(where, [raise_])

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values = sample[VALUES]
        if self.where is not None and not self.where(values):
            return state
        start = None if state is None else state[1]
        if self.raise_(values) and values[self.at] is not None:
            then = _moment(values[self.at]) - self.before
            if then <= sample[T]:
                return (then, sample[T] if start is None else start, sample)
        elif self.clear(values):
            then = None
        else:
            return state
        if start is not None:
            closed.append(Episode(start, sample[T], self.rank, None, (state[2], sample)))
        return None if then is None else (then, None, sample)

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:  # noqa: ARG002 - it ends by an event
        if self.due(state) <= upto:
            return (state[0], state[0], state[2])
        return state

    def due(self, state: Any) -> Micros:
        return INF if state is None or state[1] is not None else int(state[0])

    def open(self, state: Any) -> Episode | None:
        if state is None or state[1] is None:
            return None
        return Episode(state[1], None, self.rank, None, (state[2],))


def _moment(value: Any) -> Micros:
    """A moment among the values of a sample: of one that was saved it is text."""
    return micros(value if isinstance(value, datetime) else datetime.fromisoformat(value))


class Count(_Deaf):
    """How many samples within (t - window, t]; kept are the last N, which is all that `count >= N` needs.

    `of`: how many different values of this place among them; of each only the last is kept.
    """

    def __init__(
        self,
        levels: Sequence[tuple[Level, int, int]],
        window: Micros,
        where: Any = None,
        of: int | None = None,
    ) -> None:
        self.levels = Levels([level for level, _, _ in levels])
        self.bounds = tuple((at, below) for _, at, below in levels)
        self.most = max(at for at, _ in self.bounds)
        self.window = window
        self.where = where
        self.of = of
        self.wakes: Callable[[Any], bool | None] = where or _always

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        if self.where is not None and not self.where(sample[VALUES]):
            return state
        ring, inner = state or ((), None)
        if self.of is not None:
            value = sample[VALUES][self.of]
            if value is None:
                return state
            ring = tuple(s for s in ring if s[VALUES][self.of] != value)
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


class _Ringed(_Deaf, ABC):
    """A kind that keeps the last samples beside its levels, and forgets them when they are too old to matter."""

    levels: Levels

    @abstractmethod
    def _old(self, ring: Any) -> Micros:
        """When nothing in the ring matters any more."""

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:
        if state is None or self.due(state) > upto:
            return state
        ring, inner = state
        inner = self.levels.expire(inner, upto, closed)
        if ring and self._old(ring) <= upto:
            ring = ()
        return (ring, inner) if ring or inner is not None else None

    def due(self, state: Any) -> Micros:
        if state is None:
            return INF
        ring, inner = state
        return min(self.levels.due(inner), self._old(ring) if ring else INF)

    def open(self, state: Any) -> Episode | None:
        return None if state is None else self.levels.open(state[1])


class Rate(_Ringed):
    """How fast a value changes over a span: conditions read `rate` after the values of the sample."""

    def __init__(
        self,
        levels: Sequence[tuple[Level, Any, Any]],
        of: int,
        span: tuple[Micros, Micros],
        where: Any = None,
        measured: tuple[Any, int] = (None, 1),
    ) -> None:
        self.levels = Levels([level for level, _, _ in levels], measured[1])
        self.tests = tuple((raise_, clear) for _, raise_, clear in levels)
        self.of, self.where, self.measure = of, where, measured[0]
        self.over, self.per = span
        self.wakes: Callable[[Any], bool | None] = where or _always

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values, t, of = sample[VALUES], sample[T], self.of
        if values[of] is None or (self.where is not None and not self.where(values)):
            return state
        ring, inner = state or ((), None)
        ring = (*(s for s in ring if s[T] >= t - self.over), sample)
        first = next(s for s in ring if s[SUB] == sample[SUB])
        since = t - first[T]
        rate = None
        if 2 * since >= self.over:
            rate = (values[of] - first[VALUES][of]) * self.per / since
        seen = (first, sample) if rate is not None else (sample,)
        return (ring, _judged(self, inner, sample, (*values, rate), seen, closed))

    def _old(self, ring: Any) -> Micros:
        return int(ring[-1][T]) + self.over + 1


class Ratio(_Ringed):
    """Which part of the samples of a window `of` holds for. The window is of panes: (number, hits, all)."""

    def __init__(
        self,
        levels: Sequence[tuple[Level, Any, Any]],
        of: Any,
        span: tuple[Micros, int, int],
        where: Any = None,
        measured: tuple[Any, int] = (None, 1),
    ) -> None:
        self.levels = Levels([level for level, _, _ in levels], measured[1])
        self.tests = tuple((raise_, clear) for _, raise_, clear in levels)
        self.of, self.where, self.measure = of, where, measured[0]
        self.pane, self.panes, self.least = span
        self.wakes: Callable[[Any], bool | None] = where or _always

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values = sample[VALUES]
        if self.where is not None and not self.where(values):
            return state
        hit = self.of(values)
        if hit is None:
            return state
        panes, inner = state or ((), None)
        number = sample[T] // self.pane
        kept = [p for p in panes if p[0] > number - self.panes]
        if kept and kept[-1][0] == number:
            _, hits, total = kept.pop()
        else:
            hits = total = 0
        kept.append((number, hits + bool(hit), total + 1))
        total = sum(p[2] for p in kept)
        ratio = sum(p[1] for p in kept) / total if total >= self.least else None
        inner = _judged(self, inner, sample, (*values, ratio, total), (sample,), closed)
        return (tuple(kept), inner)

    def _old(self, ring: Any) -> Micros:
        return int((ring[-1][0] + self.panes) * self.pane)


def _judged(
    kind: Rate | Ratio,
    inner: Any,
    sample: Sample,
    values: tuple[Any, ...],
    seen: tuple[Sample, ...],
    closed: list[Episode],
) -> Any:
    """The levels of a kind after a sample, judged by its values and what is derived of them."""
    marks = [_mark(raise_, clear, values) for raise_, clear in kind.tests]
    value = None if kind.measure is None else kind.measure(values)
    return kind.levels.feed(inner, sample[T], marks, value, seen, closed)


def _mark(raise_: Any, clear: Any, values: tuple[Any, ...]) -> tuple[bool | None, bool]:
    """Whether a level is raised and whether it is cleared; what does both is raised."""
    raised = raise_(values)
    cleared = (None if raised is None else not raised) if clear is None else clear(values)
    return raised, bool(cleared) and not raised


class Baseline(_Deaf):
    """A value strange to its own series. State: (what the series usually does, levels)."""

    def __init__(self, level: Level, of: int, bound: float, least: float, where: Any = None) -> None:
        self.levels = Levels([level])
        self.detector = Detector(Params(least=least))
        self.of, self.bound, self.where = of, bound, where
        self.wakes: Callable[[Any], bool | None] = where or _always

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        values = sample[VALUES]
        if values[self.of] is None or (self.where is not None and not self.where(values)):
            return state
        known, inner = state or (self.detector.start(), None)
        known, score, _ = self.detector.step(known, sample[T], float(values[self.of]))
        if not known:
            return state  # beyond any measurement
        if score is not None and score >= self.bound:
            inner = self.levels.feed(inner, sample[T], [(True, True)], score, (sample,), closed)
        return (known, inner)

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:
        if state is None or self.due(state) > upto:
            return state
        known, inner = state
        inner = self.levels.expire(inner, upto, closed)
        gone = inner is None and self._forgotten(known) <= upto
        return None if gone else (known, inner)

    def _forgotten(self, known: Any) -> Micros:
        return int(known[2]) + FORGOTTEN  # its last value

    def due(self, state: Any) -> Micros:
        if state is None:
            return INF
        known, inner = state
        return self.levels.due(inner) if inner is not None else self._forgotten(known)

    def open(self, state: Any) -> Episode | None:
        return None if state is None else self.levels.open(state[1])

    def kept(self, state: Any) -> Any:
        return None if state is None else (state[0], None)


class Absence:
    """A subject of the registry that does not speak. State: (last heard, silence allowed, silent since, told, last sample).

    `wait`: so long after it fell silent it is told; until then its episode is held. `once`: one word is enough for
    ever. `where`: other samples are no word.
    """

    listens = True

    def __init__(
        self,
        rank: int,
        after: Micros | None,
        misses: int | None = None,
        wait: Micros = 0,
        where: Any = None,
        *,
        once: bool = False,
    ) -> None:
        self.rank, self.after, self.misses, self.wait = rank, after, misses, wait
        self.where, self.once = where, once
        self.wakes: Callable[[Any], bool | None] = _never  # what is not listened for

    def initial(self, since: Micros, every: Micros) -> Any:
        """The state of a subject that the registry has known since `since` and expects `every` so often."""
        return (since, self.after if self.after is not None else every * (self.misses or 1), None, False, ())

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        if state is None or (self.where is not None and not self.where(sample[VALUES])):
            return state
        _, after, start, told, last = state
        if start is not None:
            closed.append(Episode(start, sample[T], self.rank, None, (*last, sample), not told))
        elif after == INF:
            return state
        return (sample[T], INF if self.once else after, None, False, (sample,))

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:  # noqa: ARG002 - silence never ends itself
        while state is not None and (now := self.due(state)) <= upto:
            last, after, start, _, sample = state
            state = (
                (last, after, now, self.wait == 0, sample)
                if start is None
                else (last, after, start, True, sample)
            )
        return state

    def due(self, state: Any) -> Micros:
        if state is None or state[3]:
            return INF
        if state[2] is not None:
            return int(state[2] + self.wait)
        return INF if state[1] == INF else int(state[0] + state[1])

    def open(self, state: Any) -> Episode | None:
        if state is None or state[2] is None:
            return None
        return Episode(state[2], None, self.rank, None, state[4], not state[3])

    def kept(self, state: Any) -> Any:  # noqa: ARG002 - the face of Kind
        return None

    def paced(self, state: Any, every: Micros, at: Micros) -> Any:
        """Silence that is too long by the new interval already is too long from now on, and not from before."""
        if state is None or self.after is not None or state[1] == INF:
            return state
        after = every * (self.misses or 1)
        heard = state[0] if state[2] is not None else max(state[0], at - after)
        return (heard, after, *state[2:])


class Scheduled:
    """A kind that is in force only at times. State: (of the kind, when that next changes, the sensor's own interval).

    What is observed outside is not fed. What stands when a window ends, ends there, before anything that is due then.
    A kind that listens begins anew with every window; its state outside is (None, the next window's beginning, interval).
    """

    def __init__(self, kind: Kind, windows: Windows) -> None:
        self.kind, self.windows = kind, windows
        self.listens = kind.listens
        self.wakes = kind.wakes

    def initial(self, since: Micros, every: Micros) -> Any:
        if not self.listens:
            return None
        inside, until = self.windows.look(since)
        return (self.kind.initial(since, every) if inside else None, until, every)

    def feed(self, state: Any, sample: Sample, closed: list[Episode]) -> Any:
        inside, until = self.windows.look(sample[T])
        if not inside or (state is None and self.listens):
            return state
        before, _, every = state or (None, 0, 0)
        inner = self.kind.feed(before, sample, closed)
        if inner is before and state is not None and state[1] == until:
            return state
        return None if inner is None else (inner, until, every)

    def expire(self, state: Any, upto: Micros, closed: list[Episode]) -> Any:
        while state is not None and self.due(state) <= upto:
            inner, until, every = state
            if until > upto:
                inner = self.kind.expire(inner, upto, closed)
                return None if inner is None else (inner, until, every)
            state = self._turned(self.kind.expire(inner, until - 1, closed), until, every, closed)
        return state

    def _turned(self, inner: Any, at: Micros, every: Micros, closed: list[Episode]) -> Any:
        """The state once a window has begun or ended."""
        inside, until = self.windows.look(at)
        if inside:
            return (self.kind.initial(at, every), until, every) if self.listens else None
        episode = self.kind.open(inner)
        if episode is not None:
            closed.append(episode._replace(end=at))
        if self.listens:
            return None if until == INF else (None, until, every)
        kept = self.kind.kept(inner)
        return None if kept is None else (kept, INF, every)

    def due(self, state: Any) -> Micros:
        return INF if state is None else min(int(state[1]), self.kind.due(state[0]))

    def open(self, state: Any) -> Episode | None:
        return None if state is None else self.kind.open(state[0])

    def kept(self, state: Any) -> Any:
        """It is in force again when it is next fed."""
        inner = None if state is None else self.kind.kept(state[0])
        return None if inner is None else (inner, INF, state[2])

    def paced(self, state: Any, every: Micros, at: Micros) -> Any:
        return None if state is None else (self.kind.paced(state[0], every, at), state[1], every)

    def wrap(self, inner: Any, at: Micros, every: Micros, closed: list[Episode]) -> Any:
        """A state of the kind that was always in force, from `at` on only at times."""
        inside, until = self.windows.look(at)
        if not inside:
            return self._turned(inner, at, every, closed)
        return None if inner is None else (inner, until, every)


def _always(_values: Any) -> bool:
    return True


def _never(_values: Any) -> bool:
    return False
