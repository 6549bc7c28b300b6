"""The rules of one version for one topic, compiled: what a series' states are folded with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rules import spec
from rules.calendar import Hours, Service
from rules.machine import (
    INF,
    VALUES,
    Absence,
    Baseline,
    Count,
    Deadline,
    Episode,
    Happening,
    Kind,
    Level,
    Rate,
    Ratio,
    Sample,
    Scheduled,
    Threshold,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.alarm import Category, Certainty, Text, Urgency
    from models.base import Event, Micros, Place
    from rules.calendar import Calendar

States = tuple[Any, ...]


class Entry(NamedTuple):
    """One compiled rule. `digest` tells whether another version's rule of this id is the same rule.

    `fixed`: the words that fields must have for it to look at an event at all. `memory`: of two rules that are not the same but have this in common, the later goes on with what the earlier `kept`.
    """

    id: str
    kind: Kind
    digest: bytes
    rule: spec.AnyRule
    fixed: Mapping[str, frozenset[str]]
    memory: bytes | None = None

    @property
    def title(self) -> Text:
        return self.rule.title

    @property
    def instruction(self) -> Text | None:
        return self.rule.instruction

    @property
    def urgency(self) -> Urgency:
        return self.rule.urgency

    @property
    def certainty(self) -> Certainty:
        return self.rule.certainty

    @property
    def category(self) -> Category:
        return self.rule.category


class Program:
    """States are a tuple in the order of `entries`; None is quiet."""

    def __init__(
        self,
        version: int,
        entries: tuple[Entry, ...],
        sensors: tuple[spec.Sensor, ...] = (),
        calendars: tuple[Calendar, ...] = (),
        *,
        one: bool = False,
    ) -> None:
        self.version = version
        self.entries = entries
        self.sensors = {s.key: s for s in sensors}
        self.calendars = {c.id: c for c in calendars}
        self.kinds = tuple(e.kind for e in entries)
        self._always, self._by_word = _sorted(entries)
        self.rules = {e.id: e for e in entries}
        self.subjects: dict[str, Micros] = {s.key: s.every_us for s in sensors}
        self.places: dict[str, Place] = {s.key: s.place for s in sensors if s.place is not None}
        self._quiet: States = (None,) * len(entries)
        #: Rules for some subjects alone, by the words of the key that say which; and what is left for all the others.
        self._particular = {} if one else _particular(entries)
        self._served = frozenset() if one else frozenset(s.key for s in sensors if s.maintenance)
        self._words = {word for _, word in self._particular}
        self._made: dict[str, Program] = {}
        #: One for all subjects of the same rules; of a subject that has rules of its own only which it is, is kept.
        self._shared_by: dict[frozenset[int], Program] = {}
        self._common = self if not self._particular else self._with(self._chosen(frozenset()), None)
        self._shared_by[frozenset()] = self._common

    def of(self, key: str) -> Program:
        """The program as it is for this subject. Its states are those of no other program.

        Rules for other subjects are not in it, and a sensor that at times is out of service has its own.
        """
        if self._common is self and not self._served:
            return self
        found = self._made.get(key)
        if found is None:
            nobody = key not in self._served and self._words.isdisjoint(key.split("/"))
            found = self._common if nobody else self._made_for(key)
        return found

    def _made_for(self, key: str) -> Program:
        parts = key.split("/")
        found = (n for part in enumerate(parts) for n in self._particular.get(part, ()))
        mine = frozenset(n for n in found if _concerns(self.entries[n], parts))
        if key in self._served:
            made = self._with(self._chosen(mine), self.sensors[key])
        else:
            made = self._shared_by.get(mine) or self._with(self._chosen(mine), None)
            self._shared_by[mine] = made
        self._made[key] = made
        return made

    def _chosen(self, mine: frozenset[int]) -> list[Entry]:
        particular = {n for numbers in self._particular.values() for n in numbers}
        return [e for n, e in enumerate(self.entries) if n in mine or n not in particular]

    def _with(self, entries: list[Entry], sensor: spec.Sensor | None) -> Program:
        """A program of these entries; for a sensor that at times is out of service, its own."""
        if sensor is not None:
            windows = Service([m.span for m in sensor.maintenance])
            entries = [e._replace(kind=Scheduled(e.kind, windows)) for e in entries]
        made = Program(self.version, tuple(entries), one=True)
        # One registry for all of them: a program for each of a thousand gauges may not copy it.
        made.sensors, made.calendars = self.sensors, self.calendars
        made.subjects, made.places = self.subjects, self.places
        return made

    def alone(self, rule: str, key: str) -> spec.RuleSet:
        """A set of just this rule, the calendars that it needs, and what the registry says of the subject."""
        named = self.rules[rule].rule
        days = {c.id: c for c in _excepted(named.during, self.calendars)} if named.during is not None else {}
        sensors = (self.sensors[key],) if key in self.sensors else ()
        return spec.RuleSet(
            rules=(named,), calendars=tuple(days.values()), registry=spec.Registry(sensors=sensors)
        )

    def initial(self, key: str, since: Micros | None) -> States:
        """States of a subject not heard yet; the registry's subjects are listened for `since` then."""
        if since is None or key not in self.subjects:
            return self._quiet
        return tuple(k.initial(since, self.subjects[key]) for k in self.kinds)

    def feed(self, states: States, sample: Sample, closed: list[tuple[str, Episode]]) -> States:
        after: list[Any] | None = None
        ended: list[Episode] = []
        values = sample[VALUES]
        feeds = self._always
        for place, by_word in self._by_word:
            feeds = feeds + by_word.get(values[place], ())
        for i, wakes, feed in feeds:
            before = states[i]
            if before is None and not wakes(values):
                continue
            state = feed(before, sample, ended)
            if state is not before:
                if after is None:
                    after = list(states)
                after[i] = state
            if ended:  # what is over at once leaves its state as it was
                closed += [(self.entries[i].id, episode) for episode in ended]
                ended.clear()
        return states if after is None else self._shared(after)

    def expire(self, states: States, upto: Micros, closed: list[tuple[str, Episode]]) -> States:
        if states == self._quiet or self.due(states) > upto:
            return states
        after = []
        for entry, state in zip(self.entries, states, strict=True):
            ended: list[Episode] = []
            after.append(entry.kind.expire(state, upto, ended))
            closed += [(entry.id, episode) for episode in ended]
        return self._shared(after)

    def _shared(self, states: list[Any]) -> States:
        """As a tuple; all that are quiet share one, however many rules there are."""
        found = tuple(states)
        return self._quiet if found == self._quiet else found

    def due(self, states: States) -> Micros:
        soonest = INF
        for kind, state in zip(self.kinds, states, strict=True):
            if state is not None and (due := kind.due(state)) < soonest:
                soonest = due
        return soonest

    def open(self, states: States) -> list[tuple[str, Episode]]:
        found = []
        for entry, state in zip(self.entries, states, strict=True):
            if state is not None:
                episode = entry.kind.open(state)
                if episode is not None:
                    found.append((entry.id, episode))
        return found

    def take_over(
        self, old: Program, states: States, at: Micros, key: str, closed: list[tuple[str, Episode]]
    ) -> States:
        """States under this program from `at` on: a rule that is the same goes on, one that is not ends there."""
        mine = dict(zip((e.id for e in self.entries), self.initial(key, at), strict=True))
        for entry, state in zip(old.entries, states, strict=True):
            new = self.rules.get(entry.id)
            listening = not entry.kind.listens or key in self.subjects
            if new is not None and new.digest == entry.digest and listening:
                if state is not None:
                    state = self._moved(entry, new, state, at, key, closed)
                    if new.kind.listens and old.subjects.get(key) != self.subjects[key]:
                        state = new.kind.paced(state, self.subjects[key], at)
                    mine[entry.id] = state
                continue
            if state is not None and (episode := entry.kind.open(state)) is not None:
                closed.append((entry.id, episode._replace(end=at)))
            if new is not None and new.memory is not None and new.memory == entry.memory:
                mine[entry.id] = self._moved(entry, new, entry.kind.kept(state), at, key, closed)
        return self._shared([mine[e.id] for e in self.entries])

    def _moved(
        self, old: Entry, new: Entry, state: Any, at: Micros, key: str, closed: list[tuple[str, Episode]]
    ) -> Any:
        """A state of a rule that goes on, where its sensor's maintenance is not what it was."""
        before, after = _service(old.kind), _service(new.kind)
        if before == after or state is None:
            return state
        if before is not None:
            state = state[0]
            if state is None:
                return new.kind.initial(at, self.subjects.get(key, 0))
        if not isinstance(new.kind, Scheduled) or after is None:
            return state
        ended: list[Episode] = []
        moved = new.kind.wrap(state, at, self.subjects.get(key, 0), ended)
        closed += [(old.id, episode) for episode in ended]
        return moved


