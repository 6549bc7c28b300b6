"""The embedded store: one SQLite file, one process that writes and any number that read meanwhile.

A measurement is a table with a column a field; `_series` holds the sets of tags. All that is known of a file is in it:
whoever has only `sqlite3` can read the history of the city.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from sinks.contract import (
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.base import Micros

P = ParamSpec("P")
T = TypeVar("T")

_APPLICATION = int.from_bytes(b"city")
_FORMAT = 1
_SCHEMA = (
    "CREATE TABLE _series (id INTEGER PRIMARY KEY, measurement TEXT, tags TEXT, UNIQUE (measurement, tags))",
    "CREATE TABLE _field (measurement TEXT, name TEXT, type TEXT, UNIQUE (measurement, name))",
    "CREATE TABLE _record (kind TEXT, id TEXT, time INTEGER, position INTEGER, body TEXT, PRIMARY KEY (kind, id))",
    "CREATE INDEX _record_by_time ON _record (kind, time, id)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)
#: How many points of a measurement have been let go because of their age: the ledger counts what was stored.
_AGED = "CREATE TABLE IF NOT EXISTS _aged (measurement TEXT, late INTEGER, points INTEGER, PRIMARY KEY (measurement, late))"

#: Which revision of an event a row is. Tables of before there was such a column get it when something is written to them.
_REVISION = "_revision INTEGER NOT NULL DEFAULT 0"

#: FULL, so that what is acknowledged survives a power cut and not only SIGKILL: one sync a batch of 5,000 was not
#: measurable (155,000 to 163,000 upserts/s with either). The limit on the journal gives back the disk after a reader
#: that took long.
_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA journal_size_limit = 67108864",
)

#: How long to wait for another process's lock before saying `Unavailable`.
_BUSY_S = 5.0

#: Errors that may pass: somebody frees the lock, the disk or the memory. All others stop loudly.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)

Type = Literal["number", "text", "truth"]
_TYPES: dict[type, Type] = {float: "number", int: "number", str: "text", bool: "truth"}
_COLUMNS: dict[Type, str] = {"number": "REAL", "text": "TEXT", "truth": "INTEGER"}

_AGGREGATES = {"mean": "mean_of", "sum": "sum_of", "count": "count", "min": "min", "max": "max"}

#: What has grown too old goes piece by piece, one with each write, so that no write waits for long: this many points
#: (0.01 s), of this many series. When all series have had their turn, they have it again after some minutes.
_AGING_POINTS, _AGING_SERIES, _AGING_EVERY_S = 2000, 500, 600

_DAY: Micros = 86_400_000_000
_MINUTE: Micros = 60_000_000

#: Ids in one statement.
_IDS = 500

#: Kinds whose records say how far the log had been read when they were true.
_ORDERED: frozenset[Kept] = frozenset({"alarm", "ledger"})


class SqliteStore:
    """`Store` on one file. Raises `StoreError` when the file is not ours, or is not there for a reader.

    Points observed, and rejects stamped, more than `retention_days` ago are let go while others are written (0: none is);
    `count` and `tally` go on counting them. The blocking work is done by one thread of its own, which also owns the connection.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False, retention_days: int = 0) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        try:
            self._file = self._thread.submit(
                _File, Path(path), read_only=read_only, retention_us=retention_days * _DAY
            ).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))

    async def write(self, points: Sequence[Point]) -> None:
        refused = await self._run(self._file.write, points)
        if refused:
            raise Rejected(refused)

    async def read(self, query: Query) -> list[Row]:
        return await self._run(self._file.read, query)

    async def keep(self, records: Sequence[Record]) -> None:
        await self._run(self._file.keep, records)

    async def kept(
        self,
        kind: Kept,
        *,
        id_: str | None = None,
        from_: Micros | None = None,
        limit: int | None = None,
        where: Sequence[tuple[str, str]] = (),
    ) -> list[Record]:
        return await self._run(self._file.kept, kind, id_, from_, limit, where)

    async def tally(self, kind: Kept, by: Sequence[str]) -> dict[tuple[str | None, ...], int]:
        return await self._run(self._file.tally, kind, by)

    async def count(self, measurement: str, *, late: bool) -> int:
        return await self._run(self._file.count, measurement, late)

    async def minutes(self, measurement: str, *, late: bool, from_: Micros, to: Micros) -> dict[int, int]:
        return await self._run(self._file.minutes, measurement, late, from_, to)

    async def lacking(self, kind: Kept, ids: Sequence[str]) -> set[str]:
        return await self._run(self._file.lacking, kind, ids)

    async def measurements(self) -> list[str]:
        return await self._run(self._file.measurements)

    async def close(self) -> None:
        """May be called again; nothing else may be after it."""
        if self._file.is_open:
            await self._run(self._file.close)
            self._thread.shutdown()


