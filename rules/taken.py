"""The events of one subject as the judge takes them, for the question why a rule did not sound; and the form of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from models.decode import Rejection
from rules import spec
from rules.calendar import INF
from rules.derive import Given, episodes, fed
from rules.machine import VALUES, Scheduled, T
from rules.program import compile_program
from rules.series import Series
from rules.terms import values_of
from rules.trace import view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.alarm import Alarm, Text
    from models.base import Event, Micros
    from rules.clauses import Clause
    from rules.machine import Kind, Sample
    from rules.trace import View

Code = Literal[
    "version", "unknown_subject", "unregistered", "raised", "retracted", "suppressed", "shelved", "untold", "held",
    "maintenance", "calendar", "late", "rejected", "duplicate", "conflict", "blind", "waiting", "short", "window", "few",
    "span", "learning", "where", "no_value", "clause", "heard", "over",
]  # fmt: skip


class Heard(NamedTuple):
    """One record: when it arrived, and the event in it or why it is none. `late`: so the store has it marked."""

    stamp: Micros
    found: Event | Rejection
    offset: int = -1
    digest: int = 0
    late: bool = False


class InForce(NamedTuple):
    """From `since` on a set of rules is in force; the first from the beginning."""

    since: Micros
    version: int
    rules: spec.RuleSet


class Asked(NamedTuple):
    """Why did this rule not sound of this subject at this moment? `late_us` replaces the topic's L.

    `from_`: what is recorded of before was not read.
    """

    rule: str
    subject: str
    at: Micros
    late_us: Micros | None = None
    from_: Micros = -INF


class Answer(NamedTuple):
    """The reason, in one word of a closed list and in a sentence; what else is worth knowing; the failed comparisons."""

    code: Code
    text: Text
    also: tuple[Text, ...] = ()
    clauses: tuple[Clause, ...] = ()
    alarm_id: str | None = None
    missing_us: Micros | None = None


class Subject:
    """One question: the rule as it was in force, and the subject's events as the judge took them."""

    def __init__(self, asked: Asked, now: InForce, records: list[Heard], alarms: list[Alarm]) -> None:
        self.at, self.key = asked.at, asked.subject
        self.rule = next(r for r in now.rules.rules if r.id == asked.rule)
        self.event = self.rule.event
        self.sensor = next((s for s in now.rules.registry.of(self.rule.on) if s.key == self.key), None)
        self.rules = now.rules
        self.late_us = self.event.topic.late_us if asked.late_us is None else asked.late_us
        self.alarms = [a for a in alarms if a.rule == asked.rule and "/".join(a.labels.values()) == self.key]
        alone = spec.RuleSet(
            rules=(self.rule,),
            calendars=now.rules.calendars,
            registry=spec.Registry(sensors=() if self.sensor is None else (self.sensor,)),
        )
        program = compile_program(alone, now.version, self.event).of(self.key)
        self.kind: Kind | None = program.kinds[0] if program.kinds else None
        self.initial = program.initial(self.key, None)
        self._take(records)
        if self.sensor is not None and self.kind is not None:
            self.initial = program.initial(self.key, min(max(now.since, asked.from_), self.at))
        self.given = (
            None if self.kind is None else Given(self.kind, self.initial[0], -INF, self.samples, self.at)
        )

    def _take(self, records: list[Heard]) -> None:
        """Sort out late, duplicate, conflict and rejected; what is left is in the order of the fold."""
        topic, values = self.event.topic, values_of(self.event)
        series = Series(self.key, (0, ()), -INF)
        alone, sub = topic.kind == "samples", topic.series[len(topic.key) :]
        self.rejected: list[Heard] = []
        self.lost: list[tuple[Code, Heard, Sample]] = []
        clock_us = -INF
        for heard in records:
            clock_us = max(clock_us, heard.stamp)
            if isinstance(heard.found, Rejection):
                self.rejected.append(heard)
                continue
            event = heard.found
            if topic.key_of(event) != self.key:
                continue
            part = "/".join(str(getattr(event, name)) for name in sub)
            sample: Sample = (
                event.at, event.event_id, part, heard.offset, event.revision, heard.digest, values(event)
            )  # fmt: skip
            late_comer = series.samples and series.samples[-1][T] >= event.at
            before = list(series.samples) if late_comer else []
            verdict = "late" if heard.late else series.add(sample, clock_us, self.late_us, alone=alone)
            if verdict in ("late", "duplicate"):
                self.lost.append((verdict, heard, sample))
            elif verdict == "conflict":
                gone = [s for s in before if s not in series.samples]
                self.lost += [("conflict", heard, s) for s in gone]
        self.all = series.samples
        self.samples = [s for s in self.all if s[T] <= self.at]

    def covers(self, samples: Sequence[Sample]) -> bool:
        """Whether an episode would stand at the moment, of these samples."""
        assert self.given is not None
        return any(
            e.start <= self.at and (e.end is None or e.end > self.at) for e in episodes(self.given, samples)
        )

    @property
    def last(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def chosen(self, sample: Sample) -> bool:
        return self.rule.where is None or bool(self.rule.compile_where(self.rule.where).fn(sample[VALUES]))


def seen_of(given: Given) -> View:
    """What can be seen of the state at the moment."""
    kind, state = given.kind, _folded(given)
    return view(kind, state)


def _folded(given: Given) -> Any:
    kind, state = given.kind, given.state
    for sample in given.samples:
        state = fed(kind, state, sample, [])
    return kind.expire(state, given.clock, []) if kind.due(state) <= given.clock else state


def inner(given: Given) -> tuple[Any, Any]:
    """The kind below calendars and maintenance, with its state."""
    kind, state = given.kind, _folded(given)
    while isinstance(kind, Scheduled):
        kind, state = kind.kind, None if state is None else state[0]
    return kind, state
