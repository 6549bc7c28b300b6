"""What a rule says: the grammar of rules/*.yaml and of the registry, checked against the catalogue of topics."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from models.alarm import PRIORITIES, Category, Certainty, Priority, Severity, Text, Urgency
from models.base import PLACE_FIELDS, Event, Identifier, Micros, Place, Quality
from models.catalogue import event_of, topics
from rules.expr import Expr, ExprError, compile_expr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: The engine these rules are written for. A set written for another one is refused.
ENGINE = 1

#: A count keeps the last N events of every subject, so N is bounded.
MAX_COUNT = 1000
MAX_DURATION: Micros = 400 * 86_400_000_000

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")

#: What an alarm of this priority means in CAP 1.2, unless the rule says otherwise.
SEVERITY: dict[Priority, Severity] = {
    "P1": "Extreme",
    "P2": "Severe",
    "P3": "Moderate",
    "P4": "Minor",
    "advisory": "Unknown",
}


class Interval(NamedTuple):
    """One occurrence of an alarm as a rule yields it: the ledger is made of these."""

    rule: str
    labels: tuple[tuple[str, str], ...]
    start_us: Micros
    end_us: Micros | None
    priority: Priority
    peak: float | None = None


# --- durations ----------------------------------------------------------------------------------------------------


def duration_us(text: str) -> Micros:
    """Microseconds of "30s", "5m", "1h30m", "2d". Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write 30s, 5m, 1h or 1h30m (units {', '.join(_UNITS)})")
    total = sum(int(n) * _UNITS[unit] for n, unit in parts)
    if total > MAX_DURATION:
        raise ValueError(f"{text} is longer than {MAX_DURATION // _UNITS['d']}d")
    return total


def duration_text(us: Micros) -> str:
    """The shortest way to write it: 90 s is "1m30s". The inverse of `duration_us` down to a millisecond."""
    out = ""
    for unit in ("d", "h", "m", "s", "ms"):
        n, us = divmod(us, _UNITS[unit])
        out += f"{n}{unit}" if n else ""
    return out or "0s"


def _duration(value: object) -> str:
    if value == 0 and not isinstance(value, bool | str):
        return "0s"
    if isinstance(value, int | float):
        raise ValueError(f"{value} has no unit: write {value}s or {value}m")  # noqa: TRY004 - pydantic's way
    if not isinstance(value, str):
        raise ValueError("a duration is written 30s, 5m, 1h")  # noqa: TRY004
    duration_us(value)
    return value


def _lasting(value: object) -> str:
    text = _duration(value)
    if duration_us(text) == 0:
        raise ValueError("must be longer than nothing")
    return text


Duration = Annotated[str, BeforeValidator(_duration)]
Lasting = Annotated[str, BeforeValidator(_lasting)]
_Whole = Annotated[int, Field(strict=True)]


# --- what an expression may read ----------------------------------------------------------------------------------


@cache
def names_of(event: type[Event]) -> tuple[str, ...]:
    """Names a condition on this event may read, in the order of its values."""
    return (*event.public(), *PLACE_FIELDS, "quality")


@cache
def types_of(event: type[Event]) -> Mapping[str, Any]:
    """The declared type of each of `names_of`."""
    own = {
        name: event.model_computed_fields[name].return_type
        if name in event.model_computed_fields
        else event.model_fields[name].annotation
        for name in event.public()
    }
    return own | {"lat": float, "lon": float, "ward": str, "site": str, "quality": Quality}


_place = attrgetter(*PLACE_FIELDS)
_NOWHERE = (None,) * len(PLACE_FIELDS)


@cache
def values_of(event: type[Event]) -> Callable[[Event], tuple[Any, ...]]:
    """A function that gives an event's values in the order of `names_of`."""
    own = attrgetter(
        *event.public(), "event_id"
    )  # of one name it would give no tuple; the id is cut off again

    def values(found: Event) -> tuple[Any, ...]:
        place = found.place
        mine: tuple[Any, ...] = own(found)[:-1]
        return mine + (_NOWHERE if place is None else _place(place)) + (found.quality,)

    return values


# --- rules ----------------------------------------------------------------------------------------------------------


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Loc = tuple[str | int, ...]
Problem = tuple[Loc, str]


def _refuse(problems: list[Problem]) -> None:
    """All problems at once, each at its place below the model that is being validated."""
    if problems:
        raise ValidationError.from_exception_data(
            "rule",
            [
                InitErrorDetails(type=PydanticCustomError("rule", "{why}", {"why": why}), loc=loc, input=None)
                for loc, why in problems
            ],
        )


class Level(_Data):
    """One priority of a threshold: `raise` must hold for `for`, `clear` for `keep`. No `clear`: not `raise`."""

    priority: Priority
    raise_: str = Field(alias="raise")
    clear: str | None = None
    for_: Duration | None = Field(default=None, alias="for")
    keep: Duration | None = None

    @property
    def for_us(self) -> Micros:
        return duration_us(self.for_ or "0s")

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep or "0s")