@dataclass(slots=True)
class _Table:
    """What the writer remembers of a measurement, and the rows of it that wait for the next statement.

    `places` says for the names and types of a point's fields where each column takes its value (-1: nothing). Of the
    rows of one event only the one that holds waits: the greatest revision, the last of equal ones.
    """

    name: str
    types: dict[str, Type]
    series: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    places: dict[tuple[tuple[str, ...], tuple[type, ...]], tuple[int, ...]] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    events: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)

    def insert(self) -> str:
        """A row, unless it is of an event that is there in a greater revision."""
        own = ["_revision", *map(_quoted, self.types)]
        columns = ["_series", "late", "time", "event_id", *own]
        marks = ", ".join(f"?{n + 1}" for n in range(len(columns)))
        return (
            f"INSERT INTO {_quoted(self.name)} ({', '.join(columns)}) SELECT {marks}"
            f" WHERE ?4 = '' OR NOT EXISTS (SELECT 1 {self._same_event()} AND _revision > ?5)"
            f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in own)}"
        )

    def make_room(self) -> str:
        """Take away what the event was when it had other tags."""
        return f"DELETE {self._same_event()} AND _series != ?1 AND _revision <= ?5"

    def _same_event(self) -> str:
        return f"FROM {_quoted(self.name)} WHERE time = ?3 AND event_id = ?4 AND event_id != '' AND late = ?2"

    def index(self) -> str:
        """By which an event is found whatever its tags; samples are not in it."""
        return (
            f'CREATE INDEX IF NOT EXISTS "_event_{self.name}" ON {_quoted(self.name)} (time, event_id)'
            " WHERE event_id != ''"
        )


