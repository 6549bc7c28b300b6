"""InfluxDB 2 as the city's store. What a point or a record is there says `line`; how the server speaks, `influx_server`.

Written by the v2 API, read by InfluxQL, which gives all fields of a point in one row and is told by v1, v2 and v3.
Values are added up here: the server's own sums lose digits, and see fields that a rewrite has taken back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from array import array
from collections import Counter, defaultdict
from functools import cache
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sinks import corrections, line
from sinks.contract import (
    RESERVED,
    Kept,
    Point,
    Query,
    Record,
    Rejected,
    Row,
    StoreError,
    Unavailable,
    Value,
    refusal,
    refusal_of_values,
)
from sinks.corrections import Identity, Standing
from sinks.influx_server import Address, NoBucketError, Refused, Series, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence

    from models.base import Micros
    from sinks.line import Place

T = TypeVar("T")
_Shape = tuple[str, tuple[str, ...], tuple[type, ...]]  # a measurement, its fields' names and types

log = logging.getLogger(__name__)

#: One request's most lines and, where texts are long, bytes (a longer line goes alone); and how many are on the way at
#: once. aiohttp warns of bodies beyond 2^20 bytes, because they are written in one go.
LINES, BYTES, IN_FLIGHT = 5000, 1_000_000, 3

#: Whole records of one piece of an answer, and of one request that asks for some by their places.
RECORD_ROWS, PLACES = 500, 100

#: Kinds whose records say how far the log had been read when they were true.
_ORDERED: frozenset[Kept] = frozenset({"alarm", "ledger"})

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TYPES: dict[type, str] = {float: "number", int: "number", str: "text", bool: "truth"}
_KINDS = {"float": "number", "string": "text", "boolean": "truth"}
_BEYOND = "retention policy"


class InfluxStore:
    """`Store` on a bucket. Opening connects to nothing; a bucket that is missing is made, where the token may."""

    def __init__(self, address: Address, *, read_only: bool = False) -> None:
        self._server = Server(address)
        self._name = f"{address.url}, bucket {address.bucket}"
        self._read_only = read_only
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._types: dict[str, dict[str, str]] = {}
        self._shapes: set[_Shape] = set()
        self._series: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        self._writer = uuid.uuid4().hex[:12]
        self._positions: dict[tuple[Kept, str], int | None] = {}
        self._written = 0

    async def close(self) -> None:
        await self._server.close()

    async def _ask(self, statements: str, rows: int = 10_000) -> AsyncIterator[Series]:
        try:
            async for series in self._server.ask(statements, rows):
                yield series
        except NoBucketError:
            if self._read_only:
                raise

    # Points in

    async def write(self, points: Sequence[Point]) -> None:
        self._may_write()
        refused: list[tuple[Point, str]] = []
        lines: dict[Place | Identity, tuple[Place, str, Point]] = {}
        events: dict[Identity, Standing] = {}
        fresh: set[str] = set()
        for point in points:
            names, values = zip(*point.fields, strict=True) if point.fields else ((), ())
            shape = (point.measurement, names, tuple(map(type, values)))
            if shape in self._shapes and (point.measurement, point.tags) in self._series:
                why = refusal_of_values(point)
            else:
                why = await self._refusal(point, shape, fresh)
            if why:
                refused.append((point, why))
            elif not point.event_id:
                place, said = line.line(point)
                lines[place] = place, said, point
            else:
                event = corrections.standing(point)
                held = events.get(event.identity)
                if held is None or event.revision >= held.revision:
                    events[event.identity] = event
                    lines[event.identity] = *line.line(point), point
        there = await self._there(events.values())
        gone = corrections.settle(events, there)
        # Of two at one place the later: no order among requests is needed.
        sent = {
            place: (said, point)
            for key, (place, said, point) in lines.items()
            if key in events or key == place
        }
        refused += await self._send(list(sent.values()))
        kept_out = (
            {corrections.standing(point).identity for point, _ in refused if point.event_id} if gone else ()
        )
        await self._take_away(
            [one for identity, ones in gone.items() if identity not in kept_out for one in ones],
            [*events.values(), *[one for ones in there.values() for one in ones]],
        )
        if refused:
            raise Rejected(refused)

    async def _there(self, events: Collection[Standing]) -> dict[tuple[str, int], list[Standing]]:
        """What stands where these events will, by measurement and nanosecond."""
        found: dict[tuple[str, int], list[Standing]] = {(one.measurement, one.ns): [] for one in events}
        if not events:
            return found
        async for series in self._ask("; ".join(corrections.statements(events))):
            tags = frozenset([tag for tag in series.tags.items() if tag[1]])
            for ns, event_id, revision in series.values:
                if (series.name, ns) in found and event_id is not None:
                    one = Standing(series.name, tags, ns, event_id, int(revision or 0))
                    found[series.name, ns].append(one)
        return found

    async def _take_away(self, gone: list[Standing], others: Iterable[Standing]) -> None:
        """Delete what events were before they had other tags; what goes with it and should not is written again.

        Cut between the two, a batch that is sent again brings what it holds itself.
        """
        places = {one.place for one in gone}
        again: list[tuple[str, str]] = []
        for measurement, ns in corrections.takes_more(gone, [o for o in others if o.place not in places]):
            asked = f'SELECT *::field FROM "{measurement}" WHERE time = {ns} GROUP BY *'  # noqa: S608 - a checked name
            async for series in self._ask(asked):
                tags = tuple([tag for tag in series.tags.items() if tag[1]])
                place = line.series(measurement, tags, late=False), ns  # `late` is among the tags
                if place not in places:
                    rows = [dict(zip(series.columns[1:], row[1:], strict=True)) for row in series.values]
                    again += [(line.again(place, row), place[0]) for row in rows]
        await _all(self._delete(one) for one in gone)
        for what, why in await self._send(again):
            if _BEYOND not in why:
                raise StoreError(f"{self._name} refuses a point of {what} that it had: {why}")

    async def _delete(self, one: Standing) -> None:
        try:
            async with self._in_flight:
                await self._server.delete(one.ns, corrections.predicate(one))
        except Refused as refusal_:
            raise StoreError(
                f"{self._name} deletes no point of {one.place[0]}: {refusal_.reason}"
            ) from refusal_

    def _may_write(self) -> None:
        if self._read_only:
            raise StoreError(f"{self._name}: opened for reading only")

    async def _refusal(self, point: Point, shape: _Shape, fresh: set[str]) -> str | None:
        """Why a point cannot be kept whose series or shape is new; `fresh`: measurements looked up in this batch."""
        if why := refusal(point) or line.refusal_of_tags(point):
            return why
        measurement, names, types = shape
        known = self._types.setdefault(measurement, {})
        if not known.keys() >= set(names) and measurement not in fresh:
            known |= await self._fields(measurement)  # the server minds a field's type only within a week
            fresh.add(measurement)
        brought = {name: _TYPES[kind] for name, kind in zip(names, types, strict=True)}
        for name, kind in brought.items():
            if known.get(name, kind) != kind:
                return f"field {name} of {measurement} is {known[name]}, and this is {kind}"
        known |= brought
        self._shapes.add(shape)
        self._series.add((measurement, point.tags))
        return None

    async def _fields(self, measurement: str) -> dict[str, str]:
        """The measurement's fields and their types, as the server has them."""
        return {
            name: _KINDS.get(kind, kind)
            async for series in self._ask(f'SHOW FIELD KEYS FROM "{measurement}"')
            for name, kind in series.values
        }

    async def _send(self, items: list[tuple[str, T]]) -> list[tuple[T, str]]:
        """Send lines, some requests at once; what the server refuses for good, with its reason."""
        return [pair for answer in await _all(map(self._send_some, _requests(items))) for pair in answer]

    async def _send_some(self, items: list[tuple[str, T]]) -> list[tuple[T, str]]:
        """One request; halved until what is refused stands alone."""
        try:
            async with self._in_flight:
                await self._server.write(line.body(said for said, _ in items))
        except Refused as refusal_:
            if len(items) == 1 or refusal_.dropped == len(items):
                return [(what, refusal_.reason) for _, what in items]
            middle = len(items) // 2
            return await self._send_some(items[:middle]) + await self._send_some(items[middle:])
        return []

    # Points out

    async def read(self, query: Query) -> list[Row]:
        statement = await self._statement(query)
        if statement is None:
            return []
        found = _aggregated if query.agg else _raw
        return await found(self._points(statement, query), query)

    async def _statement(self, query: Query) -> str | None:
        """The query in InfluxQL, or None where the names alone say that nothing can be found."""
        wanted = [name for name in query.fields if _is_field(name)]
        if not _NAME.fullmatch(query.measurement) or (query.fields and not wanted):
            return None
        conditions = [] if query.late is None else [f"\"late\"::tag = '{'1' if query.late else ''}'"]
        for name, value in query.where:
            if _NAME.fullmatch(name) and name not in RESERVED and not _CONTROL.search(value):
                conditions.append(f'"{name}"::tag = {_quoted(value)}')
            elif value:
                return None
        if query.from_ is not None:  # an event may stand anywhere in its second
            conditions.append(f"time >= {_ns(query.from_ // 1_000_000 * 1_000_000)}")
        if query.to is not None:
            conditions.append(f"time < {_ns(-(-query.to // 1_000_000) * 1_000_000)}")
        columns = "*::field"
        if wanted:
            columns = ", ".join(
                f'"{name}"::field' for name in [*wanted, line.EVENT_ID, line.TIME, line.FIELDS]
            )
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        limit = f" LIMIT {query.limit}" if query.limit and await self._is_in_order(query) else ""
        return f'SELECT {columns} FROM "{query.measurement}"{where} GROUP BY *{limit}'  # noqa: S608 - names that match `_NAME`

    async def _is_in_order(self, query: Query) -> bool:
        """Whether the first rows of each series hold the first of all: not of events, nor where rows may fall out."""
        if query.agg or query.fields or (query.from_ or 0) % 1_000_000:
            return False
        return line.TIME not in await self._fields(query.measurement)

    async def _points(
        self, statement: str, query: Query
    ) -> AsyncIterator[tuple[Micros, dict[str, str], Any]]:
        """The time, tags, and fields by name of each point that the query is about."""
        from_ = -(2**63) if query.from_ is None else query.from_
        to = 2**63 if query.to is None else query.to
        async for series in self._ask(statement):
            tags = {name: value for name, value in series.tags.items() if value}
            columns = {name: n for n, name in enumerate(series.columns)}
            holds, at = columns[line.FIELDS], columns.get(line.TIME)
            pick = _picker(columns, query.fields)
            for row in series.values:
                if row[holds] is None:  # not written by us
                    continue
                us = None if at is None else row[at]
                moment = row[0] // 1000 if us is None else int(us)
                if from_ <= moment < to and (fields := pick(row, row[holds])):
                    yield moment, tags, fields

    async def count(self, measurement: str, *, late: bool) -> int:
        if not _NAME.fullmatch(measurement):
            return 0
        tag = "1" if late else ""
        asked = f'SELECT count("{line.FIELDS}") FROM "{measurement}" WHERE "late"::tag = \'{tag}\''  # noqa: S608 - the same
        return sum([row[1] async for series in self._ask(asked) for row in series.values])

    async def minutes(self, measurement: str, *, late: bool, from_: Micros, to: Micros) -> dict[int, int]:
        if not _NAME.fullmatch(measurement):
            return {}
        tag = "1" if late else ""
        asked = (
            f'SELECT count("{line.FIELDS}") FROM "{measurement}" WHERE "late"::tag = \'{tag}\''  # noqa: S608 - the same
            f" AND time >= {_ns(from_)} AND time < {_ns(to)} GROUP BY time(1m) fill(none)"
        )
        found = [row async for series in self._ask(asked) for row in series.values]
        return {ns // 60_000_000_000: int(count) for ns, count in found}

    async def lacking(self, kind: Kept, ids: Sequence[str]) -> set[str]:
        lacking = set(ids)
        slots = sorted({line.record_slot(id_) for id_ in lacking})
        for start in range(0, len(slots), PLACES):
            asked = "; ".join(
                f"SELECT id FROM \"{line.RECORDS}{kind}\" WHERE slot::tag = '{slot}'"  # noqa: S608 - a word of the contract
                for slot in slots[start : start + PLACES]
            )
            lacking -= {row[1] async for series in self._ask(asked) for row in series.values}
        return lacking

    async def measurements(self) -> list[str]:
        found = [row[0] async for series in self._ask("SHOW MEASUREMENTS") for row in series.values]
        return sorted(name for name in found if _NAME.fullmatch(name))

    # Whole records

    async def keep(self, records: Sequence[Record]) -> None:
        """Raises ValueError or TypeError for a body that is not JSON.

        A record that is older than the bucket keeps is let go, as it would be tomorrow.
        """
        self._may_write()
        held: dict[tuple[Kept, str], int | None] = {}
        lines: dict[Place, tuple[str, str]] = {}
        for record in records:
            key, position = (record.kind, record.id), _position(record)
            known = held.get(key, self._positions.get(key))
            ordered = record.kind in _ORDERED
            place = line.record_place(record.kind, record.id, record.time, self._writer if ordered else "")
            said = line.record_line(record, place, position, self._next())
            if position is None or known is None or position >= known:
                lines[place] = (said, record.id)
                if ordered:
                    held[key] = position
        refused = await self._send(list(lines.values()))
        for id_, why in refused:
            if _BEYOND not in why:
                raise StoreError(f"{self._name} refuses the record {id_}: {why}")
            log.warning("the record %s is older than what %s keeps: %s", id_, self._name, why)
        self._positions |= held

    def _next(self) -> int:
        """A number greater than the last, and than any that an earlier process gave."""
        self._written = max(self._written + 1, time.time_ns() // 1000)
        return self._written

    async def kept(
        self,
        kind: Kept,
        *,
        id_: str | None = None,
        from_: Micros | None = None,
        limit: int | None = None,
        where: Sequence[tuple[str, str]] = (),
    ) -> list[Record]:
        chosen = [
            v
            for v in await self._newest(kind, with_head=bool(where), id_=id_)
            if (from_ is None or v.at >= from_)
            and (id_ is None or v.id == id_)
            and all(v.head.get(name) == text for name, text in where)
        ]
        chosen.sort(key=lambda v: (v.at, v.id))
        if limit is not None:
            chosen = chosen[len(chosen) - min(limit, len(chosen)) :]
        bodies: dict[tuple[str, int], str] = {}
        whole = limit is None and id_ is None and not where
        for asked in [_all_bodies(kind)] if whole else _bodies_at(kind, chosen):
            async for series in self._ask(asked, RECORD_ROWS):
                for row in series.values:
                    found = dict(zip(series.columns, row, strict=True))
                    parts = [found[f"body{n}"] for n in range(int(found["parts"]))]
                    bodies[found["id"], int(found["written"])] = "".join(parts)
        return [
            Record(kind, v.id, v.at, json.loads(bodies[v.id, v.written]))
            for v in chosen
            if (v.id, v.written) in bodies  # else it was replaced between the two questions
        ]

    async def tally(self, kind: Kept, by: Sequence[str]) -> dict[tuple[str | None, ...], int]:
        return dict(
            Counter(
                tuple([v.head.get(name) for name in by]) for v in await self._newest(kind, with_head=True)
            )
        )

    async def _newest(self, kind: Kept, *, with_head: bool, id_: str | None = None) -> Iterable[_Version]:
        """Of each record the version that holds, without its body."""
        asked = f'SELECT id, at, written, position, "writer"::tag{", head" if with_head else ""}'
        slot = "" if id_ is None else f" WHERE slot::tag = '{line.record_slot(id_)}'"
        versions: dict[str, list[_Version]] = defaultdict(list)
        async for series in self._ask(f'{asked} FROM "{line.RECORDS}{kind}"{slot}'):
            for ns, of, at, written, position, writer, *head in series.values:
                told = json.loads(head[0]) if head else {}
                where = int(position) if position else None
                versions[of].append(_Version(of, int(at), int(written), where, writer or "", ns, told))
        return [_holding(found) for found in versions.values()]


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Some requests at once: their answers when all have ended, or the failure that helps most."""
    answers = await asyncio.gather(*work, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in sorted(failures, key=lambda failure: isinstance(failure, Unavailable)):
        raise failure
    return [answer for answer in answers if not isinstance(answer, BaseException)]


class _Version(NamedTuple):
    """One writing of a record. It is replaced where its place is; at another place both stand, and one holds."""

    id: str
    at: Micros
    written: int
    position: int | None
    writer: str
    ns: int
    head: dict[str, str]


def _holding(versions: list[_Version]) -> _Version:
    """The last that was written, but for those that tell of an older position than one before them."""
    versions.sort(key=lambda v: v.written)
    held = versions[0]
    for v in versions[1:]:
        if v.position is None or held.position is None or v.position >= held.position:
            held = v
    return held


def _position(record: Record) -> int | None:
    position = record.body.get("position") if record.kind in _ORDERED else None
    return position if type(position) is int else None


def _all_bodies(kind: Kept) -> str:
    return f'SELECT *::field FROM "{line.RECORDS}{kind}"'  # noqa: S608 - a word of the contract


def _bodies_at(kind: Kept, versions: Sequence[_Version]) -> Iterable[str]:
    """Statements that ask for the records at their places, some at a time."""
    for start in range(0, len(versions), PLACES):
        yield "; ".join(
            f"{_all_bodies(kind)} WHERE time = {v.ns} AND slot::tag = '{line.record_slot(v.id)}'"
            f" AND writer::tag = '{v.writer}'"
            for v in versions[start : start + PLACES]
        )


def _requests(items: list[tuple[str, T]]) -> Iterable[list[tuple[str, T]]]:
    some: list[tuple[str, T]] = []
    size = 0
    for item in items:
        if some and (len(some) == LINES or size + len(item[0]) > BYTES):
            yield some
            some, size = [], 0
        some.append(item)
        size += len(item[0])
    if some:
        yield some


# --- answers


def _is_field(name: str) -> bool:
    return name == line.EVENT_ID or (_NAME.fullmatch(name) is not None and name not in RESERVED)


def _quoted(value: str) -> str:
    """A text of InfluxQL. Control characters are no part of any tag, and do not come here."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _ns(us: Micros) -> int:
    """Within what InfluxQL takes for a time."""
    return min(max(us * 1000, -(2**63) + 2), 2**63 - 2)


def _picker(columns: dict[str, int], asked: tuple[str, ...]) -> Callable[[list[Any], str], dict[str, Value]]:
    """The function (row, names that hold in it) -> the fields asked for."""
    id_at = columns.get(line.EVENT_ID) if not asked or line.EVENT_ID in asked else None

    @cache
    def places(names: str) -> list[tuple[str, int]]:
        held = [(name, columns[name]) for name in names.split(",") if name in columns]
        return [(name, n) for name, n in held if not asked or name in asked]

    def pick(row: list[Any], names: str) -> dict[str, Value]:
        fields = {name: float(v) if type(v := row[n]) is int else v for name, n in places(names)}
        if id_at is not None and row[id_at] is not None:
            fields[line.EVENT_ID] = row[id_at]
        return fields

    return pick


async def _raw(points: AsyncIterator[tuple[Micros, dict[str, str], Any]], query: Query) -> list[Row]:
    rows = [Row(at, query.measurement, dict(tags), fields) async for at, tags, fields in points]
    rows.sort(key=lambda row: (row.time, sorted(row.tags.items()), row.fields.get(line.EVENT_ID, "")))
    return rows[: query.limit]


async def _aggregated(points: AsyncIterator[tuple[Micros, dict[str, str], Any]], query: Query) -> list[Row]:
    by, every, agg = sorted(query.by), query.every, query.agg
    assert agg is not None
    windows: dict[tuple[Micros | None, tuple[tuple[str, str], ...]], dict[str, array[float]]] = {}
    oldest: dict[tuple[tuple[str, str], ...], Micros] = {}
    async for at, tags, fields in points:
        part = tuple([(name, tags[name]) for name in by if name in tags])
        numbers = (
            {n: v for n, v in fields.items() if type(v) is not str}
            if agg != "count"
            else dict.fromkeys(fields, 1.0)
        )
        if not numbers:
            continue
        oldest[part] = min(oldest.get(part, at), at)
        window = windows.setdefault((at - at % every if every else query.from_, part), {})
        for name, value in numbers.items():
            if name not in window:
                window[name] = array("d")
            window[name].append(value)
    rows = []
    for (start, part), values in windows.items():
        told = {name: _AGGREGATES[agg](held) for name, held in values.items()}
        fields = {name: value for name, value in told.items() if value is not None}
        if fields:
            rows.append(Row(oldest[part] if start is None else start, query.measurement, dict(part), fields))
    rows.sort(key=lambda row: (row.time, sorted(row.tags.items())))
    return rows[: query.limit]


def _sum(values: array[float]) -> float | None:
    """Exact to the last bit; None beyond the greatest float."""
    try:
        return fsum(values)
    except OverflowError:
        return None


def _mean(values: array[float]) -> float:
    total = _sum(values)
    return fsum(v / len(values) for v in values) if total is None else total / len(values)


_AGGREGATES: dict[str, Callable[[array[float]], float | None]] = {
    "mean": _mean,
    "sum": _sum,
    "count": len,
    "min": min,
    "max": max,
}