_COUNT = re.compile(r"\s*count\s*(>=|<=|>|<|==)\s*(\d{1,6})\s*")


def _bound(text: str, more: str) -> int:
    """N of "count >= N" (more is ">") or of "count < N" (more is "<"). Raises ValueError."""
    found = _COUNT.fullmatch(text)
    if not found or found[1][0] != more:
        raise ValueError(f"{text!r}: write count {more}{'=' if more == '>' else ''} and a whole number")
    n = int(found[2])
    return n + 1 if found[1] in (">", "<=") else n


class CountLevel(_Data):
    """One priority of a count: raised at `raise_at` events within the window, cleared below `clear_below`."""

    priority: Priority
    raise_: str = Field(alias="raise")
    clear: str | None = None
    keep: Duration | None = None

    @property
    def raise_at(self) -> int:
        return _bound(self.raise_, ">")

    @property
    def clear_below(self) -> int:
        return self.raise_at if self.clear is None else _bound(self.clear, "<")

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep or "0s")

    def problems(self) -> Iterator[Problem]:
        try:
            if not 1 <= self.raise_at <= MAX_COUNT:
                yield ("raise",), f"a count is raised at 1 to {MAX_COUNT}"
        except ValueError as error:
            yield ("raise",), str(error)
            return
        try:
            if not 1 <= self.clear_below <= self.raise_at:
                yield ("clear",), f"clears below {self.clear_below}; allowed is 1 to {self.raise_at}"
        except ValueError as error:
            yield ("clear",), str(error)


RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]


class _Rule(_Data):
    """What rules of every kind say. `by` are the labels that tell one alarm of the rule from another."""

    id: RuleId
    on: str
    by: tuple[str, ...]
    where: str | None = None
    title: Text
    instruction: Text | None = None
    category: Category = "Other"
    severity: Severity | None = None
    urgency: Urgency = "Immediate"
    certainty: Certainty = "Observed"

    @model_validator(mode="before")
    @classmethod
    def _title(cls, data: Any) -> Any:
        """A rule without a title is called by its id: an alarm is never without words."""
        if isinstance(data, dict) and data.get("title") is None and isinstance(data.get("id"), str):
            words = title_of(data["id"])
            return {**data, "title": {"vi": words, "en": words}}
        return data

    @property
    def event(self) -> type[Event]:
        return event_of(self.on)

    def severity_at(self, priority: Priority) -> Severity:
        return self.severity or SEVERITY[priority]

    def compile(self, text: str) -> Expr:
        """A condition of this rule over `values_of(rule.event)`. Raises ExprError."""
        return compile_expr(text, names_of(self.event), types_of(self.event))

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        """Where each condition stands, and its text."""
        if self.where is not None:
            yield ("where",), self.where

    def _own_problems(self) -> Iterator[Problem]:
        yield from ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _refuse(list(self._problems()))
        return self

    def _problems(self) -> Iterator[Problem]:
        topic = topics().get(self.on)
        if topic is None:
            yield ("on",), f"there is no topic {self.on}; there are {', '.join(topics())}"
            return
        if self.by != topic.key:
            yield ("by",), f"identity labels must follow from the key {', '.join(topic.key)}"
        for loc, text in self.conditions():
            try:
                self.compile(text)
            except ExprError as error:
                yield loc, self._explained(error)
        yield from self._own_problems()

    def _explained(self, error: ExprError) -> str:
        hidden = next((n for n in sorted(self.event.personal()) if f"no field {n}" in error.reason), None)
        return f"column {error.column}: {hidden} is personal: no rule may read it" if hidden else str(error)


def title_of(rule_id: str) -> str:
    return rule_id.replace("-", " ").capitalize()


def _distinct(priorities: list[Priority]) -> Iterator[Problem]:
    if not priorities:
        yield ("levels",), "a rule has at least one level"
    for priority, n in Counter(priorities).items():
        if n > 1:
            yield ("levels",), f"{n} levels say {priority}: one rule has one level of each priority"


class Threshold(_Rule):
    """A value beyond a bound for a while."""

    kind: Literal["threshold"]
    levels: tuple[Level, ...]

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        yield from super().conditions()
        for i, level in enumerate(self.levels):
            yield ("levels", i, "raise"), level.raise_
            if level.clear is not None:
                yield ("levels", i, "clear"), level.clear

    def _own_problems(self) -> Iterator[Problem]:
        yield from _distinct([level.priority for level in self.levels])

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return tuple(level.priority for level in self.levels)


class Count(_Rule):
    """So many events of one subject within a window."""

    kind: Literal["count"]
    window: Lasting
    levels: tuple[CountLevel, ...]

    def _own_problems(self) -> Iterator[Problem]:
        yield from _distinct([level.priority for level in self.levels])
        for i, level in enumerate(self.levels):
            for loc, why in level.problems():
                yield ("levels", i, *loc), why

    @property
    def window_us(self) -> Micros:
        return duration_us(self.window)

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return tuple(level.priority for level in self.levels)


