"""What a rule says: the grammar of rules/*.yaml and of the registry, checked against the catalogue of topics."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator

from models.alarm import PRIORITIES, Priority, Text
from models.base import Event, Identifier, Micros, Place
from models.catalogue import event_of, topics
from rules.calendar import Calendar, Maintenance, circles
from rules.expr import Expr, ExprError, bare, compile_expr, fixed
from rules.situations import WIDE, WideRule
from rules.terms import (
    Data,
    Duration,
    Lasting,
    Loc,
    Problem,
    RuleId,
    Said,
    Whole,
    duration_us,
    names_of,
    refuse,
    types_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The engine these rules are written for. A set for a later one is refused; an earlier one says nothing that this does not know.
ENGINE = 2

#: A count keeps the last N events of every subject, so N is bounded.
MAX_COUNT = 1000
#: A rate keeps the values of its span.
MAX_OVER: Micros = 86_400_000_000
#: The panes of a ratio's window: each of its values is right to one of them.
MAX_PANES = 60


class Interval(NamedTuple):
    """One occurrence of an alarm as a rule yields it: the ledger is made of these."""

    rule: str
    labels: tuple[tuple[str, str], ...]
    start_us: Micros
    end_us: Micros | None
    priority: Priority
    peak: float | None = None


# --- rules ----------------------------------------------------------------------------------------------------------


class Level(Data):
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


_COUNT = re.compile(r"\s*(count|distinct)\s*(>=|<=|>|<|==)\s*(\d{1,6})\s*")


def _bound(text: str, more: str, word: str) -> int:
    """N of "count >= N" (more is ">") or of "count < N" (more is "<"). Raises ValueError."""
    found = _COUNT.fullmatch(text)
    if not found or found[1] != word or found[2][0] != more:
        raise ValueError(f"{text!r}: write {word} {more}{'=' if more == '>' else ''} and a whole number")
    n = int(found[3])
    return n + 1 if found[2] in (">", "<=") else n


class CountLevel(Data):
    """One priority of a count: raised at `raise_at` events within the window, cleared below `clear_below`."""

    word: ClassVar[str] = "count"

    priority: Priority
    raise_: str = Field(alias="raise")
    clear: str | None = None
    keep: Duration | None = None

    @property
    def raise_at(self) -> int:
        return _bound(self.raise_, ">", self.word)

    @property
    def clear_below(self) -> int:
        return self.raise_at if self.clear is None else _bound(self.clear, "<", self.word)

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


class DistinctLevel(CountLevel):
    """The same of how many different values there were."""

    word: ClassVar[str] = "distinct"


class _Rule(Said):
    """What rules on a topic say. `by` are the labels that tell one alarm of the rule from another.

    `during` names the calendar in which it is in force: what is observed outside is not looked at, and an alarm that
    still stands when it ends, ends. `tell: false`: it makes no alarm, only signals for the rules over signals.
    """

    #: What conditions may read beside the event's own values.
    derived: ClassVar[tuple[str, ...]] = ()

    on: str
    by: tuple[str, ...]
    where: str | None = None
    during: RuleId | None = None
    tell: bool = True

    @property
    def event(self) -> type[Event]:
        return event_of(self.on)

    @property
    def fixed(self) -> dict[str, frozenset[str]]:
        """The words that fields must have for the rule to look at an event at all."""
        return fixed(self.where) if self.where is not None else {}

    @property
    def names(self) -> tuple[str, ...]:
        """What the conditions of `levels` may read, in the order of the values they are asked with."""
        return (*names_of(self.event), *self.derived)

    def compile(self, text: str) -> Expr:
        """A condition over `values_of(rule.event)` and what is derived of them. Raises ExprError."""
        return compile_expr(text, self.names, {**types_of(self.event), **dict.fromkeys(self.derived, float)})

    def compile_where(self, text: str) -> Expr:
        """A condition that chooses events: of one event alone. Raises ExprError."""
        return compile_expr(text, names_of(self.event), types_of(self.event))

    def index_of(self, field: str) -> int:
        """Where the field stands in `values_of(rule.event)`."""
        return names_of(self.event).index(field)

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        """Where each condition that raises or clears stands, and its text."""
        yield from ()

    def choices(self) -> Iterator[tuple[Loc, str]]:
        """The same of conditions that choose events."""
        if self.where is not None:
            yield ("where",), self.where

    def _own_problems(self) -> Iterator[Problem]:
        yield from ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        refuse(list(self._problems()))
        return self

    def _problems(self) -> Iterator[Problem]:
        topic = topics().get(self.on)
        if topic is None:
            yield ("on",), f"there is no topic {self.on}; there are {', '.join(topics())}"
            return
        if self.by != topic.key:
            yield ("by",), f"identity labels must follow from the key {', '.join(topic.key)}"
        clash = [name for name in self.derived if name in names_of(self.event)]
        if clash:
            yield ("on",), f"its field {clash[0]} would hide what {self.__class__.__name__.lower()} derives"
            return
        for conditions, compiled in ((self.choices(), self.compile_where), (self.conditions(), self.compile)):
            for loc, text in conditions:
                try:
                    compiled(text)
                except ExprError as error:
                    yield loc, self._explained(error)
        yield from self._own_problems()

    def _explained(self, error: ExprError) -> str:
        hidden = next((n for n in sorted(self.event.personal()) if f"no field {n}" in error.reason), None)
        return f"column {error.column}: {hidden} is personal: no rule may read it" if hidden else str(error)

    def _measurable(self, field: str) -> Iterator[Problem]:
        """Nothing, if the event has a public number of this name."""
        kinds = types_of(self.event)
        if field in self.event.personal():
            yield ("of",), f"{field} is personal: no rule may read it"
        elif field not in kinds:
            yield ("of",), f"{self.on} has no field {field}; it has {', '.join(names_of(self.event))}"
        elif bare(kinds[field]) not in (int, float):
            yield ("of",), f"{field} is no number"


def _distinct(priorities: list[Priority]) -> Iterator[Problem]:
    if not priorities:
        yield ("levels",), "a rule has at least one level"
    for priority, n in Counter(priorities).items():
        if n > 1:
            yield ("levels",), f"{n} levels say {priority}: one rule has one level of each priority"


class _Leveled(_Rule):
    """Of several levels, each with its own bounds."""

    levels: tuple[Level, ...]

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        for i, level in enumerate(self.levels):
            yield ("levels", i, "raise"), level.raise_
            if level.clear is not None:
                yield ("levels", i, "clear"), level.clear

    def _own_problems(self) -> Iterator[Problem]:
        yield from _distinct([level.priority for level in self.levels])

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return tuple(level.priority for level in self.levels)


class Threshold(_Leveled):
    """A value beyond a bound for a while."""

    kind: Literal["threshold"]


class Rate(_Leveled):
    """How fast a value changes: `rate`, in its unit `per` so long.

    It is the difference from the oldest value within `over` divided by the time between them, and is not known while
    that is less than half of `over`.
    """

    derived: ClassVar[tuple[str, ...]] = ("rate",)

    kind: Literal["rate"]
    of: str
    over: Lasting
    per: Lasting = "1h"

    def _own_problems(self) -> Iterator[Problem]:
        yield from super()._own_problems()
        yield from self._measurable(self.of)
        if self.over_us > MAX_OVER:
            yield (
                ("over",),
                f"{self.over} is too long: a rate keeps every value of its span, of a day at most",
            )

    @property
    def over_us(self) -> Micros:
        return duration_us(self.over)

    @property
    def per_us(self) -> Micros:
        return duration_us(self.per)


class Ratio(_Leveled):
    """Which part of the events of a window is such that `of` holds: `ratio`, of `total` events that it can be said of.

    The window is made of fixed panes, and reaches from the pane of the newest event back over `window`. With fewer than
    `least` events it says nothing.
    """

    derived: ClassVar[tuple[str, ...]] = ("ratio", "total")

    kind: Literal["ratio"]
    of: str
    window: Lasting
    pane: Lasting = "1m"
    least: Annotated[Whole, Field(ge=1, le=1_000_000)]

    def choices(self) -> Iterator[tuple[Loc, str]]:
        yield from super().choices()
        yield ("of",), self.of

    def _own_problems(self) -> Iterator[Problem]:
        yield from super()._own_problems()
        panes, rest = divmod(self.window_us, self.pane_us)
        if rest or not 1 <= panes <= MAX_PANES:
            yield (
                ("pane",),
                f"a window is of 1 to {MAX_PANES} whole panes; {self.window} of {self.pane} is not",
            )

    @property
    def window_us(self) -> Micros:
        return duration_us(self.window)

    @property
    def pane_us(self) -> Micros:
        return duration_us(self.pane)


class _Counted(_Rule):
    """How many of something within a window, and what of it is too many."""

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


class Count(_Counted):
    """So many events of one subject within a window."""

    kind: Literal["count"]


class Distinct(_Counted):
    """So many different values of a field within a window; an event without the field counts for nothing."""

    kind: Literal["distinct"]
    of: str
    levels: tuple[DistinctLevel, ...]

    def _own_problems(self) -> Iterator[Problem]:
        yield from super()._own_problems()
        if self.of in self.event.personal():
            yield ("of",), f"{self.of} is personal: no rule may read it"
        elif self.of not in names_of(self.event):
            yield ("of",), f"{self.on} has no field {self.of}; it has {', '.join(names_of(self.event))}"


class Absence(_Rule):
    """A subject of the registry is silent: `after` a time, or after `misses` of its own intervals (`every`).

    `wait`: so long after that it becomes an alarm. Rules over signals know of it at once: where a gateway is the reason,
    it is told of the gateway.
    """

    kind: Literal["absence"]
    after: Lasting | None = None
    misses: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    wait: Duration | None = None
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
    def wait_us(self) -> Micros:
        return duration_us(self.wait or "0s")

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


class Schedule(_Rule):
    """Something that must have been heard of a subject of the registry when a window of `during` is `due` old.

    The alarm lasts until it is heard, or until the window ends. `where` says which events will do.
    """

    kind: Literal["schedule"]
    due: Lasting
    priority: Priority

    def _own_problems(self) -> Iterator[Problem]:
        if self.during is None:
            yield ("during",), "a schedule needs a calendar: the windows in which something is due"

    @property
    def due_us(self) -> Micros:
        return duration_us(self.due)

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


class Baseline(_Rule):
    """A value that is strange to its own series (rules/baseline.py): advisory, until another rule corroborates it.

    `raise` is the score, of which 0.5 is the least that is strange; `least` the smallest difference that matters, in the
    unit of the value. It is over `keep` after the last strange value.
    """

    kind: Literal["baseline"]
    of: str
    raise_: Annotated[float, Field(alias="raise", ge=0.5, lt=1)] = 0.6
    least: Annotated[float, Field(ge=0)] = 0.0
    keep: Lasting = "1h"
    priority: Literal["advisory"] = "advisory"
    certainty: Literal["Possible"] = "Possible"

    def _own_problems(self) -> Iterator[Problem]:
        yield from self._measurable(self.of)

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep)

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


class Happening(_Rule):
    """An event that matters by itself. It is over when `clear` holds, or `keep` after the last that raised.

    With `at`, a moment that the event names, it matters from `before` that moment on, if it is not cleared by then.
    """

    kind: Literal["event"]
    priority: Priority
    raise_: str = Field(alias="raise")
    clear: str | None = None
    keep: Duration | None = None
    at: str | None = None
    before: Duration | None = None

    def conditions(self) -> Iterator[tuple[Loc, str]]:
        yield ("raise",), self.raise_
        if self.clear is not None:
            yield ("clear",), self.clear

    def _own_problems(self) -> Iterator[Problem]:
        if self.at is None:
            if self.before is not None:
                yield ("before",), "before what? say at: the field that names the moment"
            return
        kinds = types_of(self.event)
        moments = [name for name in names_of(self.event) if bare(kinds[name]) in (datetime, AwareDatetime)]
        if self.at not in moments:
            yield ("at",), f"{self.on} has no moment {self.at}; it has {', '.join(moments) or 'none'}"
        if self.clear is None or self.keep is not None:
            yield ("clear",), "what is due is over when clear holds: say it, and no keep"

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep or "0s")

    @property
    def before_us(self) -> Micros:
        return duration_us(self.before or "0s")

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


#: A further kind is a further member: a class above, its fold in rules/machine.py. Kinds over signals: rules/situations.py.
AnyRule = Threshold | Rate | Count | Distinct | Ratio | Absence | Schedule | Happening | Baseline
Rule = Annotated[AnyRule, Field(discriminator="kind")]
RULES = (Threshold, Rate, Count, Distinct, Ratio, Absence, Schedule, Happening, Baseline)
KINDS: tuple[str, ...] = tuple(get_args(rule.model_fields["kind"].annotation)[0] for rule in (*RULES, *WIDE))


# --- the registry, and the set --------------------------------------------------------------------------------------


class Sensor(Data):
    """Something that exists, where it is, and how often it should speak on its topic."""

    topic: str
    key: str
    every: Lasting
    place: Place | None = None
    name: Text | None = None
    gateway: Identifier | None = None
    maintenance: tuple[Maintenance, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _joined(cls, data: Any) -> Any:
        """A key may be written as a mapping of its fields."""
        if isinstance(data, dict) and isinstance(data.get("key"), dict):
            topic, key = topics().get(str(data.get("topic"))), data["key"]
            wanted = topic.key if topic else tuple(key)
            if set(key) != set(wanted):
                refuse(
                    [(("key",), f"the key of {data['topic']} is {', '.join(wanted)}; not {', '.join(key)}")]
                )
            return {**data, "key": "/".join(str(key[name]) for name in wanted)}
        return data

    @model_validator(mode="after")
    def _checked(self) -> Self:
        topic = topics().get(self.topic)
        if topic is None:
            refuse([(("topic",), f"there is no topic {self.topic}; there are {', '.join(topics())}")])
        elif len(parts := self.key.split("/")) != len(topic.key) or not all(map(_is_name, parts)):
            refuse([(("key",), f"{self.key!r}: the key of {self.topic} is {'/'.join(topic.key)}")])
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


class Registry(Data):
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
        refuse(problems)
        return self

    def of(self, topic: str) -> tuple[Sensor, ...]:
        return tuple(s for s in self.sensors if s.topic == topic)


class RuleSet(Data):
    """Rules, calendars and registry, one versioned whole: what is judged by, and one record of `city.rules.v1`.

    `rules` are those on a topic, `wide` those over signals; no two have one id.
    """

    engine: Annotated[Whole, Field(ge=1)] = ENGINE
    rules: tuple[Rule, ...] = ()
    wide: tuple[WideRule, ...] = ()
    calendars: tuple[Calendar, ...] = ()
    registry: Registry = Registry()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems: list[Problem] = []
        if self.engine > ENGINE:
            problems.append((("engine",), f"written for engine {self.engine}; this is engine {ENGINE}"))
        seen: set[str] = set()
        for part, rules in (("rules", self.rules), ("wide", self.wide)):
            for i, rule in enumerate(rules):
                if rule.id in seen:
                    problems.append(((part, i, "id"), f"there is already a rule {rule.id}"))
                seen.add(rule.id)
        problems += self.dangling()
        refuse(problems)
        return self

    def dangling(self) -> Iterator[Problem]:
        """What is named and not there. The first of each place is `rules`, `wide` or `calendars`, then comes its number."""
        calendars = {calendar.id: calendar for calendar in self.calendars}
        there = ", ".join(calendars) or "there is none"
        for i, calendar in enumerate(self.calendars):
            for name in calendar.except_:
                if name not in calendars:
                    yield ("calendars", i, "except"), f"there is no calendar {name}; there are: {there}"
            if calendar is not calendars[calendar.id]:
                yield ("calendars", i, "id"), f"there is already a calendar {calendar.id}"
        for name in circles(calendars):
            i = next(i for i, c in enumerate(self.calendars) if c.id == name)
            yield ("calendars", i, "except"), f"{name} excepts itself"
        for i, rule in enumerate(self.rules):
            if rule.during is not None and rule.during not in calendars:
                yield ("rules", i, "during"), f"there is no calendar {rule.during}; there are: {there}"
        known = {rule.id for rule in self.rules}
        for i, wide in enumerate(self.wide):
            for loc, name in wide.named():
                if name not in known:
                    yield ("wide", i, *loc), f"there is no rule {name} on a topic"

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
