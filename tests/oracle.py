"""What the ledger must be, derived from the definitions of the kinds over whole lists of samples: no fold, nothing fast.

Nothing of the core is imported, only the grammar. Every kind is asked one question over a complete list: which of the
moments at which anything can change are such that its sentence in docs/rules.md holds? A moment is (time, order): at
one time what is due comes before the samples, and these come by their event ids.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from models.base import Event, Micros, micros
from rules import spec
from rules.baseline import Baseline, Params
from rules.calendar import DAY, INF, OFFSET, Hours, union, without
from rules.spec import Interval
from rules.terms import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rules.calendar import Span
    from rules.expr import Expr

#: (time, order): DUE is before the samples of a time, which are numbered from 1; FIRST and LAST are before and after all.
Moment = tuple[Micros, int]
FIRST, DUE, LAST = -1, 0, 1 << 40


class Known(NamedTuple):
    """An interval of the ledger. `held`: it is no alarm, or not yet one; only rules over signals know of it."""

    interval: Interval
    held: bool


class Version(NamedTuple):
    """Rules, and since when they are in force: until the next."""

    since: Micros
    rules: spec.RuleSet


class Sample(NamedTuple):
    at: Moment
    event_id: str
    sub: str
    values: tuple[Any, ...]


class Window(NamedTuple):
    """A time in force, `stop` its last moment that is looked at. `end`: when it is over; None: not yet, when we look."""

    begin: Micros
    stop: Moment
    end: Micros | None


class Mark(NamedTuple):
    """What is known of one level at a moment: it is raised, it is not (False), neither can be said (None)."""

    at: Moment
    raised: bool | None
    cleared: bool


class Spell(NamedTuple):
    """A level is pending from `pend`, active from `on` (None: never) to `off` (None: until the end)."""

    pend: Moment
    on: Moment | None
    off: Moment | None


class Lasted(NamedTuple):
    """What a rule yields of one subject, before it has a name."""

    start: Micros
    end: Micros | None
    rank: int
    peak: float | None = None
    held: bool = False


def ledger(
    versions: Sequence[Version], events: Iterable[Event], until: Micros, event: type[Event]
) -> list[Known]:
    """The ledger at `until` of the rules on one topic over the events that are not late."""
    topic, values = event.topic, values_of(event)
    heard: dict[str, list[Event]] = defaultdict(list)
    for e in settled(events):
        if micros(e.observed_at) <= until:
            heard[topic.key_of(e)].append(e)
    there = {s.key for v in versions for s in v.rules.registry.of(topic.name)}
    found = []
    for key in sorted({*heard, *there}):
        samples = [
            Sample(
                (micros(e.observed_at), n),
                e.event_id,
                "/".join(str(getattr(e, name)) for name in topic.series[len(topic.key) :]),
                values(e),
            )
            for n, e in enumerate(heard[key], start=1)
        ]
        labels = tuple(zip(topic.key, key.split("/"), strict=True))
        for rule, lasted in _all(versions, topic.name, key, samples, until):
            priority = spec.PRIORITIES[lasted.rank]
            peak = None if lasted.end is None else lasted.peak
            interval = Interval(rule.id, labels, lasted.start, lasted.end, priority, peak)
            found.append(Known(interval, lasted.held or not rule.tell))
    return sorted(found, key=repr)


def _all(
    versions: Sequence[Version], topic: str, key: str, samples: Sequence[Sample], until: Micros
) -> Iterator[tuple[spec.AnyRule, Lasted]]:
    for name in sorted({rule.id for v in versions for rule in v.rules.of(topic)}):
        state: Any = None
        last: spec.AnyRule | None = None
        for rule, sensor, windows in _reigns(versions, topic, key, name, until):
            if isinstance(rule, spec.Baseline):
                # Another bound, or another time to keep, is no reason to forget what is usual.
                same = isinstance(last, spec.Baseline) and _memory(rule) == _memory(last)
                found, state = _strange(rule, samples, windows, state if same else None)
            else:
                found = judged(rule, samples, windows, sensor)
            last = rule
            yield from ((rule, lasted) for lasted in found)


def settled(events: Iterable[Event]) -> list[Event]:
    """Each event once, as its greatest revision says, in the order of the fold."""
    best: dict[tuple[Micros, str], Event] = {}
    for e in events:
        name = (micros(e.observed_at), e.event_id)
        if name not in best or best[name].revision < e.revision:
            best[name] = e
    return [best[name] for name in sorted(best)]


def _reigns(
    versions: Sequence[Version], topic: str, key: str, name: str, until: Micros
) -> Iterator[tuple[spec.AnyRule, spec.Sensor | None, list[Window]]]:
    """The rule of this name in each form that it had for the subject, and the times in which that was in force.

    A form goes on through further versions that have the same rule with the same calendars.
    """
    ends = [*(v.since for v in versions), INF][1:]
    last: tuple[object, ...] | None = None
    found: list[tuple[spec.AnyRule, spec.Sensor | None, list[Span]]] = []
    for version, end in zip(versions, ends, strict=True):
        rule = next((r for r in version.rules.of(topic) if r.id == name), None)
        sensor = next((s for s in version.rules.registry.of(topic) if s.key == key), None)
        if rule is None or not _asks(rule, key, sensor):
            last = None
            continue
        form = (rule, *_calendars(rule.during, version.rules))
        if form != last:
            found.append((rule, sensor, []))
            last = form
        found[-1][2].extend(_spans(version, end, rule, sensor, until))
    for rule, sensor, spans in found:
        windows = [
            Window(a, (b, FIRST), b) if b <= until else Window(a, (until, LAST), None)
            for a, b in union(spans)
            if a <= until
        ]
        yield rule, sensor, windows


def _asks(rule: spec.AnyRule, key: str, sensor: spec.Sensor | None) -> bool:
    """Whether the rule has to do with the subject: silence is only of the registry, and `where` may name subjects."""
    named = rule.fixed
    parts = zip(rule.by, key.split("/"), strict=True)
    listens = isinstance(rule, spec.Absence | spec.Schedule)
    return all(part in named.get(name, {part}) for name, part in parts) and not (listens and sensor is None)


def _calendars(name: str | None, rules: spec.RuleSet) -> list[object]:
    """A calendar and those that it excepts."""
    found = next((c for c in rules.calendars if c.id == name), None)
    if found is None:
        return []
    return [found, *(part for other in found.except_ for part in _calendars(other, rules))]


def _spans(
    version: Version, end: Micros, rule: spec.AnyRule, sensor: spec.Sensor | None, until: Micros
) -> list[Span]:
    """The times in which the version's rule is in force: those of its calendar, less the planned maintenance."""
    spans: list[Span] = [(version.since, end)]
    if rule.during is not None:
        calendars = {calendar.id: calendar for calendar in version.rules.calendars}
        first, last = (version.since + OFFSET) // DAY - 3, (until + OFFSET) // DAY + 3
        hours = Hours(calendars[rule.during], calendars).spans(first, last)
        spans = [(max(a, version.since), min(b, end)) for a, b in hours if b > version.since and a < end]
    if sensor is not None:
        spans = without(spans, union(m.span for m in sensor.maintenance))
    return spans


