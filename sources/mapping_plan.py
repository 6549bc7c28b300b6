"""A mapping bound to one file: from its rows to events. What does not depend on the row is worked out here, once."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import replace
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from models.base import FIRST, LAST, Event, Micros, Place, micros
from models.catalogue import event_of
from models.decode import Reason, explain
from sources.mapping_grammar import (
    NAMES,
    PLACE,
    TEMPLATE,
    MappingError,
    Scalar,
    fields_of,
    local,
)
from sources.mapping_values import RefusedError, Values, reader, text_of, time_of
from sources.readers import Broken, Csv, Json, JsonLines, Row, Xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from sources.mapping_grammar import Feed, Making, Source, Time, Value, Wanted, Where
    from sources.tokens import Tokens


#: How much of a row's bytes a detail repeats at most.
MAX_DETAIL = 64 * 1024

_FIRST, _LAST = micros(FIRST), micros(LAST)


class Fed(NamedTuple):
    """A valid event, its stamp of arrival, and the place it was read at."""

    event: Event
    stamp_us: Micros
    file: Path
    line: int


class Bad(NamedTuple):
    """What gave no event: why, the topic it was meant for (if one is known), the place, and all its bytes."""

    reason: Reason
    detail: str
    topic: str | None
    file: Path
    line: int
    raw: bytes


# --- Where a value comes from


class _Columns:
    """Finds a row's columns in one file: by position in CSV, by path in objects. `fixed` holds for every row."""

    def __init__(self, path: Path, names: tuple[str, ...] | None, fixed: Mapping[str, str]) -> None:
        self.path = path
        self.index = None if names is None else {name: i for i, name in enumerate(names)}
        self.fixed = fixed

    def cell(self, name: str) -> _Columns:
        """The same, with one column at hand."""
        found = _Columns(self.path, None, {**self.fixed, "column.name": name})
        found.index = {**(self.index or {}), "column.value": (self.index or {})[name]}
        return found

    def pick(self, name: str) -> Callable[[Values], Any]:
        if name in self.fixed:
            text = self.fixed[name]
            return lambda _: text
        if self.index is not None:
            return itemgetter(self.index[name])
        keys = name.split(".")
        if len(keys) == 1:
            return lambda row: row.get(name)
        return lambda row: _walk(row, keys)

    def text(self, source: Source) -> str | Callable[[Values], Any]:
        """The raw value of a source, or the text itself where no row changes it. None: a part of it is empty."""
        names = source.columns
        if source.column is not None:
            return self.fixed.get(source.column) or self.pick(source.column)
        template = source.template or ""
        if all(name in self.fixed for name in names):
            return TEMPLATE.sub(lambda m: self.fixed[m[1]], template)
        picks = [self.pick(name) for name in names]
        pieces = TEMPLATE.split(template)[::2]

        def filled(row: Values) -> str | None:
            out = [pieces[0]]
            for pick, piece in zip(picks, pieces[1:], strict=True):
                part = text_of(pick(row))
                if not part:
                    return None
                out += (part, piece)
            return "".join(out)

        return filled


def _walk(row: Any, keys: list[str]) -> Any:
    """Down a path of names, or of numbers in a list; None where it ends early."""
    for key in keys:
        if isinstance(row, dict):
            row = row.get(key)
        elif isinstance(row, list) and key.isdecimal() and int(key) < len(row):
            row = row[int(key)]
        else:
            return None
    return row


class _Field(NamedTuple):
    name: str
    source: Source
    read: Callable[[Values], Any]


def _field(
    name: str, spec: Value, want: Wanted, columns: _Columns, feed: Feed, tokens: Tokens, *, tell: bool
) -> _Field | Scalar | None:
    """How to read a field; or the value itself, where it is the same in every row of the file."""
    raw = columns.text(spec)
    if isinstance(raw, str):
        fixed = raw
        read = reader(spec, want, lambda _: fixed, feed, tokens, tell=tell)
        try:
            found: Scalar | None = read(None)
        except RefusedError as error:
            raise MappingError(f"{columns.path}: {name}: {fixed[:100]!r}: {error.detail}") from None
        return found
    return _Field(name, spec, reader(spec, want, raw, feed, tokens, tell=tell))


