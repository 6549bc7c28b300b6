"""What a time-series store must do: `write(points)`, `read(query)`, `keep` and `kept` for whole records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base import Micros

Value = float | str | bool
Aggregate = Literal["mean", "sum", "count", "min", "max"]

#: Kinds of whole records a store keeps beside the points, by id: the last write of an id wins.
#: `ledger` is what the judge counted per partition; `alarm` the state of each occurrence.
Kept = Literal["alarm_event", "alarm", "rejected", "ledger"]


class Point(NamedTuple):
    """One observation in a store.

    Identity is (measurement, tags, late, time, event_id); writing it again replaces it. `event_id` is empty for
    samples, so that a series has one value at a time. Fields hold no None: what is absent is not there.
    """

    measurement: str
    tags: tuple[tuple[str, str], ...]
    time: Micros
    fields: tuple[tuple[str, Value], ...]
    event_id: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """`from_` inclusive, `to` exclusive; `every` in microseconds, windows aligned to the epoch; `by` splits by tags.

    Without `every` and `agg` the raw points come, oldest first. With `agg` alone the whole span is one window.
    `fields` empty means all; aggregates other than count see numeric fields only (booleans as 0 and 1).
    Late points are included unless `late` is False.
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


class Store(Protocol):
    """Everything is idempotent. Raises `Unavailable`, or `Rejected` after having stored all the other points."""

    async def write(self, points: Sequence[Point]) -> None: ...
    async def read(self, query: Query) -> list[Row]: ...
    async def keep(self, records: Sequence[Record]) -> None: ...
    async def kept(
        self, kind: Kept, *, id_: str | None = None, from_: Micros | None = None, limit: int | None = None
    ) -> list[Record]: ...
    async def count(self, measurement: str, *, late: bool) -> int: ...
    async def measurements(self) -> list[str]: ...
    async def close(self) -> None: ...