def judged(
    rule: spec.AnyRule, samples: Sequence[Sample], windows: Sequence[Window], sensor: spec.Sensor | None
) -> Iterator[Lasted]:
    """What the rule yields of one subject."""
    for window in windows:
        inside = _within(rule, samples, window)
        match rule:
            case spec.Threshold() | spec.Rate() | spec.Ratio():
                yield from _leveled(rule, inside, window)
            case spec.Count() | spec.Distinct():
                yield from _counted(rule, inside, window)
            case spec.Happening():
                yield from _happened(rule, inside, window)
            case spec.Absence() | spec.Schedule():
                if sensor is not None:
                    yield from _silent(rule, inside, window, sensor)


def _within(rule: spec.AnyRule, samples: Sequence[Sample], window: Window) -> list[Sample]:
    """The samples of the window that the rule looks at."""
    where = None if rule.where is None else _choice(rule, rule.where)
    inside = [s for s in samples if (window.begin, FIRST) < s.at < window.stop]
    return [s for s in inside if where is None or where(s.values)]


@lru_cache(maxsize=2000)
def _condition(rule: spec.AnyRule, text: str) -> Expr:
    """A condition of the rule's levels; compiled once, for an episode asks it often."""
    return rule.compile(text)


@lru_cache(maxsize=2000)
def _choice(rule: spec.AnyRule, text: str) -> Expr:
    """A condition of the rule that chooses events."""
    return rule.compile_where(text)