class _Clock:
    """The time of an event or arrival, within what the feed and the city allow."""

    def __init__(self, time: Time, columns: _Columns, feed: Feed) -> None:
        self.name = " ".join(time.columns)
        self.read = time_of(columns.text(time), time.format, time.zone or feed.zone, frozenset({""}))

    def at(self, row: Values, n: int) -> datetime:  # noqa: ARG002 - the row's number is for the clock of rows
        try:
            found = self.read(row)
        except RefusedError as error:
            raise RefusedError(error.reason, f"{self.name}: {error.detail}") from None
        if found is None:
            raise RefusedError("bad_time", f"{self.name}: no time")
        return found


class _RowClock:
    """The time of the n-th row, counted in elapsed time."""

    def __init__(self, feed: Feed) -> None:
        if feed.row_time is None:
            raise ValueError("the feed has no row_time")
        self.start, self.step = local(feed.row_time.start, feed.zone), feed.row_time.step

    def at(self, row: Values, n: int) -> datetime:  # noqa: ARG002 - other clocks read the row
        try:
            return self.start + n * self.step
        except OverflowError:
            raise RefusedError("time_range", f"row {n} is outside the calendar") from None


# --- Rows to events


def _condition(where: Where, columns: _Columns) -> Callable[[Values], bool] | None:
    if not where:
        return None
    tests: list[tuple[Callable[[Values], Any], frozenset[str], bool]] = []
    for name, want in where.items():
        texts = frozenset(text_of(v) for v in want.any_of) if want.any_of is not None else frozenset({""})
        tests.append((columns.pick(name), texts, want.empty is not False))

    def holds(row: Values) -> bool:
        return all((text_of(pick(row)) in texts) is wanted for pick, texts, wanted in tests)

    return holds


class _Maker:
    """Makes one kind of event of a row."""

    def __init__(self, feed: Feed, making: Making, columns: _Columns, tokens: Tokens) -> None:
        event = event_of(making.topic)
        takes, personal = fields_of(event), event.personal()
        tell = event.topic.access == "public"
        self.topic = making.topic
        self.where = _condition(making.where, columns)
        self.clock = _Clock(making.time, columns, feed) if making.time else None
        self.measured = making.measured
        self.base: dict[str, Any] = {"source_id": feed.source or feed.name, **making.constants}
        self.fields: list[_Field] = []
        self.place: list[_Field] = []
        self.fixed_place: dict[str, Any] = {}
        for specs, wants, reads, fixed in (
            (making.fields, takes, self.fields, self.base),
            (making.place, PLACE, self.place, self.fixed_place),
        ):
            for name, spec in specs.items():
                found = _field(name, spec, wants[name], columns, feed, tokens, tell=tell)
                if isinstance(found, _Field):
                    reads.append(found)
                elif found is not None:
                    fixed[name] = found
        self.named = event.topic.series
        same = all(name in self.base for name in self.named)  # as for a detector that is a column
        self.series = "\x1f".join(str(self.base[name]) for name in self.named) if same else ""
        self.seed = f"{feed.name}\x1f{making.topic}"
        self.cell = columns.pick("column.value") if making.each_column else None
        self.event_id = columns.text(making.event_id) if making.event_id else None
        # Of a person's row a plain hash could be found again by trying; under the key of the tokens it cannot.
        self.key = tokens.key[:64] if personal else b""
        self.validate = event.__pydantic_validator__.validate_python

    def make(self, values: Values, at: datetime, at_us: Micros) -> Event:
        data = self.base.copy()
        data["observed_at"] = at
        name = "event_id"
        try:
            for name, _, read in self.fields:
                value = read(values)
                if value is not None:
                    data[name] = value
            if self.place or self.fixed_place:
                name = "place"
                data["place"] = self._place(values)
            if self.measured and data.keys().isdisjoint(self.measured):
                data["quality"] = "no_value"
            name = "event_id"
            data["event_id"] = self._id(values, data, at_us)
        except RefusedError as error:
            raise RefusedError(error.reason, f"{name}: {error.detail}") from None
        try:
            made: Event = self.validate(data)
        except ValidationError as error:
            raise RefusedError(*self._why(error)) from None
        return made

    def _place(self, values: Values) -> Place | None:
        data = {**self.fixed_place, **{name: read(values) for name, _, read in self.place}}
        # 0, 0 lies in the Atlantic: no city is there, but every unset position is. Half a position is none.
        if (
            not (data.get("lat") is not None and data.get("lon") is not None)
            or data["lat"] == data["lon"] == 0
        ):
            data.pop("lat", None)
            data.pop("lon", None)
        if all(value is None for value in data.values()):
            return None
        try:
            return Place(**data)
        except ValidationError as error:
            raise RefusedError(*explain(error)) from None

    def _id(self, values: Values, data: dict[str, Any], at_us: Micros) -> str:
        """The event's own, or a hash that is the same whenever and from whatever file the row is fed again."""
        if self.event_id is not None:
            own = self.event_id if isinstance(self.event_id, str) else text_of(self.event_id(values))
            if not own:
                raise RefusedError("bad_value", "it is empty")
            return own
        content = self.cell(values) if self.cell else _content(values)
        series = self.series or "\x1f".join([str(data.get(name)) for name in self.named])
        text = f"{self.seed}\x1f{series}\x1f{at_us}\x1f{content}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self.key).hexdigest()

    def _why(self, error: ValidationError) -> tuple[Reason, str]:
        reason, detail = explain(error)
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "missing":
            sources = {f.name: f.source.columns for f in self.fields}
            if columns := sources.get(str(first["loc"][0])):
                return reason, f"{detail}: no value in {', '.join(columns)}"
        return reason, detail


