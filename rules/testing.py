"""Tests beside the rules: a short notation for what sensors say, and the alarms that must come of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from models.base import ENVELOPE, PLACE_FIELDS, Event, Micros, moment
from rules.calendar import Calendar
from rules.expecting import START, Expected, InputError, differences, offset
from rules.load import RULE, RulesError, documents
from rules.situations import WIDE
from rules.spec import Absence, Interval, Registry, RuleSet, Schedule, Sensor
from rules.terms import Data, Duration, Lasting, duration_us
from rules.wide_testing import WideTest, WrittenWide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rules.load import Document, Where
    from rules.situations import AnyWide
    from rules.spec import AnyRule

    #: Judges the events in order with the rules in force from START, lets the clock run to the last argument.
    Judge = Callable[[RuleSet, list[Event], Micros], list[Interval]]

MAX_SAMPLES = 20_000

_NOTATION = re.compile(r"(.*\S)\s+@((?:\d+(?:ms|s|m|h|d))+)")
_TOKEN = re.compile(r"\([^()]*\)\S*|\S+")
_REPEATED = re.compile(r"(.+)x(\d{1,5})", re.DOTALL)

_GIVEN = ("at", "event_id", "quality", "revision", *PLACE_FIELDS)


class _Known(Data):
    """A subject of the test's registry."""

    key: str | dict[str, str]
    every: Lasting


class Written(Data):
    """A test as it is written."""

    name: Annotated[str, Field(min_length=1)]
    rule: str | None = None
    series: dict[str, Any] | list[dict[str, Any]] | None = None
    events: list[dict[str, Any]] | None = None
    sensors: tuple[_Known, ...] = ()
    until: Duration = "1h"
    expect: tuple[Expected, ...]


@dataclass(frozen=True)
class RuleTest:
    """One test: its rule alone is in force, over the events of `events()`."""

    name: str
    rule: AnyRule
    data: Written
    file: str
    line: int
    calendars: tuple[Calendar, ...] = ()

    def events(self) -> list[Event]:
        """Valid events in order of time. Raises InputError."""
        found = sorted(self._rows(), key=lambda row: row[0])
        return [_event(self.rule.event, n, at, fields, loc) for n, (at, fields, loc) in enumerate(found)]

    def rules(self) -> RuleSet:
        """The rule, and the registry of what the test names; an absence knows whom it heard in the test, too."""
        topic = self.rule.on
        sensors = [Sensor.model_validate({"topic": topic, **s.model_dump()}) for s in self.data.sensors]
        if isinstance(self.rule, Absence | Schedule) and not sensors:
            step = self._step() or "1m"
            keys = sorted({self.rule.event.topic.key_of(e) for e in self.events()})
            sensors = [Sensor(topic=topic, key=key, every=step) for key in keys]
        registry = Registry(sensors=tuple(sensors))
        return RuleSet(rules=(self.rule,), calendars=self.calendars, registry=registry)

    def until(self) -> Micros:
        """When the clock stops: so long after the last event."""
        last = max((at for at, _, _ in self._rows()), default=0)
        return START + last + duration_us(self.data.until)

    def _series(self) -> list[dict[str, Any]]:
        series = self.data.series
        return [] if series is None else series if isinstance(series, list) else [series]

    def _step(self) -> str | None:
        found = (_NOTATION.fullmatch(v) for s in self._series() for v in s.values() if isinstance(v, str))
        return next((m[2] for m in found if m), None)

    def _rows(self) -> Iterator[_Row]:
        for i, series in enumerate(self._series()):
            loc: _Loc = ("series", i) if isinstance(self.data.series, list) else ("series",)
            yield from _samples(series, loc)
        for i, fields in enumerate(self.data.events or []):
            if "at" not in fields:
                raise InputError(("events", i), "an event says when: at: 5m")
            yield _Row(offset(fields["at"], ("events", i, "at")), fields, ("events", i))


#: A test of a rule on a topic, or of one over signals.
Test = RuleTest | WideTest

_Loc = tuple[str | int, ...]


class _Row(NamedTuple):
    at: Micros
    fields: dict[str, Any]
    loc: _Loc


def parse_tests(paths: str | Path | Iterable[str | Path]) -> list[Test]:
    """The tests in these files (or the *.yaml of a folder), each with its rule. Raises RulesError."""
    problems: list[str] = []
    read = documents(paths)
    calendars = tuple(c for document in read for _, c in _valid(document, "calendars", _CALENDAR, problems))
    rules = [dict(_valid(document, "rules", RULE, problems)) for document in read]
    topical = tuple(r for of_file in rules for r in of_file.values() if not isinstance(r, WIDE))
    found: list[Test] = []
    for document, mine in zip(read, rules, strict=True):
        for i, item in enumerate(document.section("tests", problems)):
            found += _test(_Read(document, i, item, mine), calendars, topical, problems)
    if problems:
        raise RulesError(problems)
    return found


def run(test: Test, judge: Judge) -> list[str]:
    """What is different from what the test expects; nothing if it passes. `judge` is for rules on a topic."""
    try:
        if isinstance(test, WideTest):
            return test.run()
        events, rules = test.events(), test.rules()
    except (InputError, ValidationError) as error:
        return [f"cannot be run: {error}"]
    return differences(test.data.expect, judge(rules, events, test.until()))


# --- reading ----------------------------------------------------------------------------------------------------------

