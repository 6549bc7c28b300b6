"""Two sets of rules over the same recorded events: what the one would have told that the other would not. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from models import alarm as state
from models.alarm import PRIORITIES, Priority
from models.base import Micros, micros, moment
from models.catalogue import event_of
from rules.defined import compile_wide
from rules.judge import Judge
from rules.lifecycle import Plane
from rules.program import compile_program
from rules.score import Score, Span, Told, score
from rules.spec import Absence, Baseline, Schedule
from rules.terms import duration_text
from rules.wide import Control

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.base import Event
    from rules.score import Happened
    from rules.spec import RuleSet

Name = Literal["base", "candidate"]

MINUTE: Micros = 60_000_000
DAY: Micros = 1440 * MINUTE

#: EEMUA 191 and ISA-18.2: more than so many alarms within the window are a flood for one operator, fewer than these end it.
WINDOW: Micros = 10 * MINUTE
FLOOD, OVER = 10, 5

#: A baseline knows the same hour of earlier weeks: without two of them it is not what it was.
_WEEKS: Micros = 15 * DAY


class Alarm(NamedTuple):
    """One alarm as the ledger has it in the end. `told` is the time of the log at which somebody could first know."""

    rule: str
    labels: tuple[tuple[str, str], ...]
    start: Micros
    end: Micros | None
    priority: Priority
    peak: float | None
    told: Micros
    id: str

    @property
    def identity(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What makes two alarms of two sets the same one at different times."""
        return self.rule, self.labels

    def json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "labels": dict(self.labels),
            "start": _iso(self.start),
            "end": None if self.end is None else _iso(self.end),
            "priority": self.priority,
            "peak": self.peak,
        }


class Pair(NamedTuple):
    """An alarm of both sets, as each of them tells it."""

    base: Alarm
    candidate: Alarm

    @property
    def changed(self) -> tuple[str, ...]:
        """What of it is different; nothing where it is the same alarm."""
        return tuple(
            name
            for name in ("start", "end", "priority", "peak")
            if getattr(self.base, name) != getattr(self.candidate, name)
        )

    @property
    def later_us(self) -> Micros:
        """How much later it begins with the candidate; less than nothing: earlier."""
        return self.candidate.start - self.base.start

    def json(self) -> dict[str, Any]:
        return {
            "base": self.base.json(),
            "candidate": self.candidate.json(),
            "changed": list(self.changed),
            "later_s": self.later_us / 1e6,
        }


class Difference(NamedTuple):
    """What the candidate tells more, what less, and what both tell."""

    new: tuple[Alarm, ...]
    lost: tuple[Alarm, ...]
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if not pair.changed)

    @property
    def moved(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.changed)

    @property
    def empty(self) -> bool:
        return not (self.new or self.lost or self.moved)


class Load(NamedTuple):
    """What it is to sit at the console: alarms for one operator in ten minutes, and the time of floods. Advisories make no sound."""

    alarms: int
    mean: float
    worst: float
    flood_minutes: float


# --- judging ------------------------------------------------------------------------------------------------------------


#: A record of the alarm plane's log, with its stamp. None: only time passes.
Record = tuple[Micros, state.Signal | state.Mark | Control | None]


@dataclass(slots=True)
class _Side:
    """One of the two sets: what its judges said, and then what an operator was told of it.

    `told` has the moment at which each alarm could first be known, `loud` those at which there was a sound: also of what was
    taken back later. What was suppressed by design all the time was never told.
    """

    rules: RuleSet
    signals: list[state.Signal] = field(default_factory=list)
    standing: dict[str, state.Alarm] = field(default_factory=dict)
    told: dict[str, Micros] = field(default_factory=dict)
    loud: list[Micros] = field(default_factory=list)

    def settle(self, since: Micros, end: Micros) -> None:
        """Put all that was said into one log, as the alarm plane has it, and keep what it made of it."""
        plane, offsets = Plane("backtest"), count(1)
        said = sorted(((micros(signal.stamp), signal) for signal in self.signals), key=_arrival)
        self.signals = []
        first: Record = (since, Control(since, compile_wide(self.rules, 0)))
        for record in (first, *said, (end, None)):
            for clock in _clocks(plane, record[0]):
                self._take(plane, offsets, clock)
            self._take(plane, offsets, record)

    def _take(self, plane: Plane, offsets: Iterator[int], record: Record) -> None:
        """One record, and then those that the rules over signals make of it."""
        log = deque([record])
        while log:
            (stamp, said), offset = log.popleft(), next(offsets)
            log += [(stamp, more) for more in plane.conclude(offset, stamp, said)]
            self._heard(plane.step(offset, stamp, said))

    def _heard(self, entries: Iterable[state.AlarmEvent]) -> None:
        for entry in entries:
            alarm = entry.alarm
            self.standing[alarm.alarm_id] = alarm
            calls = entry.type in ("raised", "released") and alarm.active and not alarm.suppressed
            if calls and alarm.alarm_id not in self.told:
                self.told[alarm.alarm_id] = at = micros(entry.at)
                if alarm.priority != "advisory":
                    self.loud.append(at)

    def alarms(self) -> list[Alarm]:
        found = [
            _alarm(alarm, self.told[alarm.alarm_id])
            for alarm in self.standing.values()
            if alarm.alarm_id in self.told and not alarm.retracted
        ]
        return sorted(found, key=_when)

    @property
    def suppressed(self) -> list[state.Alarm]:
        return [a for a in self.standing.values() if a.alarm_id not in self.told and not a.retracted]


