"""One subject's samples within the horizon, its state at the horizon and now, and what was announced of it.

State at the horizon (clock - L) plus the samples since is all that any late sample inside L can change. A sample in
order folds onto the head state; one out of order folds the series again from the horizon. Both give the same.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rules.calendar import INF
from rules.derive import Given
from rules.machine import DIGEST, ID, REVISION, SUB, Episode, Sample, T

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base import Micros
    from rules.program import Program

Verdict = Literal["stored", "late", "duplicate", "conflict"]

#: How many samples older than the horizon may wait before they are folded into its state. Any number is right.
_SLACK = 16


class Timeline:
    """Which version of the rules is in force from when: the fold asks it, control records in the log extend it."""

    __slots__ = ("_changes", "entries", "programs")

    def __init__(self, entries: Sequence[tuple[Micros, int]], programs: dict[int, Program]) -> None:
        self.entries = tuple(entries)
        self.programs = programs
        last = (INF, self.entries[-1][1])
        self._changes = {
            version: following
            for (_, version), following in zip(self.entries, (*self.entries[1:], last), strict=True)
        }

    def at(self, t: Micros) -> int:
        """The version in force at t; before the first entry, the first."""
        found = self.entries[0][1]
        for start, version in self.entries:
            if start <= t:
                found = version
        return found

    def change(self, version: int) -> tuple[Micros, int]:
        """When the version is superseded and by which; (INF, version) if it is the last."""
        return self._changes[version]


class Announced(NamedTuple):
    """What the alarm plane was told of one occurrence."""

    alarm_id: str
    rule: str
    start: Micros
    end: Micros | None
    rank: int
    peak: float | None
    evidence: tuple[str, ...]
    held: bool = False


class Op(NamedTuple):
    """One thing to tell: an occurrence is so (`put`) or never was (`retract`, or it became part of `merged_into`)."""

    op: Literal["put", "retract"]
    known: str | None  # the alarm_id if it was announced before
    rule: str
    episode: Episode
    merged_into: str | None = None  # of a retraction: the alarm that it became part of


class Series:
    """The state of one subject. `key` is the topic's key; `core` (version, states) at `horizon`; `head` the same now."""

    __slots__ = (
        "acted",
        "announced",
        "closed",
        "core",
        "due",
        "folded",
        "head",
        "horizon",
        "key",
        "moved",
        "reminder",
        "samples",
    )

    def __init__(self, key: str, core: tuple[int, tuple[Any, ...]], horizon: Micros) -> None:
        self.key = key
        self.core = self.head = core
        self.horizon = horizon
        self.samples: list[Sample] = []
        self.folded = 0  # samples[:folded] are in `head`; the others are ahead of the clock
        self.moved = (
            False  # whether the head may have been another since the horizon, even if it is the same again
        )
        self.closed: list[tuple[str, Episode]] = []
        self.announced: tuple[Announced, ...] = ()
        self.acted: Micros = -INF  # the head's timers have acted up to here
        self.due: Micros = -INF  # when time next acts on the head by itself; before the first touch, always
        self.reminder: Micros = INF  # the judge's: when it will look at this series next

    # --- the fold -----------------------------------------------------------------------------------------------

    def _fold(
        self,
        core: tuple[int, tuple[Any, ...]],
        samples: Sequence[Sample],
        line: Timeline,
        closed: list[tuple[str, Episode]],
    ) -> tuple[int, tuple[Any, ...]]:
        """Fold samples, each after everything that is due at or before it."""
        version, states = core
        program = line.programs[version].of(self.key)
        due = min(line.change(version)[0], program.due(states))
        for sample in samples:
            before = states
            if due <= sample[T]:
                version, states = self._expire((version, states), sample[T], line, closed)
                program = line.programs[version].of(self.key)
            states = program.feed(states, sample, closed)
            if states is not before:
                due = min(line.change(version)[0], program.due(states))
        return version, states

    def _expire(
        self,
        core: tuple[int, tuple[Any, ...]],
        upto: Micros,
        line: Timeline,
        closed: list[tuple[str, Episode]],
    ) -> tuple[int, tuple[Any, ...]]:
        version, states = core
        while (change := line.change(version))[0] <= upto:
            moment, following = change
            old, new = line.programs[version].of(self.key), line.programs[following].of(self.key)
            states = old.expire(states, moment, closed)
            states = new.take_over(old, states, moment, self.key, closed)
            version = following
        return version, line.programs[version].of(self.key).expire(states, upto, closed)

    # --- what the judge calls -----------------------------------------------------------------------------------

    def add(self, sample: Sample, clock: Micros, late: Micros, *, alone: bool) -> Verdict:
        """Take a sample whose record moved the clock to `clock`. `alone`: a series has one value at a time."""
        t = sample[T]
        if clock - t > late or t < self.horizon:
            return "late"
        samples = self.samples
        verdict: Verdict = "stored"
        if not samples or samples[-1][T] < t:  # in order: nothing to compare it with
            at = len(samples)
            samples.append(sample)
        else:
            at, verdict = self._place(sample, alone=alone)
            if verdict == "duplicate":
                return verdict
        if at < self.folded or (t <= clock and self.acted > t):
            self.folded = -1
        return verdict

    def _place(self, sample: Sample, *, alone: bool) -> tuple[int, Verdict]:
        """Insert a sample among the others, instead of the one that it corrects or contradicts. Where, and as what."""
        t, samples = sample[T], self.samples
        at = bisect_left(samples, sample[:2])
        verdict: Verdict = "stored"
        if at < len(samples) and samples[at][:2] == sample[:2]:
            old = samples[at]
            if sample[REVISION] < old[REVISION] or (sample[REVISION], sample[DIGEST]) == (
                old[REVISION],
                old[DIGEST],
            ):
                return at, "duplicate"
            verdict = "conflict"  # of whatever sub-series: an id is of one event
            self._remove(at)
        elif alone:
            first = bisect_left(samples, (t, ""))
            while first < len(samples) and samples[first][T] == t:
                if samples[first][SUB] == sample[SUB]:
                    verdict = "conflict"
                    self._remove(first)
                    break
                first += 1
        at = bisect_left(samples, sample[:2])
        samples.insert(at, sample)
        return at, verdict

    def _remove(self, at: int) -> None:
        del self.samples[at]
        if at < self.folded or self.folded < 0:
            self.folded = -1

    def judged_anew(self, since: Micros) -> None:
        """Other rules are in force from `since` on: what was observed then or later, and is judged already, is theirs."""
        if self.folded > 0 and self.samples[self.folded - 1][T] >= since:
            self.folded = -1

    def touch(self, clock: Micros, line: Timeline) -> list[Op]:
        """Bring the head to `clock` and tell what changed since the last time."""
        ended, head = len(self.closed), self.head
        again = self.folded < 0
        samples = self.samples
        if clock < self.due and 0 <= self.folded == len(samples) - 1 and samples[-1][T] <= clock:
            # One more sample, in order, while nothing is due; mostly no rule is moved by it either.
            version, states = self.head
            fed = version, line.programs[version].of(self.key).feed(states, samples[-1], self.closed)
            ready = len(samples)
            if fed[1] is states and len(self.closed) == ended:
                self.folded = ready
                return []
        else:
            if again:
                self.closed, self.folded, self.head = [], 0, self.core
            ready = bisect_left(samples, (clock + 1, ""), lo=self.folded)
            fed = self._fold(self.head, samples[self.folded : ready], line, self.closed)
        self.head, self.folded, self.moved = fed, ready, True
        self.due = self._due(line)
        if self.due <= clock:
            self.head = self._expire(fed, clock, line, self.closed)
            self.due = self._due(line)
        if again or self.head[1] is not fed[1] or self.head[0] != fed[0]:
            self.acted = clock
        changed = again or ended != len(self.closed) or head != self.head
        if ready < len(samples):
            self.due = min(self.due, samples[ready][T])
        return self._differences(line) if changed else []

    def _due(self, line: Timeline) -> Micros:
        """When a timer of the head, or another version of the rules, next acts."""
        version, states = self.head
        return min(line.programs[version].of(self.key).due(states), line.change(version)[0])

    def trim(self, horizon: Micros, line: Timeline) -> None:
        """Compact, where enough has become older than the horizon."""
        samples = self.samples
        if len(samples) > _SLACK and samples[len(samples) // 2][T] < horizon:
            self.compact(horizon, line)

    def compact(self, horizon: Micros, line: Timeline) -> None:
        """Fold what is older than the horizon into its state. Changes nothing that can be observed."""
        if horizon <= self.horizon:
            return
        n = bisect_left(self.samples, (horizon, ""))
        if self.moved or self.folded < n or self.due < horizon:
            self.core = self._expire(self._fold(self.core, self.samples[:n], line, []), horizon - 1, line, [])
            if self.core == self.head and self.folded >= 0:
                self.head = self.core
                self.moved = self._moves(self.samples[n : max(n, self.folded)], line)
        del self.samples[:n]
        if self.folded >= 0:
            self.folded -= n
        self.horizon = horizon
        self.closed = [c for c in self.closed if _since(c[1].end, horizon)]
        self.announced = tuple(a for a in self.announced if _since(a.end, horizon))

    def _moves(self, samples: Sequence[Sample], line: Timeline) -> bool:
        """Whether any of the samples moves the state of the horizon. A state may be left and come back."""
        version, states = self.core
        program = line.programs[version].of(self.key)
        return any(program.feed(states, sample, []) is not states for sample in samples)

    @property
    def forgettable(self) -> bool:
        """True where a series made anew would be the same."""
        quiet = all(s is None for s in self.core[1]) and all(s is None for s in self.head[1])
        waits = self.due < INF  # for rules that come in force later
        return quiet and not waits and not self.samples and not self.announced and not self.closed

    # --- announcing ---------------------------------------------------------------------------------------------

    def _differences(self, line: Timeline) -> list[Op]:
        version, states = self.head
        new = [*self.closed, *line.programs[version].of(self.key).open(states)]
        if not new and not self.announced:
            return []
        ops: list[Op] = []
        for rule in sorted({r for r, _ in new} | {a.rule for a in self.announced}):
            ops += _match(
                rule,
                [a for a in self.announced if a.rule == rule],
                sorted((e for r, e in new if r == rule), key=lambda e: e.start),
            )
        return ops

    def announce(self, ops: Sequence[Op], ids: Sequence[str]) -> None:
        """Remember what was told; `ids` are the alarm ids of the ops.

        What ended before the horizon is left out here too: `closed` knows it no more, and would have it retracted.
        """
        known = {a.alarm_id: a for a in self.announced}
        for op, alarm_id in zip(ops, ids, strict=True):
            if op.op == "retract":
                del known[alarm_id]
            else:
                e = op.episode
                known[alarm_id] = Announced(
                    alarm_id,
                    op.rule,
                    e.start,
                    e.end,
                    e.rank,
                    e.peak,
                    tuple(s[ID] for s in e.evidence),
                    e.held,
                )
        kept = [a for a in known.values() if _since(a.end, self.horizon)]
        self.announced = tuple(sorted(kept, key=lambda a: (a.rule, a.start, a.alarm_id)))

    def given(self, rule: str, since: Micros, clock: Micros, line: Timeline) -> list[Given]:
        """What each version that had the rule was given since a moment to which the series has been compacted."""
        core = self.core
        if since < self.horizon:  # it was made anew after that, as quiet as it was forgotten
            version = line.at(since - 1)
            core = version, line.programs[version].of(self.key).initial(self.key, None)
        found = []
        while True:
            version, states = core
            change = line.change(version)[0]
            upto = min(change, clock + 1)
            mine = [s for s in self.samples if since <= s[T] < upto]
            program = line.programs[version].of(self.key)
            until = change if change <= clock else INF
            for entry, state in zip(program.entries, states, strict=True):
                if entry.id == rule:
                    found.append(Given(entry.kind, state, since, mine, clock, until, version))
            if until == INF:
                return found
            core = self._expire(self._fold(core, mine, line, []), until, line, [])
            since = until

    # --- as plain data ------------------------------------------------------------------------------------------

    def dump(self) -> tuple[Any, ...]:
        return (self.key, self.core, self.horizon, self.samples, self.announced)

    @classmethod
    def load(cls, data: Sequence[Any], clock: Micros, line: Timeline) -> Series:
        """A series as it was dumped; the head is folded again from the horizon."""
        key, core, horizon, samples, announced = data
        version, states = core
        series = cls(key, (version, _tuples(states)), horizon)
        series.samples = [_tuples(s) for s in samples]
        series.announced = tuple(
            Announced(a[0], a[1], a[2], a[3], a[4], a[5], tuple(a[6]), a[7]) for a in announced
        )
        series.folded = -1
        series.touch(clock, line)
        return series


def _since(end: Micros | None, horizon: Micros) -> bool:
    return end is None or end >= horizon


def _tuples(x: list[Any]) -> tuple[Any, ...]:
    """MessagePack has one kind of array; states and samples are tuples all the way down."""
    return tuple([_tuples(i) if isinstance(i, list) else i for i in x])


def _match(rule: str, announced: list[Announced], new: list[Episode]) -> list[Op]:
    """Map new episodes to announced occurrences: the very same first, else of the same start, else overlap, earliest first.

    Two that are over at once may have one start: then what each rests on tells them apart.
    """
    left = list(announced)
    pairs: dict[int, Announced] = {}
    for fits in (_told, _begun, _overlap):
        for n, episode in enumerate(new):
            near = None if n in pairs else next((a for a in left if fits(a, episode)), None)
            if near is not None:
                pairs[n] = near
                left.remove(near)
    ops = []
    for gone in left:
        into = next((a.alarm_id for n, a in pairs.items() if _overlap(gone, new[n])), None)
        was = Episode(gone.start, gone.end, gone.rank, gone.peak, (), gone.held)
        ops.append(Op("retract", gone.alarm_id, rule, was, into))
    for n, episode in enumerate(new):
        told = pairs.get(n)
        if told is None or not _told(told, episode):
            ops.append(Op("put", told and told.alarm_id, rule, episode))
    return ops


def _begun(a: Announced, e: Episode) -> bool:
    return a.start == e.start


def _overlap(a: Announced, e: Episode) -> bool:
    return a.start <= (INF if e.end is None else e.end) and e.start <= (INF if a.end is None else a.end)


def _told(a: Announced, e: Episode) -> bool:
    """Was exactly this announced? Of an episode that goes on, peak and evidence are told when it ends."""
    if (a.start, a.end, a.rank, a.held) != (e.start, e.end, e.rank, e.held):
        return False
    return e.end is None or (a.peak, a.evidence) == (e.peak, tuple(s[ID] for s in e.evidence))