def _content(values: Values) -> str:
    if isinstance(values, list):
        return "\x1f".join(values)
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


class Bound:
    """A feed bound to one file. Raises MappingError if the file is none of this feed's."""

    def __init__(self, feed: Feed, path: Path, tokens: Tokens) -> None:
        self.path = path
        makings = [m for m in feed.events if _takes(m, path)]
        if not makings:
            globs = sorted({glob for m in feed.events for glob in m.files})
            raise MappingError(f"{path}: {feed.name} takes no file of this name, only {', '.join(globs)}")
        try:
            path.open("rb").close()
        except OSError as error:
            raise MappingError(f"{path}: cannot be read: {error.strerror}") from error
        self.reader: Csv | Json | JsonLines | Xml = _reader_of(feed)
        names: tuple[str, ...] | None = None
        if isinstance(self.reader, Csv):
            names = self._names(feed, self.reader, makings)
            single = frozenset(n for m in makings for n in _single(feed, m, names))
            self.reader = replace(self.reader, single=single)
        columns = _Columns(path, names, {"file.stem": path.stem, "file.folder": path.resolve().parent.name})
        self.where = _condition(feed.where, columns)
        self.clock = (
            _RowClock(feed) if feed.row_time else _Clock(feed.time, columns, feed) if feed.time else None
        )
        self.arrived = _Clock(feed.arrived, columns, feed) if feed.arrived else None
        self.makers = [m for making in makings for m in _makers(feed, making, columns, names or (), tokens)]
        known = {m.topic for m in self.makers}
        self.topic = known.pop() if len(known) == 1 else None
        self.from_us = micros(local(feed.valid.from_, feed.zone)) if feed.valid.from_ else _FIRST
        self.to_us = micros(local(feed.valid.to, feed.zone)) if feed.valid.to else _LAST

    def _names(self, feed: Feed, reader: Csv, makings: list[Making]) -> tuple[str, ...]:
        names = reader.names(self.path)
        if not names:
            raise MappingError(f"{self.path}:1: a header with the names of the columns is expected")
        twice = sorted({name for name in names if names.count(name) > 1})
        read = {name for m in makings for name in _read(feed, m)} - {*NAMES}
        for making in makings:
            if making.each_column and not _each(making, names):
                raise MappingError(f"{self.path}:1: no column is like {', '.join(making.each_column.like)}")
        missing = sorted(read - {*names})
        if missing or (used := [n for n in twice if n in read or any(m.each_column for m in makings)]):
            what = f"has no column {', '.join(missing)}" if missing else f"has two columns {', '.join(used)}"
            raise MappingError(
                f"{self.path}:1: {what}, which {feed.name} reads; it has {', '.join(names)[:2000]}"
            )
        return names

    def items(self) -> Iterator[Fed | Bad]:
        """Every event and every fault of the file, in its order. A fed event's stamp is its own time or arrival."""
        n = 0
        for row in self.reader.rows(self.path):
            if isinstance(row, Broken):
                yield Bad(row.reason, row.detail[:MAX_DETAIL], self.topic, self.path, row.line, row.raw)
                n += row.reason != "empty"
            else:
                yield from self._made(row, n)
                n += 1

    def _made(self, row: Row, n: int) -> Iterator[Fed | Bad]:
        line, values, raw = row.line, row.values, row.raw
        shared: tuple[datetime, Micros] | None = None
        stamp: Micros | None = None
        topic = self.topic
        try:
            if self.where and not self.where(values):
                return
            if self.arrived:
                stamp = self._within(self.arrived, values, n)[1]
            if self.clock:
                shared = self._within(self.clock, values, n)
        except RefusedError as error:
            yield Bad(error.reason, error.detail[:MAX_DETAIL], topic, self.path, line, raw)
            return
        for maker in self.makers:
            try:
                if maker.where and not maker.where(values):
                    continue
                at, at_us = self._within(maker.clock, values, n) if maker.clock else shared or self._no_time()
                event = maker.make(values, at, at_us)
            except RefusedError as error:
                yield Bad(error.reason, error.detail[:MAX_DETAIL], maker.topic, self.path, line, raw)
            else:
                yield Fed(event, at_us if stamp is None else stamp, self.path, line)

    def _within(self, clock: _Clock | _RowClock, values: Values, n: int) -> tuple[datetime, Micros]:
        """A time that may move a clock."""
        at = clock.at(values, n)
        us = micros(at)
        if not _FIRST <= us < _LAST:
            raise RefusedError("time_range", f"{at.isoformat()} is outside {FIRST.year}..{LAST.year}")
        if not self.from_us <= us < self.to_us:
            raise RefusedError("outside_valid", f"{at.isoformat()} is outside the feed's `valid`")
        return at, us

    def _no_time(self) -> tuple[datetime, Micros]:
        raise RefusedError("bad_time", "neither the feed nor the event names a time")


