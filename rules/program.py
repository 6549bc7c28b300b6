"""The rules of one version for one topic, compiled: what a series' states are folded with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rules import spec
from rules.machine import INF, VALUES, Absence, Count, Episode, Happening, Kind, Level, Sample, Threshold

if TYPE_CHECKING:
    from models.alarm import Category, Certainty, Text, Urgency
    from models.base import Event, Micros, Place

States = tuple[Any, ...]


class Entry(NamedTuple):
    """One compiled rule. `digest` tells whether another version's rule of this id is the same rule."""

    id: str
    kind: Kind
    digest: bytes
    rule: spec.Threshold | spec.Count | spec.Absence | spec.Happening

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
        self, version: int, entries: tuple[Entry, ...], sensors: tuple[spec.Sensor, ...] = ()
    ) -> None:
        self.version = version
        self.entries = entries
        self.kinds = tuple(e.kind for e in entries)
        self._feeds = tuple((k.wakes, k.feed) for k in self.kinds)
        self.rules = {e.id: e for e in entries}
        self.subjects: dict[str, Micros] = {s.key: s.every_us for s in sensors}
        self.places: dict[str, Place] = {s.key: s.place for s in sensors if s.place is not None}
        self._quiet: States = (None,) * len(entries)

    def initial(self, key: str, since: Micros | None) -> States:
        """States of a subject not heard yet; the registry's subjects are listened for `since` then."""
        if since is None or key not in self.subjects:
            return self._quiet
        return tuple(
            k.initial(since, self.subjects[key]) if isinstance(k, Absence) else None for k in self.kinds
        )

    def feed(self, states: States, sample: Sample, closed: list[tuple[str, Episode]]) -> States:
        after: list[Any] | None = None
        ended: list[Episode] = []
        values = sample[VALUES]
        for i, (wakes, feed) in enumerate(self._feeds):
            before = states[i]
            if before is None and not wakes(values):
                continue
            state = feed(before, sample, ended)
            if state is not before:
                if after is None:
                    after = list(states)
                after[i] = state
                if ended:
                    closed += [(self.entries[i].id, episode) for episode in ended]
                    ended.clear()
        return states if after is None else tuple(after)

    def expire(self, states: States, upto: Micros, closed: list[tuple[str, Episode]]) -> States:
        if states == self._quiet or self.due(states) > upto:
            return states
        after = []
        for entry, state in zip(self.entries, states, strict=True):
            ended: list[Episode] = []
            after.append(entry.kind.expire(state, upto, ended))
            closed += [(entry.id, episode) for episode in ended]
        return tuple(after)

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
            listening = not isinstance(entry.kind, Absence) or key in self.subjects
            if new is not None and new.digest == entry.digest and listening:
                mine[entry.id] = mine[entry.id] if state is None else state
            elif state is not None and (episode := entry.kind.open(state)) is not None:
                closed.append((entry.id, episode._replace(end=at)))
        return tuple(mine[e.id] for e in self.entries)


#: Before the first control record nothing is in force.
EMPTY = Program(-1, ())


def compile_program(rules: spec.RuleSet, version: int, event: type[Event]) -> Program:
    """The program of a set for one topic. `version` is the set's offset in `city.rules.v1`."""
    topic = event.topic.name
    entries = tuple(Entry(r.id, _kind(r), r.model_dump_json().encode(), r) for r in rules.of(topic))
    return Program(version, entries, rules.registry.of(topic))


def _kind(rule: spec.Threshold | spec.Count | spec.Absence | spec.Happening) -> Kind:
    where = None if rule.where is None else rule.compile(rule.where).fn
    if isinstance(rule, spec.Threshold):
        raises = [rule.compile(level.raise_) for level in rule.levels]
        levels = [
            (
                Level(spec.rank(level.priority), level.for_us, level.keep_us),
                raised.fn,
                None if level.clear is None else rule.compile(level.clear).fn,
            )
            for level, raised in zip(rule.levels, raises, strict=True)
        ]
        return Threshold(levels, where, raises[0].measure, raises[0].measured[1] or 1)
    if isinstance(rule, spec.Count):
        counted = [
            (Level(spec.rank(level.priority), 0, level.keep_us), level.raise_at, level.clear_below)
            for level in rule.levels
        ]
        return Count(counted, rule.window_us, where)
    if isinstance(rule, spec.Absence):
        return Absence(spec.rank(rule.priority), rule.after_us, rule.misses)
    clear = None if rule.clear is None else rule.compile(rule.clear).fn
    level = Level(spec.rank(rule.priority), 0, rule.keep_us)
    return Happening(level, rule.compile(rule.raise_).fn, clear, where)