def _service(kind: Kind) -> object:
    """The spans for which a sensor is out of service; None: it never is."""
    return kind.windows.out if isinstance(kind, Scheduled) and isinstance(kind.windows, Service) else None


def _particular(entries: Sequence[Entry]) -> dict[tuple[int, str], list[int]]:
    """The numbers of the rules that name words of a part of the key, by that part and word."""
    found: dict[tuple[int, str], list[int]] = {}
    for n, entry in enumerate(entries):
        said = entry.fixed
        for part, name in enumerate(entry.rule.by):
            if name in said:
                for word in said[name]:
                    found.setdefault((part, word), []).append(n)
                break
    return found


def _concerns(entry: Entry, parts: Sequence[str]) -> bool:
    """Whether the rule looks at events of the subject with these parts of its key."""
    said = entry.fixed
    return all(part in said[name] for name, part in zip(entry.rule.by, parts, strict=True) if name in said)


_Feed = tuple[int, Any, Any]
_Feeds = tuple[_Feed, ...]


def _sorted(entries: Sequence[Entry]) -> tuple[_Feeds, tuple[tuple[int, dict[str, _Feeds]], ...]]:
    """The folds by what they look at: at every event; or only at one that has a certain word at some place of its values.

    A rule that does not look at an event leaves its state as it is, so that it need not be asked.
    """
    always: list[_Feed] = []
    by_word: dict[int, dict[str, list[_Feed]]] = {}
    for n, entry in enumerate(entries):
        feed = (n, entry.kind.wakes, entry.kind.feed)
        names = {name: words for name, words in entry.fixed.items() if name not in entry.rule.by}
        if not names:
            always.append(feed)
            continue
        name, words = min(names.items(), key=lambda item: (len(item[1]), item[0]))
        table = by_word.setdefault(entry.rule.index_of(name), {})
        for word in words:
            table.setdefault(word, []).append(feed)
    return tuple(always), tuple(
        (place, {word: tuple(feeds) for word, feeds in table.items()})
        for place, table in sorted(by_word.items())
    )