class Absence(_Rule):
    """A subject of the registry is silent: `after` a time, or after `misses` of its own intervals (`every`)."""

    kind: Literal["absence"]
    after: Lasting | None = None
    misses: Annotated[_Whole, Field(ge=1, le=1000)] | None = None
    priority: Priority

    def _own_problems(self) -> Iterator[Problem]:
        if (self.after is None) == (self.misses is None):
            yield (), "say either after (a duration) or misses (a number of the sensor's own intervals)"
        if self.where is not None:
            yield ("where",), "an absence is of a subject, not of some of its events"

    @property
    def after_us(self) -> Micros | None:
        return None if self.after is None else duration_us(self.after)

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


class Happening(_Rule):
    """An event that matters by itself. It is over when `clear` holds, or `keep` after the last that raised."""

    kind: Literal["event"]
    priority: Priority
    raise_: str = Field(alias="raise")
    clear: str | None = None
    keep: Duration | None = None

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        yield from super().conditions()
        yield ("raise",), self.raise_
        if self.clear is not None:
            yield ("clear",), self.clear

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep or "0s")

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


#: A further kind is a further member: a class above, its fold in rules/machine.py.
AnyRule = Threshold | Count | Absence | Happening
Rule = Annotated[AnyRule, Field(discriminator="kind")]
RULES = (Threshold, Count, Absence, Happening)
KINDS: tuple[str, ...] = tuple(get_args(rule.model_fields["kind"].annotation)[0] for rule in RULES)


# --- the registry, and the set --------------------------------------------------------------------------------------


class Sensor(_Data):
    """Something that exists, where it is, and how often it should speak on its topic."""

    topic: str
    key: str
    every: Lasting
    place: Place | None = None
    name: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _joined(cls, data: Any) -> Any:
        """A key may be written as a mapping of its fields."""
        if isinstance(data, dict) and isinstance(data.get("key"), dict):
            topic, key = topics().get(str(data.get("topic"))), data["key"]
            wanted = topic.key if topic else tuple(key)
            if set(key) != set(wanted):
                _refuse(
                    [(("key",), f"the key of {data['topic']} is {', '.join(wanted)}; not {', '.join(key)}")]
                )
            return {**data, "key": "/".join(str(key[name]) for name in wanted)}
        return data

    @model_validator(mode="after")
    def _checked(self) -> Self:
        topic = topics().get(self.topic)
        if topic is None:
            _refuse([(("topic",), f"there is no topic {self.topic}; there are {', '.join(topics())}")])
        elif len(parts := self.key.split("/")) != len(topic.key) or not all(map(_is_name, parts)):
            _refuse([(("key",), f"{self.key!r}: the key of {self.topic} is {'/'.join(topic.key)}")])
        return self

    @property
    def every_us(self) -> Micros:
        return duration_us(self.every)

    @property
    def labels(self) -> dict[str, str]:
        return dict(zip(topics()[self.topic].key, self.key.split("/"), strict=True))


class _Name(BaseModel):
    of: Identifier


def _is_name(text: str) -> bool:
    try:
        return bool(_Name(of=text))
    except ValidationError:
        return False


class Registry(_Data):
    """What exists. A sensor that was never heard is absent only if it stands here."""

    sensors: tuple[Sensor, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> Self:
        seen: set[tuple[str, str]] = set()
        problems: list[Problem] = []
        for i, sensor in enumerate(self.sensors):
            if (sensor.topic, sensor.key) in seen:
                problems.append((("sensors", i, "key"), f"{sensor.key} of {sensor.topic} stands here twice"))
            seen.add((sensor.topic, sensor.key))
        _refuse(problems)
        return self

    def of(self, topic: str) -> tuple[Sensor, ...]:
        return tuple(s for s in self.sensors if s.topic == topic)


class RuleSet(_Data):
    """Rules and registry, one versioned whole: what is judged by, and one record of `city.rules.v1`."""

    engine: _Whole = ENGINE
    rules: tuple[Rule, ...] = ()
    registry: Registry = Registry()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems: list[Problem] = []
        if self.engine != ENGINE:
            problems.append((("engine",), f"written for engine {self.engine}; this is engine {ENGINE}"))
        seen: set[str] = set()
        for i, rule in enumerate(self.rules):
            if rule.id in seen:
                problems.append((("rules", i, "id"), f"there is already a rule {rule.id}"))
            seen.add(rule.id)
        _refuse(problems)
        return self

    def of(self, topic: str) -> tuple[AnyRule, ...]:
        """The rules on one topic."""
        return tuple(r for r in self.rules if r.on == topic)

    def canonical(self) -> bytes:
        """The set as bytes: equal sets, equal bytes. Defaults are written out, so that their change changes no past."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, value: bytes) -> RuleSet:
        """The inverse of `canonical`. Raises ValueError (pydantic's) that names the place of each problem."""
        return cls.model_validate_json(value)


def rank(priority: Priority) -> int:
    """0 is the worst."""
    return PRIORITIES.index(priority)