# --- levels ---------------------------------------------------------------------------------------------------------


def spells_of(marks: Sequence[Mark], for_: Micros, keep: Micros, stop: Moment) -> list[Spell]:
    """The times for which a level is pending or active, by looking for the mark that ends each."""
    found = []
    begin: Moment = (-INF, FIRST)
    while (pend := _first(marks, begin, _raised)) is not None:
        on = pend.at if for_ == 0 else (pend.at[0] + for_, DUE)
        denied = _first(marks, pend.at, _denied)
        if denied is not None and denied.at < on:
            found.append(Spell(pend.at, None, denied.at))
            begin = denied.at
            continue
        if on > stop:
            found.append(Spell(pend.at, None, None))
            break
        off = _off(marks, on, keep)
        if off is None or off > stop:
            found.append(Spell(pend.at, on, None))
            break
        found.append(Spell(pend.at, on, off))
        begin = off
    return found


def _off(marks: Sequence[Mark], on: Moment, keep: Micros) -> Moment | None:
    """When a level that is active from `on` is off: `keep` after the first clear mark that no raise follows within it."""
    begin = on
    while (fall := _first(marks, begin, _cleared)) is not None:
        off = fall.at if keep == 0 else (fall.at[0] + keep, DUE)
        again = _first(marks, fall.at, _raised)
        if again is None or again.at > off:
            return off
        begin = again.at
    return None


def _raised(mark: Mark) -> bool:
    return mark.raised is True


def _denied(mark: Mark) -> bool:
    return mark.raised is False


def _cleared(mark: Mark) -> bool:
    return mark.cleared and mark.raised is not True


def _first(marks: Sequence[Mark], begin: Moment, holds: Callable[[Mark], bool]) -> Mark | None:
    return next((m for m in marks if m.at >= begin and holds(m)), None)


def _joined(
    levels: Sequence[tuple[int, Sequence[Spell]]],
    measured: Sequence[tuple[Moment, float | None]],
    sign: int,
    window: Window,
) -> Iterator[Lasted]:
    """One episode while any level is active, with the worst of them.

    The peak is the most extreme value since any level began to pend, as long as one pended or was active all the time.
    """
    never: Moment = (INF, LAST)
    busy = _merged([(s.pend, s.off or never) for _, spells in levels for s in spells])
    for begin, end in _merged([(s.on, s.off or never) for _, spells in levels for s in spells if s.on]):
        rank = min(r for r, spells in levels for s in spells if s.on and begin <= s.on <= end)
        left_idle = next(b for b, e in busy if b <= begin <= e)
        values = [v for at, v in measured if left_idle <= at <= end and v is not None]
        peak = None if not values else max(values) if sign > 0 else min(values)
        yield Lasted(begin[0], window.end if end == never else end[0], rank, peak)