_TEST: TypeAdapter[Written] = TypeAdapter(Written)
_WIDE_TEST: TypeAdapter[WrittenWide] = TypeAdapter(WrittenWide)
_CALENDAR: TypeAdapter[Calendar] = TypeAdapter(Calendar)


def _valid(
    document: Document, part: str, adapter: TypeAdapter[Any], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    """What stands in a section of a file, by id."""
    for i, item in enumerate(document.section(part, problems)):
        found = document.validated(adapter, item, (part, i), problems)
        if found is not None:
            yield found.id, found


class _Read(NamedTuple):
    """A test as it was read: the i-th of its file, which has these rules."""

    document: Document
    i: int
    item: Any
    rules: dict[str, AnyRule | AnyWide]

    def where(self, *loc: str | int) -> Where:
        return self.document.where(("tests", self.i, *loc))


def _test(
    read: _Read, calendars: tuple[Calendar, ...], topical: tuple[AnyRule, ...], problems: list[str]
) -> Iterator[Test]:
    """The test, or what is wrong with it in `problems`."""
    said = read.item.get("rule") if isinstance(read.item, dict) else None
    name = said or (next(iter(read.rules)) if len(read.rules) == 1 else None)
    rule = read.rules.get(name) if isinstance(name, str) else None
    wide = isinstance(rule, WIDE)
    data = read.document.validated(_WIDE_TEST if wide else _TEST, read.item, ("tests", read.i), problems)
    if data is None:
        return
    if rule is None:
        of_file = ", ".join(read.rules) or "there is none"
        problems.append(f"{read.where('rule')}: rule: one of the rules of this file ({of_file})")
        return
    file, line = read.where("name")
    test: Test = (
        WideTest(data.name, rule, data, file, line, topical, calendars)
        if isinstance(rule, WIDE)
        else RuleTest(data.name, rule, data, file, line, calendars)
    )
    try:
        if isinstance(test, RuleTest):
            test.events()
        test.rules()
    except InputError as error:
        problems.append(f"{read.where(*error.loc)}: {error}")
    except ValidationError as error:
        first = error.errors()[0]
        part = "sensors" if "sensors" in first["loc"] else "rule"
        problems.append(f"{read.where(part)}: {first['msg']}")
    else:
        yield test


# --- the notation -----------------------------------------------------------------------------------------------------


def _samples(series: dict[str, Any], loc: _Loc) -> Iterator[_Row]:
    """The rows of one series. `_` in every field that varies: nothing is heard, and the time passes."""
    start = offset(series.get("at", "0s"), (*loc, "at"))
    varying: dict[str, list[Any]] = {}
    steps: set[str] = set()
    for name, value in series.items():
        notation = _NOTATION.fullmatch(value) if isinstance(value, str) else None
        if notation:
            varying[name] = _expanded(notation[1], (*loc, name))
            steps.add(notation[2])
    if len({duration_us(s) for s in steps}) > 1 or len({len(v) for v in varying.values()}) > 1:
        sizes = ", ".join(f"{name} has {len(v)}" for name, v in varying.items())
        raise InputError(loc, f"fields of one series have one @step and one length; {sizes}")
    step = duration_us(next(iter(steps), "0s"))
    if varying and not step:
        raise InputError(loc, "a series takes its time: the step must be longer than nothing")
    for n, row in enumerate(zip(*varying.values(), strict=True) if varying else [()]):
        if varying and all(value is _MISSING for value in row):
            continue
        values = {k: None if v is _MISSING else v for k, v in zip(varying, row, strict=True)}
        yield _Row(start + n * step, series | values, loc)


_MISSING = object()


def _expanded(text: str, loc: _Loc) -> list[Any]:
    """The values of "60x5 90 _ _ (48 52)x5"."""
    out: list[Any] = []
    for token in _TOKEN.findall(text):
        repeated = _REPEATED.fullmatch(token)
        value, times = (repeated[1], int(repeated[2])) if repeated else (token, 1)
        if value.startswith("(") or value.endswith(")"):
            if not (value.startswith("(") and value.endswith(")")) or times == 1:
                raise InputError(loc, f"{token}: a group is written (48 52)x5, and holds no other")
            values = _expanded(value[1:-1], loc)
        else:
            values = [_MISSING if value == "_" else _scalar(value)]
        if len(out) + len(values) * times > MAX_SAMPLES:
            raise InputError(loc, f"more than {MAX_SAMPLES} samples")
        out += values * times
    return out


def _scalar(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text, text)


def _event(event: type[Event], n: int, at: Micros, fields: dict[str, Any], loc: _Loc) -> Event:
    """A valid event; what every event has, and a key that the test does not name, is filled in."""
    own = [name for name in event.model_fields if name not in ENVELOPE]
    for name in fields:
        if name not in (*own, *_GIVEN):
            raise InputError((*loc, name), f"{event.topic.name} has no field {name}; it has {', '.join(own)}")
    data: dict[str, Any] = {"event_id": f"t{n:05d}", "source_id": "test"}
    data |= {name: "tok_" + "0" * 32 for name in event.personal() if event.model_fields[name].is_required()}
    data |= {name: f"{name.removesuffix('_id')}-1" for name in event.topic.key}
    data |= {k: v for k, v in fields.items() if v is not None and k != "at" and k not in PLACE_FIELDS}
    place = {k: v for k, v in fields.items() if k in PLACE_FIELDS and v is not None}
    data |= {"observed_at": moment(START + at).isoformat()} | ({"place": place} if place else {})
    try:
        return event.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        raise InputError((*loc, *where[-1:]), f"{'.'.join(where)}: {first['msg']}") from None
