"""Tests beside the rules: a short notation for what sensors say, and the alarms that must come of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.alarm import Priority
from models.base import ENVELOPE, PLACE_FIELDS, Event, Micros, micros, moment
from rules.calendar import Calendar
from rules.load import RulesError, documents
from rules.spec import Absence, Interval, Registry, Rule, RuleSet, Schedule, Sensor
from rules.terms import Duration, Lasting, duration_text, duration_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rules.load import Document
    from rules.spec import AnyRule

    #: Judges the events in order with the rules in force from START, lets the clock run to the last argument.
    Judge = Callable[[RuleSet, list[Event], Micros], list[Interval]]

#: Offset 0 of every test: a Monday.
START: Micros = micros(datetime(2026, 1, 5, tzinfo=UTC))

MAX_SAMPLES = 20_000

_NOTATION = re.compile(r"(.*\S)\s+@((?:\d+(?:ms|s|m|h|d))+)")
_TOKEN = re.compile(r"\([^()]*\)\S*|\S+")
_REPEATED = re.compile(r"(.+)x(\d{1,5})", re.DOTALL)

_GIVEN = ("at", "event_id", "quality", "revision", *PLACE_FIELDS)


class InputError(ValueError):
    """Why a test's input makes no events; `loc` is its place below the test."""

    def __init__(self, loc: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.loc = loc


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expected(_Data):
    """One alarm: offsets from the test's start. No `end`: it is still raised when the test ends."""

    start: Duration
    end: Duration | None = None
    priority: Priority | None = None
    peak: float | None = None
    labels: dict[str, str] | None = None


class _Known(_Data):
    """A subject of the test's registry."""

    key: str | dict[str, str]
    every: Lasting


class Written(_Data):
    """A test as it is written."""

    name: Annotated[str, Field(min_length=1)]
    rule: str | None = None
    series: dict[str, Any] | list[dict[str, Any]] | None = None
    events: list[dict[str, Any]] | None = None
    sensors: list[_Known] = []
    until: Duration = "1h"
    expect: list[Expected]


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
            yield _Row(_offset(fields["at"], ("events", i, "at")), fields, ("events", i))


_Loc = tuple[str | int, ...]


class _Row(NamedTuple):
    at: Micros
    fields: dict[str, Any]
    loc: _Loc


def parse_tests(paths: str | Path | Iterable[str | Path]) -> list[RuleTest]:
    """The tests in these files (or the *.yaml of a folder), each with its rule. Raises RulesError."""
    problems: list[str] = []
    read = documents(paths)
    calendars = tuple(c for document in read for c in _calendars(document, problems))
    found = [test for document in read for test in _tests(document, calendars, problems)]
    if problems:
        raise RulesError(problems)
    return found


def run(test: RuleTest, judge: Judge) -> list[str]:
    """What is different from what the test expects; nothing if it passes."""
    try:
        events, rules = test.events(), test.rules()
    except (InputError, ValidationError) as error:
        return [f"cannot be run: {error}"]
    found = sorted(judge(rules, events, test.until()), key=lambda i: (i.start_us, i.labels))
    wanted = sorted(test.data.expect, key=lambda e: (duration_us(e.start), sorted((e.labels or {}).items())))
    return [
        f"expected {_wanted(e) if e else 'nothing more'}, found {_found(f) if f else 'none'}"
        for e, f in zip_longest(wanted, found)
        if e is None or f is None or not _same(e, f)
    ]


# --- reading ----------------------------------------------------------------------------------------------------------

_RULE: TypeAdapter[Any] = TypeAdapter(Rule)
_TEST: TypeAdapter[Written] = TypeAdapter(Written)


_CALENDAR: TypeAdapter[Calendar] = TypeAdapter(Calendar)


def _calendars(document: Document, problems: list[str]) -> Iterator[Calendar]:
    """A calendar may stand in another file than the rule that names it."""
    for i, item in enumerate(document.section("calendars", problems)):
        calendar = document.validated(_CALENDAR, item, ("calendars", i), problems)
        if calendar is not None:
            yield calendar


def _tests(document: Document, calendars: tuple[Calendar, ...], problems: list[str]) -> Iterator[RuleTest]:
    rules: dict[str, AnyRule] = {}
    for i, item in enumerate(document.section("rules", problems)):
        rule = document.validated(_RULE, item, ("rules", i), problems)
        if rule is not None:
            rules[rule.id] = rule
    for i, item in enumerate(document.section("tests", problems)):
        data = document.validated(_TEST, item, ("tests", i), problems)
        if data is None:
            continue
        name = data.rule or (next(iter(rules)) if len(rules) == 1 else None)
        file, line = document.where(("tests", i, "name"))
        if name not in rules:
            at = document.where(("tests", i, "rule"))
            problems.append(
                f"{at}: rule: one of the rules of this file ({', '.join(rules) or 'there is none'})"
            )
            continue
        test = RuleTest(data.name, rules[name], data, file, line, calendars)
        try:
            test.events()
            test.rules()
        except InputError as error:
            problems.append(f"{document.where(('tests', i, *error.loc))}: {error}")
        except ValidationError as error:
            first = error.errors()[0]
            part = "sensors" if "sensors" in first["loc"] else "rule"
            problems.append(f"{document.where(('tests', i, part))}: {first['msg']}")
        else:
            yield test


# --- the notation -----------------------------------------------------------------------------------------------------


def _samples(series: dict[str, Any], loc: _Loc) -> Iterator[_Row]:
    """The rows of one series. `_` in every field that varies: nothing is heard, and the time passes."""
    start = _offset(series.get("at", "0s"), (*loc, "at"))
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


def _offset(value: object, loc: _Loc) -> Micros:
    try:
        return 0 if value == 0 else duration_us(str(value))
    except ValueError as error:
        raise InputError(loc, str(error)) from None


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


# --- telling a difference ---------------------------------------------------------------------------------------------


def _same(expected: Expected, found: Interval) -> bool:
    start, end = _offsets(found)
    return (
        duration_us(expected.start) == start
        and (None if expected.end is None else duration_us(expected.end)) == end
        and expected.priority in (None, found.priority)
        and (expected.labels is None or expected.labels.items() <= dict(found.labels).items())
        and (
            expected.peak is None
            or (found.peak is not None and abs(expected.peak - found.peak) <= 1e-9 * max(1, abs(found.peak)))
        )
    )


def _offsets(found: Interval) -> tuple[Micros, Micros | None]:
    return found.start_us - START, None if found.end_us is None else found.end_us - START


def _wanted(e: Expected) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in (e.labels or {}).items())
    peak = None if e.peak is None else f"peak {e.peak:g}"
    return " ".join(p for p in (f"{e.start} to {e.end or 'still raised'}", e.priority, peak, labels) if p)


def _found(f: Interval) -> str:
    start, end = _offsets(f)
    labels = ", ".join(f"{k}={v}" for k, v in f.labels)
    peak = None if f.peak is None else f"peak {f.peak:g}"
    until = "still raised" if end is None else duration_text(end)
    return " ".join(p for p in (f"{duration_text(start)} to {until}", f.priority, peak, labels) if p)