def _arrival(record: tuple[Micros, state.Signal]) -> tuple[Any, ...]:
    stamp, signal = record
    return stamp, signal.topic, signal.partition, signal.offset, signal.k


def _clocks(plane: Plane, until: Micros) -> Iterator[Record]:
    """The clock records that come before `until`: whoever owns the log writes one when something is due."""
    last = -1
    while (due := plane.wide.due()) is not None and last < due < until:
        yield due, None
        last = due


@dataclass(slots=True)
class _Run:
    """One partition of a topic under one of the sets."""

    side: _Side
    judge: Judge
    offset: int = 0

    def clock(self, stamp: Micros) -> None:
        self.offset += 1
        self.side.signals += self.judge.pass_by(self.offset, stamp)

    def wait(self, until: Micros) -> None:
        """Where nothing was recorded for a while, whoever owned the log would have written clocks: what is due acts then."""
        while (due := self.judge.next_due) < until:
            self.clock(due)


class Backtest:
    """Judges what was recorded twice, by `base` and by `candidate`; nothing of it goes anywhere.

    Records of one (topic, partition) come in the order of their log; of different ones, in any. `partition` None: there is
    no log, and one partition has every key. Rules are in force, and the registry's sensors listened for, from `since`, else
    from the first record of the partition. `grace_us` replaces L.
    """

    def __init__(
        self, base: RuleSet, candidate: RuleSet, since: Micros | None = None, grace_us: Micros | None = None
    ) -> None:
        self.sides: dict[Name, _Side] = {"base": _Side(base), "candidate": _Side(candidate)}
        self._since, self._grace = since, grace_us
        self._runs: dict[tuple[str, int | None], tuple[_Run, ...]] = {}
        self.first: Micros | None = None
        self.last: Micros = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that either set has a rule on: of others nothing need be read."""
        return tuple(sorted({rule.on for side in self.sides.values() for rule in side.rules.rules}))

    def event(self, topic: str, partition: int | None, stamp: Micros, event: Event, digest: int) -> None:
        for run in self._of(topic, partition, stamp):
            judge = run.judge
            if partition is None and judge.next_due < stamp:
                run.wait(stamp)
            run.offset += 1
            signals = judge.event(run.offset, stamp, event, digest)
            if signals:
                run.side.signals += signals

    def passed(self, topic: str, partition: int | None, stamp: Micros) -> None:
        """A record without an event: time passes."""
        for run in self._of(topic, partition, stamp):
            run.wait(stamp)
            run.clock(stamp)

    def end(self, at: Micros) -> None:
        """Nothing more comes: the clock of every partition goes on to `at`, and alarms are made of what was said."""
        for topic, partition in list(self._runs):
            self.passed(topic, partition, at)
        for side in self.sides.values():
            side.settle(at if self.first is None else self.first, at)

    def counts(self) -> Counter[str]:
        """What became of the events: stored, late, duplicate, conflict. The same for both sets."""
        total: Counter[str] = Counter()
        for runs in self._runs.values():
            total += runs[0].judge.counts()
        return total

    def alarms(self, name: Name) -> list[Alarm]:
        """The ledger of one of the sets, once `end` was said."""
        return self.sides[name].alarms()

    def _of(self, topic: str, partition: int | None, stamp: Micros) -> tuple[_Run, ...]:
        runs = self._runs.get((topic, partition))
        if runs is None:
            runs = self._runs[topic, partition] = tuple(self._new(topic, partition, stamp))
        self.last = max(self.last, stamp)
        return runs

    def _new(self, topic: str, partition: int | None, stamp: Micros) -> Iterator[_Run]:
        event, since = event_of(topic), stamp if self._since is None else self._since
        self.first = since if self.first is None else min(self.first, since)
        for side in self.sides.values():
            judge = Judge(event, partition or 0, "backtest", self._grace, whole=partition is None)
            side.signals += judge.control(0, since, since, compile_program(side.rules, 0, event))
            yield _Run(side, judge)


def _alarm(found: state.Alarm, told: Micros) -> Alarm:
    return Alarm(
        rule=found.rule,
        labels=tuple(sorted(found.labels.items())),
        start=micros(found.start),
        end=None if found.end is None else micros(found.end),
        priority=found.priority,
        peak=found.peak,
        told=told,
        id=found.alarm_id,
    )


def memory_us(rules: RuleSet) -> Micros:
    """For how long before a moment events must be known for the rules to be what they are at that moment.

    An alarm that already lasts longer begins too late; nothing else is different.
    """
    longest = 0
    for rule in rules.rules:
        reach = event_of(rule.on).topic.late_us
        if isinstance(rule, Baseline):
            reach += _WEEKS
        elif isinstance(rule, Schedule):
            reach += DAY
        elif isinstance(rule, Absence):
            slowest = max((s.every_us for s in rules.registry.of(rule.on)), default=0)
            reach += (rule.after_us or slowest * (rule.misses or 1)) + rule.wait_us
        else:
            spans = [getattr(rule, name, 0) for name in ("window_us", "over_us", "keep_us")]
            levels = [getattr(level, "for_us", 0) + level.keep_us for level in getattr(rule, "levels", ())]
            reach += sum(spans) + max(levels, default=0)
        longest = max(longest, reach)
    for wide in rules.wide:
        longest = max(longest, getattr(wide, "window_us", None) or 0)
    return longest


# --- comparing ----------------------------------------------------------------------------------------------------------


def compare(base: Iterable[Alarm], candidate: Iterable[Alarm]) -> Difference:
    """Pair the alarms of one rule and subject: those that begin together, then those that overlap, the earliest first."""
    olds: dict[Any, list[Alarm]] = {}
    news: dict[Any, list[Alarm]] = {}
    for found, alarms in ((olds, base), (news, candidate)):
        for alarm in alarms:
            found.setdefault(alarm.identity, []).append(alarm)
    new: list[Alarm] = []
    lost: list[Alarm] = []
    pairs: list[Pair] = []
    for identity in sorted({*olds, *news}):
        mine, unpaired = _paired(olds.get(identity, []), news.get(identity, []))
        pairs += mine
        lost += unpaired[0]
        new += unpaired[1]
    pairs.sort(key=lambda pair: _when(pair.base))
    return Difference(tuple(sorted(new, key=_when)), tuple(sorted(lost, key=_when)), tuple(pairs))


def _paired(old: list[Alarm], new: list[Alarm]) -> tuple[list[Pair], tuple[list[Alarm], list[Alarm]]]:
    old, new = sorted(old, key=_when), sorted(new, key=_when)
    pairs: list[Pair] = []
    for fits in (_together, _overlap):
        for alarm in list(new):
            partner = next((a for a in old if fits(a, alarm)), None)
            if partner is not None:
                pairs.append(Pair(partner, alarm))
                old.remove(partner)
                new.remove(alarm)
    return pairs, (old, new)


def _when(alarm: Alarm) -> tuple[Micros, str, Any]:
    return alarm.start, alarm.rule, alarm.labels


def _together(one: Alarm, other: Alarm) -> bool:
    return one.start == other.start


def _overlap(one: Alarm, other: Alarm) -> bool:
    return (other.end is None or one.start <= other.end) and (one.end is None or other.start <= one.end)


def load(told: Iterable[Micros], span: Span, operators: int = 1) -> Load:
    """Of the moments at which an operator heard of an alarm; those outside the span are not counted."""
    times = sorted(t for t in told if span.start <= t < span.end)
    windows = (span.end - span.start) / WINDOW
    near: deque[Micros] = deque()
    worst = 0
    for t in times:
        near.append(t)
        while near[0] <= t - WINDOW:
            near.popleft()
        worst = max(worst, len(near))
    mean = len(times) / operators / windows if windows > 0 else 0.0
    return Load(len(times), mean, worst / operators, _flood_us(times, span, operators) / MINUTE)


def _flood_us(times: Sequence[Micros], span: Span, operators: int) -> Micros:
    """How long it is flood: from more than FLOOD within the window until fewer than OVER, for each operator."""
    steps = sorted([(t, 1) for t in times] + [(t + WINDOW, -1) for t in times])
    count, flood, total = 0, False, 0
    for (t, step), (following, _) in pairwise([*steps, (span.end, 0)]):
        count += step
        flood = count >= OVER * operators if flood else count > FLOOD * operators
        if flood:
            total += max(0, min(following, span.end) - t)
    return total


@dataclass(frozen=True)
class Report:
    """The whole comparison over `span`. `scores`: how each set told what is known to have happened, if that is known."""

    span: Span
    difference: Difference
    alarms: dict[Name, list[Alarm]]
    loads: dict[Name, Load]
    suppressed: dict[Name, int]
    scores: dict[Name, Score] | None

    @property
    def newly_missed(self) -> tuple[str, ...]:
        """Incidents that the base finds and the candidate does not: the finding of a backtest."""
        if self.scores is None:
            return ()
        missed = {name: {r.happened.id for r in found.missed} for name, found in self.scores.items()}
        return tuple(sorted(missed["candidate"] - missed["base"]))

    def json(self) -> dict[str, Any]:
        found = self.difference
        said: dict[str, Any] = {
            "from": _iso(self.span.start),
            "to": _iso(self.span.end),
            "new": [alarm.json() for alarm in found.new],
            "lost": [alarm.json() for alarm in found.lost],
            "moved": [pair.json() for pair in found.moved],
            "same": len(found.same),
            "empty": found.empty,
        }
        for name in get_args(Name):
            said[name] = {
                **self.loads[name]._asdict(),
                "suppressed": self.suppressed[name],
                "by_priority": {p: sum(a.priority == p for a in self.alarms[name]) for p in PRIORITIES},
            }
            if self.scores is not None:
                mine = self.scores[name]
                said[name] |= {
                    "incidents": len(mine.counted),
                    "missed": [r.happened.id for r in mine.missed],
                    "false": len(mine.false),
                }
        if self.scores is not None:
            said["newly_missed"] = list(self.newly_missed)
        return said

    def changes(self) -> Iterator[tuple[str, str, str, str, str]]:
        """A row for each difference, in the order of time: what, rule, whom, when, how."""
        found = self.difference
        rows = [(a.start, "new", a, _lasting(a)) for a in found.new]
        rows += [(a.start, "lost", a, _lasting(a)) for a in found.lost]
        rows += [(p.base.start, _kind(p), p.base, _how(p)) for p in found.moved]
        for start, what, alarm, how in sorted(rows, key=lambda row: (_when(row[2]), row[1])):
            yield what, alarm.rule, " ".join(f"{k}={v}" for k, v in alarm.labels), _iso(start), how


def report(
    backtest: Backtest,
    span: Span,
    operators: int = 1,
    truth: tuple[Sequence[Happened], Sequence[Span]] | None = None,
) -> Report:
    """Compare what both sets told of the span: alarms that stood in it, and those that operators heard of in it."""
    alarms: dict[Name, list[Alarm]] = {}
    loads: dict[Name, Load] = {}
    scores: dict[Name, Score] = {}
    for name, side in backtest.sides.items():
        mine = [a for a in side.alarms() if a.start < span.end and (a.end is None or a.end >= span.start)]
        alarms[name] = mine
        loads[name] = load(side.loud, span, operators)
        if truth is not None:
            happened, known = truth
            scores[name] = score(happened, map(_told, mine), _within(known, span))
    difference = compare(alarms["base"], alarms["candidate"])
    suppressed = {name: len(side.suppressed) for name, side in backtest.sides.items()}
    return Report(span, difference, alarms, loads, suppressed, scores if truth is not None else None)


def _within(spans: Sequence[Span], bounds: Span) -> list[Span]:
    cut = [Span(max(s.start, bounds.start), min(s.end, bounds.end)) for s in spans]
    return [s for s in cut if s.start < s.end]


def _told(alarm: Alarm) -> Told:
    subjects = frozenset(value for _, value in alarm.labels)
    return Told(alarm.id, alarm.rule, subjects, alarm.start, alarm.end, alarm.told)


# --- words --------------------------------------------------------------------------------------------------------------


def _kind(pair: Pair) -> str:
    if pair.later_us:
        return "later" if pair.later_us > 0 else "earlier"
    return "changed"


def _how(pair: Pair) -> str:
    base, candidate = pair
    said = [f"begins {_by(pair.later_us)}"] if pair.later_us else []
    if base.end != candidate.end:
        if base.end is None or candidate.end is None:
            said.append("still stands" if candidate.end is None else "is over")
        else:
            said.append(f"ends {_by(candidate.end - base.end)}")
    if base.priority != candidate.priority:
        said.append(f"{base.priority} is {candidate.priority}")
    if base.peak != candidate.peak:
        said.append(f"peak {_number(base.peak)} is {_number(candidate.peak)}")
    return ", ".join(said)


def _by(us: Micros) -> str:
    return f"{duration_text(abs(us) // 1000 * 1000)} {'later' if us > 0 else 'earlier'}"


def _lasting(alarm: Alarm) -> str:
    lasts = "still stands" if alarm.end is None else f"for {duration_text(alarm.end - alarm.start)}"
    return f"{alarm.priority} {lasts}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _iso(us: Micros) -> str:
    return moment(us).isoformat().replace("+00:00", "Z")