def _takes(making: Making, path: Path) -> bool:
    """Whether this kind of event is made of a file: by its name, or by as many folders above as a glob names."""
    parts = path.resolve().parts
    return not making.files or any(
        fnmatch.fnmatchcase("/".join(parts[-len(glob.split("/")) :]), glob) for glob in making.files
    )


def _makers(
    feed: Feed, making: Making, columns: _Columns, names: tuple[str, ...], tokens: Tokens
) -> Iterator[_Maker]:
    if making.each_column is None:
        yield _Maker(feed, making, columns, tokens)
    for name in _each(making, names):
        yield _Maker(feed, making, columns.cell(name), tokens)


def _each(making: Making, names: tuple[str, ...]) -> list[str]:
    """The columns of which each makes an event."""
    each = making.each_column
    if each is None:
        return []
    return [n for n in names if n not in each.exclude and any(fnmatch.fnmatchcase(n, g) for g in each.like)]


def _reader_of(feed: Feed) -> Csv | Json | JsonLines | Xml:
    if feed.format == "csv":
        return Csv(feed.delimiter, feed.header == "present", feed.columns)
    if feed.format == "jsonl":
        return JsonLines()
    if feed.format == "xml":
        return Xml(feed.item or "")
    return Json(tuple(feed.path.split(".")) if feed.path else ())


def _sources(feed: Feed, making: Making) -> Iterator[tuple[Source, bool]]:
    """Everything the mapping reads for one kind of event, and whether it is free text."""
    takes = fields_of(event_of(making.topic))
    yield from ((spec, takes[name].free) for name, spec in making.fields.items())
    yield from ((spec, PLACE[name].free) for name, spec in making.place.items())
    for source in (making.event_id, making.time, feed.time, feed.arrived):
        if source is not None:
            yield source, False


def _read(feed: Feed, making: Making) -> set[str]:
    return {n for source, _ in _sources(feed, making) for n in source.columns} | {*feed.where, *making.where}


def _single(feed: Feed, making: Making, names: tuple[str, ...]) -> set[str]:
    """Columns that can hold no line break."""
    found = {n for source, free in _sources(feed, making) if not free for n in source.columns}
    return found | {*feed.where, *making.where} | {*(_each(making, names) if "column.value" in found else ())}