def _merged(spans: Iterable[tuple[Moment, Moment]]) -> list[tuple[Moment, Moment]]:
    """Spans that share a moment are one."""
    found: list[tuple[Moment, Moment]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _leveled(
    rule: spec.Threshold | spec.Rate | spec.Ratio, samples: Sequence[Sample], window: Window
) -> Iterator[Lasted]:
    looked = samples
    if isinstance(rule, spec.Rate):
        looked = list(_with_rate(rule, samples))
    elif isinstance(rule, spec.Ratio):
        looked = list(_with_ratio(rule, samples))
    levels = []
    for level in rule.levels:
        raised = _condition(rule, level.raise_)
        cleared = None if level.clear is None else _condition(rule, level.clear)
        marks = []
        for s in looked:
            up = raised(s.values)
            marks.append(Mark(s.at, up, up is False if cleared is None else cleared(s.values) is True))
        spells = spells_of(marks, level.for_us, level.keep_us, window.stop)
        levels.append((spec.rank(level.priority), spells))
    first = _condition(rule, rule.levels[0].raise_)
    measured = [(s.at, None if first.measure is None else first.measure(s.values)) for s in looked]
    yield from _joined(levels, measured, first.measured[1] or 1, window)


def _with_rate(rule: spec.Rate, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples that have the value, each with how fast it changes: from the oldest one within `over` to it."""
    of = rule.index_of(rule.of)
    having = [s for s in samples if s.values[of] is not None]
    for n, s in enumerate(having):
        t = s.at[0]
        first = next(o for o in having[: n + 1] if o.sub == s.sub and o.at[0] >= t - rule.over_us)
        between = t - first.at[0]
        rate = None
        if between >= Fraction(rule.over_us, 2):
            change = Fraction(s.values[of]) - Fraction(first.values[of])
            rate = float(change / between * rule.per_us)
        yield s._replace(values=(*s.values, rate))


def _with_ratio(rule: spec.Ratio, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples of which it can be said, each with the part of which it holds in the panes up to its own."""
    of = _choice(rule, rule.of)
    said = [(s, hit) for s in samples if (hit := of(s.values)) is not None]
    panes = rule.window_us // rule.pane_us
    for n, (s, _) in enumerate(said):
        newest = s.at[0] // rule.pane_us
        hits = [hit for o, hit in said[: n + 1] if o.at[0] // rule.pane_us > newest - panes]
        ratio = float(Fraction(hits.count(True), len(hits))) if len(hits) >= rule.least else None
        yield s._replace(values=(*s.values, ratio, len(hits)))


def _counted(rule: spec.Count | spec.Distinct, samples: Sequence[Sample], window: Window) -> Iterator[Lasted]:
    """Counted at each sample, and at each moment at which one leaves the window."""
    of = rule.index_of(rule.of) if isinstance(rule, spec.Distinct) else None
    counted = [s for s in samples if of is None or s.values[of] is not None]

    def count(at: Moment) -> int:
        inside = [s for s in counted if s.at <= at and s.at[0] > at[0] - rule.window_us]
        return len(inside) if of is None else len({s.values[of] for s in inside})

    leaving = {(s.at[0] + rule.window_us, DUE) for s in counted}
    moments = sorted({s.at for s in counted} | {m for m in leaving if m < window.stop})
    levels = []
    for level in rule.levels:
        marks = [
            Mark(at, (at[1] != DUE and count(at) >= level.raise_at) or None, count(at) < level.clear_below)
            for at in moments
        ]
        levels.append((spec.rank(level.priority), spells_of(marks, 0, level.keep_us, window.stop)))
    yield from _joined(levels, [], 1, window)


# --- what has no levels -------------------------------------------------------------------------------------------


def _happened(rule: spec.Happening, samples: Sequence[Sample], window: Window) -> Iterator[Lasted]:
    rank = spec.rank(rule.priority)
    raised = _condition(rule, rule.raise_)
    if rule.at is not None:
        yield from _due(rule, samples, rank, window)
        return
    if rule.clear is None:
        yield from _chained([(s.at, None) for s in samples if raised(s.values)], rule.keep_us, rank, window)
        return
    cleared = _condition(rule, rule.clear)
    marks = [Mark(s.at, raised(s.values) or None, cleared(s.values) is True) for s in samples]
    yield from _joined([(rank, spells_of(marks, 0, rule.keep_us, window.stop))], [], 1, window)


def _due(rule: spec.Happening, samples: Sequence[Sample], rank: int, window: Window) -> Iterator[Lasted]:
    """What an event says is due stands until the next that says something; it is active from `before` its moment."""
    raised, cleared = _condition(rule, rule.raise_), _condition(rule, rule.clear or "")
    at = rule.index_of(rule.at or "")
    words: list[tuple[Moment, Micros]] = []
    for s in samples:
        if raised(s.values) and s.values[at] is not None:
            words.append((s.at, micros(s.values[at]) - rule.before_us))
        elif cleared(s.values):
            words.append((s.at, INF))
    never: Moment = (INF, LAST)
    ends = [*(said for said, _ in words), never][1:]
    spans = []
    for (said, due), end in zip(words, ends, strict=True):
        begin = max(said, (due, DUE))
        if begin < min(end, window.stop):
            spans.append((begin, end))
    for begin, end in _merged(spans):
        yield Lasted(begin[0], window.end if end == never else end[0], rank)


def _chained(
    raises: Sequence[tuple[Moment, float | None]], keep: Micros, rank: int, window: Window
) -> Iterator[Lasted]:
    """Episodes that last `keep` after the last that raised: each raise sooner than that prolongs them."""
    chains: list[list[tuple[Moment, float | None]]] = []
    for at, value in raises:
        if chains and at < (chains[-1][-1][0][0] + keep, DUE):
            chains[-1].append((at, value))
        else:
            chains.append([(at, value)])
    for chain in chains:
        off = chain[-1][0] if keep == 0 else (chain[-1][0][0] + keep, DUE)
        values = [v for _, v in chain if v is not None]
        end = off[0] if off <= window.stop else window.end
        yield Lasted(chain[0][0][0], end, rank, max(values) if values else None)


def _memory(rule: spec.Baseline) -> tuple[object, ...]:
    """What must be the same for a rule to go on with what another has learned."""
    return (rule.on, rule.of, rule.where, rule.least, rule.during)


def _strange(
    rule: spec.Baseline, samples: Sequence[Sample], windows: Sequence[Window], state: Any
) -> tuple[list[Lasted], Any]:
    """What a series usually does is learned of all its values in force; its episodes are of one window each."""
    of = rule.index_of(rule.of)
    detector = Baseline(Params(least=rule.least))
    state = detector.start() if state is None else state
    found: list[Lasted] = []
    for window in windows:
        strange: list[tuple[Moment, float | None]] = []
        for s in _within(rule, samples, window):
            value = s.values[of]
            state, score, _ = detector.step(state, s.at[0], None if value is None else float(value))
            if score is not None and score >= rule.raise_:
                strange.append((s.at, score))
        found += _chained(strange, rule.keep_us, spec.rank(rule.priority), window)
    return found, state


def _silent(
    rule: spec.Absence | spec.Schedule, samples: Sequence[Sample], window: Window, sensor: spec.Sensor
) -> Iterator[Lasted]:
    """Every pause from the window's beginning, or from a sample, to the next sample. A schedule knows the first alone."""
    rank = spec.rank(rule.priority)
    if isinstance(rule, spec.Schedule):
        allowed, wait = rule.due_us, 0
    else:
        allowed = sensor.every_us * (rule.misses or 1) if rule.after_us is None else rule.after_us
        wait = rule.wait_us
    begins = [window.begin, *(s.at[0] for s in samples)]
    ends: list[Moment | None] = [*(s.at for s in samples), None]
    pauses = list(zip(begins, ends, strict=True))
    for begin, end in pauses[:1] if isinstance(rule, spec.Schedule) else pauses:
        silent, told = (begin + allowed, DUE), (begin + allowed + wait, DUE)
        if silent < (end or window.stop):
            over = window.end if end is None else end[0]
            yield Lasted(silent[0], over, rank, held=told > (end or window.stop))