class _File:
    """The connection, used by the one thread that made it."""

    def __init__(self, path: Path, *, read_only: bool, retention_us: Micros) -> None:
        self._path = path
        self._read_only = read_only
        self._retention_us = retention_us
        self._aging: list[tuple[str, int]] = []  # measurement and series that still have their turn
        self._aging_at = 0.0
        self._tables: dict[str, _Table] = {}
        self._version = -1
        if read_only and not path.is_file():
            raise StoreError(
                f"{path}: there is no store here; it is made by the first worker that stores something"
            )
        if path.is_dir() or not path.parent.is_dir():
            raise StoreError(f"{path}: no file can be made here; name one in a folder that exists")
        mode = "ro" if read_only else "rwc"
        with self._explained():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None
            )
        self.is_open = True
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.is_open = False
        self._db.close()

    # Opening

    def _prepare(self) -> None:
        if not self._is_ours():
            self._create()
        for statement in () if self._read_only else (*_WRITER, _AGED):
            self._db.execute(statement)
        self._db.create_aggregate("sum_of", 1, _Sum)  # type: ignore[arg-type]  # typeshed wants an int from finalize
        self._db.create_aggregate("mean_of", 1, _Mean)  # type: ignore[arg-type]  # the same
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute("CREATE TEMP TABLE _chosen (series INTEGER PRIMARY KEY, part INTEGER NOT NULL)")

    def _is_ours(self) -> bool:
        """Whether the file is a store; False when it is still empty, StoreError when it is something else."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == _APPLICATION:
            if version != _FORMAT:
                raise StoreError(
                    f"{self._path}: a store of format {version}, but this citywatch reads format {_FORMAT};"
                    " use the citywatch that wrote it, or another --data folder"
                )
            return True
        if (application, version, tables) != (0, 0, 0):
            raise StoreError(f"{self._path}: a database of another program; choose another --data folder")
        if self._read_only:
            raise StoreError(f"{self._path}: nothing has been stored here yet")
        return False

    def _create(self) -> None:
        (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(
                f"{self._path}: its file system has no shared memory, which WAL mode needs; use a local disk"
            )
        with self._transaction("BEGIN IMMEDIATE"):
            if not self._is_ours():  # another process may have been faster
                for statement in _SCHEMA:
                    self._db.execute(statement)

    # Transactions and errors

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # a mistake in this module, not the database's answer
                raise
            said = f"{self._path}: {error} ({error.sqlite_errorname})"
            if code & 0xFF in _PASSING:
                raise Unavailable(said) from error
            if code & 0xFF == sqlite3.SQLITE_NOTADB:
                said = f"{self._path}: no SQLite file; choose another --data folder"
            raise StoreError(said) from error

    @contextmanager
    def _transaction(self, begin: Literal["BEGIN", "BEGIN IMMEDIATE"]) -> Iterator[None]:
        """All or nothing; a reader's sees one moment of the file, and leaves nothing behind in `_chosen`."""
        with self._explained():
            try:
                self._db.execute(begin)
                yield
                self._db.execute("COMMIT" if begin == "BEGIN IMMEDIATE" else "ROLLBACK")
            except BaseException:
                self._tables.clear()  # series and columns that were not committed are in it
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._read_only:
            raise StoreError(f"{self._path}: opened for reading only")
        with self._transaction("BEGIN IMMEDIATE"):
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._version:  # another process has written: what is remembered may be old
                self._tables.clear()
                self._version = version
            yield

    # Points in

    def write(self, points: Sequence[Point]) -> list[tuple[Point, str]]:
        """Store the points in their order, in one transaction; those that cannot be are given back with the reason."""
        with self._writing():
            refused = [(point, why) for point in points if (why := self._add(point))]
            for table in self._tables.values():
                self._flush(table)
            if self._retention_us:
                self._age()
        return refused

    def _add(self, point: Point) -> str | None:
        """Put the point's row with those that wait, or say why there can be none."""
        measurement, tags, time, fields, event_id, late, revision = point
        table = self._tables.get(measurement)
        shape = (tuple([name for name, _ in fields]), tuple([type(value) for _, value in fields]))
        if table is None or tags not in table.series or shape not in table.places:
            if why := refusal(point):
                return why
            table = table or self._table(measurement)
            if why := _conflict(table, *shape):
                return why
            self._learn(table, tags, *shape)
        elif why := refusal_of_values(point):
            return why
        values: list[Value | None] = [value for _, value in fields]
        if int in shape[1]:  # SQLite's own integers end at 64 bits
            values = [float(value) if type(value) is int else value for value in values]
        values.append(None)
        places = table.places[shape]
        row = (table.series[tags], late, time, event_id, revision, *[values[place] for place in places])
        if not event_id:
            table.rows.append(row)
        elif (held := table.events.get(row[1:4])) is None or revision >= held[4]:
            table.events[row[1:4]] = row
        return None

    def _flush(self, table: _Table) -> None:
        if table.events:
            self._db.execute(table.index())
            self._db.executemany(table.make_room(), [row[:5] for row in table.events.values()])
        if table.rows or table.events:
            self._db.executemany(table.insert(), [*table.rows, *table.events.values()])
            table.rows.clear()
            table.events.clear()

    def _table(self, measurement: str) -> _Table:
        types = self._types(measurement)
        if not types:
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {_quoted(measurement)} (_series INTEGER NOT NULL, late INTEGER NOT NULL,"
                f" time INTEGER NOT NULL, event_id TEXT NOT NULL, {_REVISION},"
                " PRIMARY KEY (_series, late, time, event_id)) WITHOUT ROWID"
            )
        elif not self._has_revisions(measurement):
            self._db.execute(f"ALTER TABLE {_quoted(measurement)} ADD COLUMN {_REVISION}")
        table = self._tables[measurement] = _Table(measurement, types)
        return table

    def _has_revisions(self, measurement: str) -> bool:
        asked = "SELECT 1 FROM pragma_table_info(?) WHERE name = '_revision'"
        return self._db.execute(asked, (measurement,)).fetchone() is not None

    def _types(self, measurement: str) -> dict[str, Type]:
        found = self._db.execute(
            "SELECT name, type FROM _field WHERE measurement = ? ORDER BY rowid", (measurement,)
        )
        return dict(found.fetchall())

    def _learn(
        self,
        table: _Table,
        tags: tuple[tuple[str, str], ...],
        names: tuple[str, ...],
        types: tuple[type, ...],
    ) -> None:
        if tags not in table.series:
            table.series[tags] = self._series(table.name, tags)
        for name, kind in zip(names, types, strict=True):
            if name not in table.types:
                self._flush(table)  # the rows that wait know the old columns
                table.places.clear()
                self._add_column(table, name, _TYPES[kind])
        table.places[names, types] = tuple(
            [names.index(name) if name in names else -1 for name in table.types]
        )

    def _add_column(self, table: _Table, name: str, kind: Type) -> None:
        self._db.execute("INSERT INTO _field VALUES (?, ?, ?)", (table.name, name, kind))
        self._db.execute(f"ALTER TABLE {_quoted(table.name)} ADD COLUMN {_quoted(name)} {_COLUMNS[kind]}")
        table.types[name] = kind

    def _series(self, measurement: str, tags: tuple[tuple[str, str], ...]) -> int:
        key = (measurement, json.dumps(dict(sorted(tags)), ensure_ascii=False))
        self._db.execute("INSERT OR IGNORE INTO _series (measurement, tags) VALUES (?, ?)", key)
        found = self._db.execute("SELECT id FROM _series WHERE measurement = ? AND tags = ?", key)
        return int(found.fetchone()[0])

    # Points that go

    def _age(self) -> None:
        """Let go of one piece of what has grown too old."""
        if not self._aging:
            if time.monotonic() < self._aging_at:
                return
            self._strip_rejects(time.time_ns() // 1000 - self._retention_us)
            self._aging = self._db.execute("SELECT measurement, id FROM _series").fetchall()
            self._aging_at = time.monotonic() + _AGING_EVERY_S
        before, left = time.time_ns() // 1000 - self._retention_us, _AGING_POINTS
        for _ in range(min(_AGING_SERIES, len(self._aging))):
            for late in (False, True):
                left -= self._let_go(*self._aging[-1], late, before, left)
                if left <= 0:
                    return  # of this series there may be more
            self._aging.pop()

    def _let_go(self, measurement: str, series: int, late: bool, before: Micros, most: int) -> int:
        """Delete and count the oldest points of a series, `most` of them and what is as old as the last; how many."""
        place = {"series": series, "late": late, "before": before, "skip": most - 1}
        where = f"FROM main.{_quoted(measurement)} WHERE _series = :series AND late = :late AND time"
        found = self._db.execute(
            f"SELECT time {where} < :before ORDER BY time LIMIT 1 OFFSET :skip", place
        ).fetchone()
        if found:
            place["before"] = found[0] + 1
        gone = self._db.execute(f"DELETE {where} < :before", place).rowcount
        if gone:
            self._db.execute(
                "INSERT INTO _aged VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET points = points + excluded.points",
                (measurement, late, gone),
            )
        return gone

    def _strip_rejects(self, before: Micros) -> None:
        """Of rejects that have grown too old only what the ledger counts stays, and not what a source once sent."""
        cells = ", ".join(f"'{name}', json_extract(body, '$.{name}')" for name in ("topic", "reason", "file"))
        self._db.execute(
            f"UPDATE OR REPLACE _record SET kind = ?, body = json_object({cells}) WHERE rowid IN"  # noqa: S608 - names of ours
            " (SELECT rowid FROM _record WHERE kind = 'rejected' AND time < ? ORDER BY time LIMIT ?)",
            (_gone("rejected"), before, _AGING_POINTS),
        )

    # Points out

    def read(self, query: Query) -> list[Row]:
        with self._transaction("BEGIN"):
            asked = self._asked(query)
            if not asked:
                return []
            parts = self._choose(query)
            statement, arguments = _select(query, asked)
            rows = self._db.execute(statement, arguments).fetchall()
        truths = {name for name, kind in asked.items() if kind == "truth" and query.agg is None}
        answer: list[Row] = []
        for at, part, late, *values in rows:
            fields = {name: value for name, value in zip(asked, values, strict=True) if value is not None}
            for name in truths & fields.keys():
                fields[name] = bool(fields[name])
            tags = {**parts[part], "late": "1"} if late else dict(parts[part])
            if fields:
                answer.append(Row(at, query.measurement, tags, fields))
        return answer

    def _asked(self, query: Query) -> dict[str, Type]:
        """The fields to answer with, and their types."""
        types = self._types(query.measurement)
        if not types:
            return {}
        known: dict[str, Type] = {"event_id": "text", **types}
        names = query.fields or known
        usable = {name: known[name] for name in names if name in known}
        if query.agg in (None, "count"):
            return usable
        return {name: kind for name, kind in usable.items() if kind != "text"}

    def _choose(self, query: Query) -> list[dict[str, str]]:
        """Put the series asked for into `_chosen`, each with its part of the answer; give the tags of the parts."""
        found = self._db.execute("SELECT id, tags FROM _series WHERE measurement = ?", (query.measurement,))
        series = {id_: json.loads(tags) for id_, tags in found}
        keys = {
            id_: tuple(((n, tags[n]) for n in query.by if n in tags) if query.agg else tags.items())
            for id_, tags in series.items()
            if all(tags.get(name, "") == value for name, value in query.where)
        }
        parts = sorted(set(keys.values()))
        number = {key: n for n, key in enumerate(parts)}
        self._db.executemany(
            "INSERT INTO _chosen VALUES (?, ?)", [(id_, number[key]) for id_, key in keys.items()]
        )
        return [dict(key) for key in parts]

    def count(self, measurement: str, late: bool) -> int:
        with self._transaction("BEGIN"):
            if not self._types(measurement):
                return 0
            found = self._db.execute(f"SELECT count(*) FROM {_quoted(measurement)} WHERE late = ?", (late,))  # noqa: S608
            return int(found.fetchone()[0]) + self._aged(measurement, late)

    def _aged(self, measurement: str, late: bool) -> int:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = '_aged'").fetchone():
            return 0  # a file that no writer has opened since there is such a table
        asked = (measurement, late)
        found = self._db.execute(
            "SELECT points FROM _aged WHERE measurement = ? AND late = ?", asked
        ).fetchone()
        return int(found[0]) if found else 0

    def minutes(self, measurement: str, late: bool, from_: Micros, to: Micros) -> dict[int, int]:
        with self._transaction("BEGIN"):
            if not self._types(measurement):
                return {}
            minute = "(p.time - (p.time % :minute + :minute) % :minute) / :minute"  # floored, before 1970 too
            found = self._db.execute(  # series by series: time stands behind them in the key
                f"SELECT {minute}, count(*) FROM _series AS s"  # noqa: S608 - names only
                f" CROSS JOIN main.{_quoted(measurement)} AS p ON p._series = s.id WHERE s.measurement = :measurement"
                " AND p.late = :late AND p.time >= :from AND p.time < :to GROUP BY 1",
                {"minute": _MINUTE, "measurement": measurement, "late": late, "from": from_, "to": to},
            )
            return dict(found.fetchall())

    def lacking(self, kind: Kept, ids: Sequence[str]) -> set[str]:
        lacking = set(ids)
        asked = list(lacking)
        with self._transaction("BEGIN"):
            for start in range(0, len(asked), _IDS):
                some = asked[start : start + _IDS]
                marks = ", ".join("?" * len(some))
                found = self._db.execute(
                    f"SELECT id FROM _record WHERE kind IN (?, ?) AND id IN ({marks})",  # noqa: S608 - marks
                    [kind, _gone(kind), *some],
                )
                lacking -= {id_ for (id_,) in found}
        return lacking

    def measurements(self) -> list[str]:
        with self._transaction("BEGIN"):
            found = self._db.execute("SELECT DISTINCT measurement FROM _field ORDER BY measurement")
            return [name for (name,) in found]

    # Whole records

    def keep(self, records: Sequence[Record]) -> None:
        """Raises ValueError or TypeError for a body that is not JSON."""
        rows = [(r.kind, r.id, r.time, _position(r), json.dumps(r.body, allow_nan=False)) for r in records]
        with self._writing():
            self._db.executemany(
                "INSERT INTO _record VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE"
                " SET time = excluded.time, position = excluded.position, body = excluded.body"
                " WHERE excluded.position IS NULL OR position IS NULL OR excluded.position >= position",
                rows,
            )

    def kept(
        self,
        kind: Kept,
        id_: str | None,
        from_: Micros | None,
        limit: int | None,
        where: Sequence[tuple[str, str]],
    ) -> list[Record]:
        conditions: list[str] = ["kind = ?"]
        arguments: list[str | int] = [kind]
        if id_ is not None:
            conditions.append("id = ?")
            arguments.append(id_)
        if from_ is not None:
            conditions.append("time >= ?")
            arguments.append(from_)
        for name, text in where:
            conditions.append("CAST(json_extract(body, ?) AS TEXT) = ?")
            arguments += [_inside(name), text]
        arguments.append(-1 if limit is None else limit)
        with self._transaction("BEGIN"):
            found = self._db.execute(
                f"SELECT id, time, body FROM _record WHERE {' AND '.join(conditions)}"  # noqa: S608 - the lines above
                " ORDER BY time DESC, id DESC LIMIT ?",
                arguments,
            ).fetchall()
        return [Record(kind, id_, time, json.loads(body)) for id_, time, body in reversed(found)]

    def tally(self, kind: Kept, by: Sequence[str]) -> dict[tuple[str | None, ...], int]:
        cells = ", ".join(["CAST(json_extract(body, ?) AS TEXT)"] * len(by))
        groups = ", ".join(str(n + 1) for n in range(len(by)))
        with self._transaction("BEGIN"):
            found = self._db.execute(
                f"SELECT {cells}, count(*) FROM _record WHERE kind IN (?, ?) GROUP BY {groups}",  # noqa: S608 - numbers
                [*map(_inside, by), kind, _gone(kind)],
            ).fetchall()
        return {tuple(values): count for *values, count in found}


def _gone(kind: str) -> str:
    """What records of a kind are kept as when only their count matters any more."""
    return f"{kind}_gone"


def _inside(name: str) -> str:
    """The JSON path of a name of a record's body."""
    return f'$."{name}"'


def _quoted(name: str) -> str:
    return f'"{name}"'  # `refusal` lets no quote into a name


def _conflict(table: _Table, names: tuple[str, ...], types: tuple[type, ...]) -> str | None:
    for name, kind in zip(names, types, strict=True):
        held = table.types.get(name)
        if held is not None and held != _TYPES[kind]:
            return f"field {name} of {table.name} is {held}, and this is {_TYPES[kind]}"
    return None


def _position(record: Record) -> int | None:
    position = record.body.get("position") if record.kind in _ORDERED else None
    return position if type(position) is int else None


def _select(query: Query, asked: dict[str, Type]) -> tuple[str, dict[str, Any]]:
    """The statement for a query whose series are in `_chosen`: its rows are time, part, late, then the fields asked."""
    cells = [f"p.{_quoted(name)}" if name != "event_id" else "nullif(p.event_id, '')" for name in asked]
    conditions = [f"({' OR '.join(f'{cell} IS NOT NULL' for cell in cells)})"]
    conditions.append(
        "p.late IN (0, 1)" if query.late is None else "p.late = :late"
    )  # keeps the key in use for time
    if query.from_ is not None:
        conditions.append("p.time >= :from")
    if query.to is not None:
        conditions.append("p.time < :to")
    if query.agg is None:
        time, late, end = "p.time", "p.late", "ORDER BY 1, 2, 3, p.event_id"
    else:
        late = "p.late" if "late" in query.by else "0"
        cells = [f"{_AGGREGATES[query.agg]}({cell})" for cell in cells]
        if query.agg in ("min", "max"):
            cells = [f"CAST({cell} AS REAL)" for cell in cells]
        if query.agg == "count":
            cells = [f"nullif({cell}, 0)" for cell in cells]
        if query.every is not None:  # floored, before 1970 too
            time, end = "p.time - (p.time % :every + :every) % :every", "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        else:
            time = "min(p.time)" if query.from_ is None else ":from"
            end = "GROUP BY 2, 3 ORDER BY 1, 2, 3"
    statement = (
        f"SELECT {time}, chosen.part, {late}, {', '.join(cells)}"  # noqa: S608 - names only, and from `_field`
        f" FROM _chosen AS chosen CROSS JOIN main.{_quoted(query.measurement)} AS p ON p._series = chosen.series"
        f" WHERE {' AND '.join(conditions)} {end} LIMIT :limit"
    )
    arguments = {
        "late": query.late,
        "from": query.from_,
        "to": query.to,
        "every": query.every,
        "limit": -1 if query.limit is None else query.limit,
    }
    return statement, arguments


class _Sum:
    """Exact to the last bit, whatever the order of the values: SQLite's own sum is so in none of its versions.

    Costs 0.7 us a value where SQLite's takes 0.1, and 8 bytes while the window is being read.
    """

    def __init__(self) -> None:
        self._values = array("d")

    def step(self, value: float | None) -> None:
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        if not self._values:
            return None
        try:
            return fsum(self._values)
        except OverflowError:
            return None


class _Mean(_Sum):
    def finalize(self) -> float | None:
        count = len(self._values)
        total = super().finalize()
        if total is None and count:  # beyond the greatest float, but their mean is not
            return fsum(value / count for value in self._values)
        return None if total is None else total / count
