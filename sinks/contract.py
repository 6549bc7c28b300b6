"""What a time-series store must do: `write(points)`, `read(query)`, `keep` and `kept` for whole records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

from models.decode import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base import Micros

Value = float | str | bool
Aggregate = Literal["mean", "sum", "count", "min", "max"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)

#: Kinds of whole records a store keeps beside the points, by id: the last write of an id wins.
#: `ledger` is the account of a partition; `alarm` the state of each occurrence.
Kept = Literal["alarm_event", "alarm", "rejected", "ledger"]


class Point(NamedTuple):
    """One observation in a store.

    A sample's identity is (measurement, tags, late, time): a series has one value at a time, the last written, whatever
    its revision; its `event_id` is empty. An event's is (measurement, late, time, event_id), whatever its tags: a greater
    `revision`, or an equal one written later, replaces it, tags and all; a lower one changes nothing. `late` is of the
    identity of both, so a correction that comes late stands beside what it corrects: the one is what was judged, the other
    what is known since. Fields hold no None: what is absent is not there. What every store refuses is in `refusal`.
    """

    measurement: str
    tags: tuple[tuple[str, str], ...]
    time: Micros
    fields: tuple[tuple[str, Value], ...]
    event_id: str = ""
    late: bool = False
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """`from_` inclusive, `to` exclusive; `every` in microseconds, windows aligned to the epoch; `by` splits by tags.

    Without `every` and `agg` the raw points come, oldest first. With `agg` alone the whole span is one window that
    starts at `from_`, else at its oldest point. `where` with an empty value finds what has no such tag.
    `fields` empty means all; aggregates other than count see numeric fields only (booleans as 0 and 1). A field
    without a value in a window is absent from its row, and so is a sum beyond the greatest float; a row without
    fields is left out. An event's id is the text field `event_id` of its row.
    Late points are included unless `late` is False; a raw late point has the tag `late` = "1", and `by` may name it.
    `limit` keeps the first rows, by time and then tags. Raises ValueError for what cannot be asked.
    """

    measurement: str
    where: tuple[tuple[str, str], ...] = ()
    from_: Micros | None = None
    to: Micros | None = None
    every: Micros | None = None
    agg: Aggregate | None = None
    by: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    late: bool | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.agg is None and (self.every is not None or self.by):
            raise ValueError(f"every and by need an aggregate: {', '.join(AGGREGATES)}")
        if self.every is not None and self.every <= 0:
            raise ValueError(f"every must be longer than nothing, not {self.every} us")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative, not {self.limit}")


class Row(NamedTuple):
    """One row of an answer: a window's start (or a point's time), the tags asked for (all of a raw point), fields."""

    time: Micros
    measurement: str
    tags: dict[str, str]
    fields: dict[str, Value]


class Record(NamedTuple):
    """A whole record kept by id (an alarm's event, a rejected message, a ledger line); body is JSON-able."""

    kind: Kept
    id: str
    time: Micros
    body: dict[str, Any]


@dataclass(slots=True)
class Rejected(Exception):  # noqa: N818 - the contract's word
    """The store refuses these points for good: never retry, keep them with the reason."""

    points: Sequence[tuple[Point, str]] = field(default_factory=tuple)


@dataclass(slots=True)
class Unavailable(Exception):  # noqa: N818 - the contract's word
    """The store cannot answer now: pause, then send the same batch again after `wait` seconds."""

    reason: str
    wait: float = 1.0


class StoreError(Exception):
    """The store cannot be used at all and no retry helps: the message names it and says what would be right."""


class Store(Protocol):
    """Everything is idempotent. Raises `Unavailable`, or `Rejected` after having stored all the other points.

    A batch is stored whole or, when `Unavailable` is raised, may be sent again whole. While one that gives
    an event other tags is being stored, and after a crash in it until it is sent again, InfluxDB may show the event with
    both. A field keeps the type it had first (number, text or truth); a point that brings another is refused. `keep` of an alarm or a ledger line with
    a lower `position` in its body than the one kept is dropped: a worker that slept may repeat the past. `kept`
    gives the newest `limit` records, oldest of them first; `where` says what names of their bodies must be, as text.
    `tally` counts the records of a kind by what some names of their bodies are (None: they are not there), without
    bringing them all here. `count` is of all points ever stored, where the store itself lets go of old ones; InfluxDB
    counts what its bucket still keeps. `minutes` counts the points from `from_` to before `to`, as they are there now, by
    minute of their time since the epoch; a minute without any is left out. `lacking` gives those of the ids of which no
    record of the kind is, or was, kept.
    """

    async def write(self, points: Sequence[Point]) -> None: ...
    async def read(self, query: Query) -> list[Row]: ...
    async def keep(self, records: Sequence[Record]) -> None: ...
    async def kept(
        self,
        kind: Kept,
        *,
        id_: str | None = None,
        from_: Micros | None = None,
        limit: int | None = None,
        where: Sequence[tuple[str, str]] = (),
    ) -> list[Record]: ...
    async def tally(self, kind: Kept, by: Sequence[str]) -> dict[tuple[str | None, ...], int]: ...
    async def count(self, measurement: str, *, late: bool) -> int: ...
    async def minutes(self, measurement: str, *, late: bool, from_: Micros, to: Micros) -> dict[int, int]: ...
    async def lacking(self, kind: Kept, ids: Sequence[str]) -> set[str]: ...
    async def measurements(self) -> list[str]: ...
    async def close(self) -> None: ...


#: Names that every store gives a meaning of its own.
RESERVED = frozenset({"time", "late", "event_id"})

#: Letters of any other kind would make two names one in a store that ignores case; sqlite_ is SQLite's own.
_NAME = re.compile(r"(?!sqlite_)[a-z][a-z0-9_]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

#: Where a store that counts nanoseconds in 64 bits ends: 1677-09-21 to 2262-04-11.
EARLIEST, LATEST = -(2**63) // 1000 + 1, 2**63 // 1000


def refusal(point: Point) -> str | None:
    """Why no store takes this point, or None. The same for all of them, so that they can take each other's place."""
    return (
        _identity_refusal(point.measurement, point.tags)
        or _names_refusal(tuple([name for name, _ in point.fields]))
        or refusal_of_values(point)
    )


def refusal_of_values(point: Point) -> str | None:
    """The part of `refusal` that differs from point to point of one series with the same fields."""
    _, _, time, fields, event_id, _, _ = point
    if type(time) is not int or not EARLIEST < time < LATEST:
        return f"time {time} is no microsecond between the years 1677 and 2262"
    if event_id and not _is_text(event_id):
        return "event_id is too long or no Unicode text"
    for name, value in fields:
        kind = type(value)
        if kind is float:
            if not isfinite(value):  # type: ignore[arg-type]  # a float
                return f"field {name} is {value}, which is no finite number"
        elif kind is str:
            if not _is_text(value):  # type: ignore[arg-type]  # a str
                return f"field {name} is longer than {MAX_BYTES} characters or no Unicode text"
        elif kind is int:
            if not _is_float(value):  # type: ignore[arg-type]  # an int
                return f"field {name} is an integer beyond every float"
        elif kind is not bool:
            return f"field {name} is a {kind.__name__}: only numbers, text and truth are stored"
    return None


def _is_text(value: str) -> bool:
    return len(value) <= MAX_BYTES and (value.isascii() or not _SURROGATE.search(value))


def _is_float(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


@lru_cache(maxsize=1 << 16)  # one entry a series
def _identity_refusal(measurement: str, tags: tuple[tuple[str, str], ...]) -> str | None:
    if not _NAME.fullmatch(measurement):
        return f"measurement {measurement!r} must match {_NAME.pattern}"
    for name, value in tags:
        if not _NAME.fullmatch(name) or name in RESERVED:
            return f"tag {name!r} must match {_NAME.pattern} and be none of {', '.join(sorted(RESERVED))}"
        if type(value) is not str or not value or len(value) > 1000 or _CONTROL.search(value):
            return f"tag {name} must be 1 to 1000 characters without control characters"
    if len({name for name, _ in tags}) < len(tags):
        return "a tag is given twice"
    return None


@lru_cache(maxsize=1 << 12)
def _names_refusal(names: tuple[str, ...]) -> str | None:
    if not names:
        return "a point needs a field"
    for name in names:
        if not _NAME.fullmatch(name) or name in RESERVED:
            return f"field {name!r} must match {_NAME.pattern} and be none of {', '.join(sorted(RESERVED))}"
    if len(set(names)) < len(names):
        return "a field is given twice"
    return None
