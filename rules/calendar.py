"""When a rule is in force: calendars of the city's own days and hours, and the times for which a sensor is taken out of service.

The city keeps Indochina Time, seven hours before UTC, without summer time since 1975 (IANA Asia/Ho_Chi_Minh): a local day is a
number of whole UTC days and seven hours, and no table of zones has a say in what is an alarm.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol, Self

from pydantic import AwareDatetime, Field, model_validator

from models.base import Micros, micros
from rules.terms import Data, RuleId, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rules.terms import Problem

INF: Final[Micros] = 1 << 62
DAY: Final[Micros] = 86_400_000_000
#: Local midnight is so long before that of UTC.
OFFSET: Final[Micros] = 7 * 3_600_000_000
_EPOCH: Final = date(1970, 1, 1)

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIMES = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DATES = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.\.(\d{4}-\d\d-\d\d))?")

#: Days whose spans are kept: before the first moment asked for, after it, and ahead of the last of these.
_BEFORE: Final = 40
_KEPT: Final = 64
_AHEAD: Final = 400

Span = tuple[Micros, Micros]


class Windows(Protocol):
    """A set of moments."""

    def look(self, t: Micros) -> tuple[bool, Micros]:
        """Whether t is in it, and the first moment after t at which that changes (INF: in the next year it does not)."""
        ...


class Calendar(Data):
    """Days and hours by name: those `weekdays` (and `dates`, if any are named), at these `times`, less what `except` names.

    A time that ends before it begins ("22:00-05:00") ends on the next day and belongs to the day on which it begins.
    """

    id: RuleId
    weekdays: tuple[Weekday, ...] = WEEKDAYS
    dates: tuple[str, ...] | None = None
    times: tuple[str, ...] = ("00:00-24:00",)
    except_: Annotated[tuple[RuleId, ...], Field(alias="except")] = ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        problems: list[Problem] = []
        for i, text in enumerate(self.times):
            try:
                _times(text)
            except ValueError as error:
                problems.append((("times", i), str(error)))
        for i, text in enumerate(self.dates or ()):
            try:
                _dates(text)
            except ValueError as error:
                problems.append((("dates", i), str(error)))
        if not self.weekdays or not self.times:
            problems.append(((), "a calendar without days or times is never in force"))
        refuse(problems)
        return self

    def spans(self, first: int, last: int) -> list[Span]:
        """The spans that begin on the local days first to last (days since 1970-01-01), without `except`."""
        times = [_times(text) for text in self.times]
        dates = None if self.dates is None else [_dates(text) for text in self.dates]
        found = []
        for day in range(first, last + 1):
            if WEEKDAYS[(day + 3) % 7] not in self.weekdays:  # 1970-01-01 was a Thursday
                continue
            if dates is not None and not any(begin <= day <= end for begin, end in dates):
                continue
            midnight = day * DAY - OFFSET
            found += [(midnight + begin, midnight + end) for begin, end in times]
        return found


def _times(text: str) -> Span:
    """Microseconds after midnight of "06:45-11:30"."""
    found = _TIMES.fullmatch(text)
    if found:
        h1, m1, h2, m2 = map(int, found.groups())
        begin, end = h1 * 60 + m1, h2 * 60 + m2
        if m1 < 60 and m2 < 60 and begin < 1440 and end <= 1440 and begin != end:
            return begin * 60_000_000, (end if end > begin else end + 1440) * 60_000_000
    raise ValueError(f"{text!r} are no times of a day: write 06:45-11:30, or 22:00-05:00 over midnight")


def _dates(text: str) -> tuple[int, int]:
    """First and last day of "2026-02-14..2026-02-22", or of one day."""
    found = _DATES.fullmatch(text)
    try:
        if found:
            first = (date.fromisoformat(found[1]) - _EPOCH).days
            last = (date.fromisoformat(found[2] or found[1]) - _EPOCH).days
            if first <= last:
                return first, last
    except ValueError:
        pass  # said below, with what would be right
    raise ValueError(f"{text!r} are no dates: write 2026-09-02, or 2026-02-14..2026-02-22")


class Maintenance(Data):
    """A time for which a sensor is out of service: what it says is kept and not judged, and nobody misses it."""

    from_: Annotated[AwareDatetime, Field(alias="from")]
    to: AwareDatetime
    why: Annotated[str, Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.from_ >= self.to:
            refuse([(("to",), "a maintenance ends after it began")])
        return self

    @property
    def span(self) -> Span:
        return micros(self.from_), micros(self.to)


# --- looking ------------------------------------------------------------------------------------------------------------


class Hours:
    """The windows of a calendar. Its spans are made for some weeks before and a year after what is asked, and kept."""

    def __init__(self, calendar: Calendar, all_: Mapping[str, Calendar]) -> None:
        self.calendar = calendar
        self._all = all_
        self._known: tuple[int, int] = (0, 0)  # the days for which any moment can be looked up
        self._edge: Micros = 0
        self._spans: list[Span] = []
        self._begins: list[Micros] = []

    @cached_property
    def _except(self) -> list[Hours]:
        return [Hours(self._all[name], self._all) for name in self.calendar.except_]

    @cached_property
    def last_day(self) -> int:
        """The last day that is named: what begins or ends then is known however far ahead it is."""
        mine = max((_dates(text)[1] for text in self.calendar.dates or ()), default=0)
        return max([mine, *(other.last_day for other in self._except)])

    def spans(self, first: int, last: int) -> list[Span]:
        """Disjoint, in order: those that begin on the local days first to last."""
        mine = union(self.calendar.spans(first, last))
        return without(mine, union(s for other in self._except for s in other.spans(first - 2, last + 2)))

    def look(self, t: Micros) -> tuple[bool, Micros]:
        day = (t + OFFSET) // DAY
        if not self._known[0] <= day < self._known[1]:
            self._learn(day)
        at = bisect_right(self._begins, t)
        if at and t < (end := self._spans[at - 1][1]):
            return True, end if end < self._edge else INF
        return False, self._begins[at] if at < len(self._begins) else INF

    def _learn(self, day: int) -> None:
        # No span is longer than a day, so that two days before are enough for the first of the known ones.
        self._known = (day - _BEFORE, day + _KEPT)
        last = max(day + _KEPT + _AHEAD, self.last_day + 2)
        self._spans = self.spans(day - _BEFORE - 2, last)
        self._begins = [begin for begin, _ in self._spans]
        self._edge = last * DAY - OFFSET


class Service:
    """All moments but these spans: when a sensor is in service."""

    def __init__(self, out: Sequence[Span]) -> None:
        self.out = union(out)
        self._begins = [begin for begin, _ in self.out]

    def look(self, t: Micros) -> tuple[bool, Micros]:
        at = bisect_right(self._begins, t)
        if at and t < self.out[at - 1][1]:
            return False, self.out[at - 1][1]
        return True, self._begins[at] if at < len(self.out) else INF


class Both:
    """The moments that are in both."""

    def __init__(self, one: Windows, other: Windows) -> None:
        self.one, self.other = one, other

    def look(self, t: Micros) -> tuple[bool, Micros]:
        first = now = self._now(t)
        while first[0] == now[0] and now[1] < INF:
            moment = now[1]
            now = self._now(moment)
            if now[0] != first[0]:
                return first[0], moment
        return first[0], INF

    def _now(self, t: Micros) -> tuple[bool, Micros]:
        (one, until), (other, also) = self.one.look(t), self.other.look(t)
        return one and other, min(until, also)


def union(spans: Iterable[Span]) -> list[Span]:
    """The same moments as disjoint spans in order; those that touch are one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def without(spans: Sequence[Span], out: Sequence[Span]) -> list[Span]:
    """What is left of disjoint spans without the moments of the disjoint spans `out`."""
    found: list[Span] = []
    for begin, end in spans:
        for o_begin, o_end in out:
            if o_end <= begin or end <= o_begin:
                continue
            if begin < o_begin:
                found.append((begin, o_begin))
            begin = max(begin, o_end)
            if begin >= end:
                break
        if begin < end:
            found.append((begin, end))
    return found


def circles(calendars: Mapping[str, Calendar]) -> list[str]:
    """The calendars that except themselves, by whatever way."""

    def reaches(name: str, goal: str, seen: set[str]) -> bool:
        for other in calendars[name].except_ if name in calendars else ():
            if other == goal:
                return True
            if other not in seen:
                seen.add(other)
                if reaches(other, goal, seen):
                    return True
        return False

    return [name for name in calendars if reaches(name, name, set())]