#: Before the first control record nothing is in force.
EMPTY = Program(-1, ())


def compile_program(rules: spec.RuleSet, version: int, event: type[Event]) -> Program:
    """The program of a set for one topic. `version` is the set's offset in `city.rules.v1`."""
    topic = event.topic.name
    calendars = {calendar.id: calendar for calendar in rules.calendars}
    entries = tuple(_entry(rule, calendars) for rule in rules.of(topic))
    return Program(version, entries, rules.registry.of(topic), rules.calendars)


def _entry(rule: spec.AnyRule, calendars: Mapping[str, Calendar]) -> Entry:
    kind, digest = _kind(rule), rule.model_dump_json().encode()
    memory = None
    if isinstance(rule, spec.Baseline):
        memory = repr((rule.on, rule.of, rule.where, rule.least, rule.during)).encode()
    if rule.during is not None:
        kind = Scheduled(kind, Hours(calendars[rule.during], calendars))
        digest += b"".join(c.model_dump_json().encode() for c in _excepted(rule.during, calendars))
    return Entry(rule.id, kind, digest, rule, rule.fixed, memory)


def _excepted(name: str, calendars: Mapping[str, Calendar]) -> Iterator[Calendar]:
    """A calendar and those that it excepts."""
    yield calendars[name]
    for other in calendars[name].except_:
        yield from _excepted(other, calendars)


def _kind(rule: spec.AnyRule) -> Kind:
    where = None if rule.where is None else rule.compile_where(rule.where).fn
    match rule:
        case spec.Threshold():
            levels, measured = _levels(rule)
            return Threshold(levels, where, *measured)
        case spec.Rate():
            levels, measured = _levels(rule)
            return Rate(levels, rule.index_of(rule.of), (rule.over_us, rule.per_us), where, measured)
        case spec.Ratio():
            levels, measured = _levels(rule)
            span = (rule.pane_us, rule.window_us // rule.pane_us, rule.least)
            return Ratio(levels, rule.compile_where(rule.of).fn, span, where, measured)
        case spec.Count() | spec.Distinct():
            counted = [
                (Level(spec.rank(level.priority), 0, level.keep_us), level.raise_at, level.clear_below)
                for level in rule.levels
            ]
            of = rule.index_of(rule.of) if isinstance(rule, spec.Distinct) else None
            return Count(counted, rule.window_us, where, of)
        case spec.Absence():
            return Absence(spec.rank(rule.priority), rule.after_us, rule.misses, rule.wait_us)
        case spec.Schedule():
            return Absence(spec.rank(rule.priority), rule.due_us, where=where, once=True)
        case spec.Baseline():
            level = Level(spec.rank(rule.priority), 0, rule.keep_us)
            return Baseline(level, rule.index_of(rule.of), rule.raise_, rule.least, where)
        case spec.Happening():
            clear = None if rule.clear is None else rule.compile(rule.clear).fn
            rank, raised = spec.rank(rule.priority), rule.compile(rule.raise_).fn
            if rule.at is not None:
                return Deadline(rank, rule.index_of(rule.at), rule.before_us, raised, clear, where)
            return Happening(Level(rank, 0, rule.keep_us), raised, clear, where)


def _levels(
    rule: spec.Threshold | spec.Rate | spec.Ratio,
) -> tuple[list[tuple[Level, Any, Any]], tuple[Any, int]]:
    """The levels with their compiled conditions; and what is measured, with its sign."""
    raises = [rule.compile(level.raise_) for level in rule.levels]
    levels = [
        (
            Level(spec.rank(level.priority), level.for_us, level.keep_us),
            raised.fn,
            None if level.clear is None else rule.compile(level.clear).fn,
        )
        for level, raised in zip(rule.levels, raises, strict=True)
    ]
    return levels, (raises[0].measure, raises[0].measured[1] or 1)
