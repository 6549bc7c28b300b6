"""Tests beside the rules over signals: the alarms that there are, and what must be made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from models.alarm import Mark, Signal
from models.base import Micros, Place, micros, moment
from rules.calendar import INF
from rules.defined import compile_wide
from rules.expecting import START, Expected, InputError, differences
from rules.judge import fingerprint
from rules.lifecycle import Plane
from rules.situations import Inhibit, Root
from rules.spec import Interval, Registry, RuleSet, Sensor
from rules.terms import Data, Duration, RuleId, duration_us
from rules.wide import Control

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.alarm import Priority
    from rules.calendar import Calendar
    from rules.situations import AnyWide
    from rules.spec import AnyRule


class Alarmed(Data):
    """One alarm of another rule: when it begins and ends (offsets; no `end`: it stands), on whom, where.

    `held`: it is told so long after it began, if it still stands then.
    """

    rule: RuleId
    at: Duration
    end: Duration | None = None
    labels: dict[str, str]
    held: Duration | None = None
    lat: float | None = None
    lon: float | None = None
    ward: str | None = None
    site: str | None = None


class Registered(Data):
    """A sensor of the test's registry: of the topic of `rule`, with this key."""

    rule: RuleId
    key: str
    gateway: str | None = None
    ward: str | None = None
    site: str | None = None


class Labelled(Data):
    """Alarms of `rule` with these labels."""

    rule: RuleId
    labels: dict[str, str]


class WrittenWide(Data):
    """A test of a rule over signals as it is written. `suppressed` are the alarms that nobody is called for."""

    name: Annotated[str, Field(min_length=1)]
    rule: str
    alarms: tuple[Alarmed, ...]
    sensors: tuple[Registered, ...] = ()
    until: Duration = "1h"
    expect: tuple[Expected, ...]
    suppressed: tuple[Labelled, ...] | None = None


@dataclass(frozen=True)
class WideTest:
    """One test: of the rules over signals its own alone is in force, with the rules on topics that it names."""

    name: str
    rule: AnyWide
    data: WrittenWide
    file: str
    line: int
    others: tuple[AnyRule, ...]
    calendars: tuple[Calendar, ...]

    def rules(self) -> RuleSet:
        """Raises InputError for what the test names and the rule does not look at; ValidationError."""
        on = {rule.id: rule.on for rule in self.others if rule.id in self.rule.members}
        for part in ("alarms", "sensors", "suppressed"):
            for i, one in enumerate(getattr(self.data, part) or ()):
                if one.rule not in on:
                    raise InputError((part, i, "rule"), f"{self.rule.id} does not look at {one.rule}")
        sensors = [
            Sensor(topic=on[s.rule], key=s.key, every="1m", gateway=s.gateway, place=_place(s))
            for s in self.data.sensors
        ]
        return RuleSet(
            rules=tuple(rule for rule in self.others if rule.id in on),
            wide=(self.rule,),
            calendars=self.calendars,
            registry=Registry(sensors=tuple(sensors)),
        )

    def run(self) -> list[str]:
        """What is different from what the test expects; nothing if it passes."""
        rules = self.rules()
        last = max((duration_us(a.end or a.at) for a in self.data.alarms), default=0)
        found, quiet = judged(rules, list(self._signals(rules)), START + last + duration_us(self.data.until))
        told = differences(self.data.expect, found)
        if self.data.suppressed is not None:
            wanted = {(s.rule, tuple(s.labels.items())) for s in self.data.suppressed}
            told += [f"expected suppressed {_named(one)}, it was told" for one in sorted(wanted - quiet)]
            told += [f"expected told {_named(one)}, it was suppressed" for one in sorted(quiet - wanted)]
        return told

    def _signals(self, rules: RuleSet) -> Iterator[Signal]:
        """What the detectors say, in the order of time."""
        known = {rule.id: rule for rule in rules.rules}
        said: list[tuple[Micros, dict[str, Any]]] = []
        for n, alarm in enumerate(self.data.alarms):
            rule = known[alarm.rule]
            start = START + duration_us(alarm.at)
            end = None if alarm.end is None else START + duration_us(alarm.end)
            known_from = start + duration_us(alarm.held or "0s")
            fields = {
                "op": "put",
                "alarm_id": f"{alarm.rule}-{n}",
                "fingerprint": fingerprint(alarm.rule, alarm.labels),
                "rule": alarm.rule,
                "rules_version": 0,
                "topic": rule.on,
                "partition": 0,
                "labels": alarm.labels,
                "start": moment(start),
                "priority": min(rule.priorities, default=_advisory()),
                "place": _place(alarm),
                "title": rule.title,
                "held": not rule.tell,
            }
            if alarm.held is not None:
                said.append((start, {**fields, "held": True}))
            if end is None or known_from <= end:
                said.append((known_from, fields))
            if end is not None:
                held = not rule.tell or end < known_from
                said.append((end, {**fields, "end": moment(end), "held": held}))
        said.sort(key=lambda it: it[0])
        for offset, (at, fields) in enumerate(said):
            yield Signal.model_validate({**fields, "offset": offset, "k": 0, "stamp": moment(at)})


def _advisory() -> Priority:
    return "advisory"


def _place(said: Alarmed | Registered) -> Place | None:
    where = {name: getattr(said, name, None) for name in ("lat", "lon", "ward", "site")}
    where = {name: value for name, value in where.items() if value is not None}
    return Place.model_validate(where) if where else None


def _named(one: tuple[str, tuple[tuple[str, str], ...]]) -> str:
    rule, labels = one
    return f"{rule} {', '.join(f'{k}={v}' for k, v in labels)}"


def judged(
    rules: RuleSet, signals: list[Signal], until: Micros
) -> tuple[list[Interval], set[tuple[str, tuple[tuple[str, str], ...]]]]:
    """The alarms of the rules over signals once the clock has come to `until`, and whose alarms were suppressed.

    A plane reads its own conclusions after the record that caused them, and is told the time when something is due.
    """
    plane = Plane("test", own=1, wide=1)
    offset = 0

    def take(stamp: Micros, record: Signal | Mark | Control | None) -> None:
        nonlocal offset
        plane.step(offset, stamp, record)
        concluded = plane.conclude(offset, stamp, record)
        offset += 1
        for conclusion in concluded:
            take(stamp, conclusion)

    def wait(upto: Micros) -> None:
        while (due := plane.wide.due()) is not None and due <= upto:
            take(due, None)

    take(START, Control(-INF, compile_wide(rules, 0)))
    for signal in signals:
        at = micros(signal.stamp)
        wait(at - 1)
        take(at, signal)
    wait(until)
    mine = {rule.id for rule in rules.wide}
    alarms = [a for a in plane.alarms() if not a.retracted]
    found = [
        Interval(
            a.rule,
            tuple(a.labels.items()),
            micros(a.start),
            None if a.end is None else micros(a.end),
            a.priority,
            a.peak,
        )
        for a in alarms
        if a.rule in mine
    ]
    suppresses = any(isinstance(rule, Root | Inhibit) for rule in rules.wide)
    quiet = {(a.rule, tuple(a.labels.items())) for a in alarms if a.suppressed and suppresses}
    return found, quiet
