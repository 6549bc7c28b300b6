"""Rows out of files that may be damaged: CSV, JSON, JSON lines and XML items. A bad row never costs a good neighbour."""

from __future__ import annotations

import csv
import os
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from xml.etree.ElementTree import ParseError

import msgspec
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from models.decode import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from models.decode import Reason

#: A quoted field that is still open after so many lines was never meant to be one.
MAX_RECORD_LINES = 200

#: Of a longer line these many bytes are kept: a file without line ends must not fill the memory.
KEEP_BYTES = 8 * 1024 * 1024

_CHUNK = 64 * 1024
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One record: texts in the order of the columns (CSV), or names to values (JSON, XML). `line` is its first."""

    line: int
    values: list[str] | dict[str, Any]
    raw: bytes


class Broken(NamedTuple):
    """What is no record, why, and its bytes."""

    line: int
    reason: Reason
    detail: str
    raw: bytes


class _Line(NamedTuple):
    number: int
    raw: bytes
    size: int


def _lines(stream: IO[bytes]) -> Iterator[_Line]:
    """Physical lines with their ends; of a line beyond KEEP_BYTES only the beginning, but its whole size."""
    number = 0
    while raw := stream.readline(KEEP_BYTES):
        number += 1
        size, end = len(raw), raw
        while len(end) >= _CHUNK and not end.endswith(b"\n") and (end := stream.readline(_CHUNK)):
            size += len(end)
        yield _Line(number, raw.removeprefix(_BOM) if number == 1 else raw, size)


def _unfit(line: _Line) -> Broken | None:
    """Why no record can begin in a line whatever the format, if so."""
    if not line.raw or line.raw.isspace():
        return Broken(line.number, "empty", "an empty line", line.raw)
    if line.size > MAX_BYTES:
        detail = f"a line of {line.size} bytes, at most {MAX_BYTES} are allowed"
        return Broken(line.number, "too_large", detail, line.raw)
    return None


def _without_empty_end(found: Iterable[Row | Broken]) -> Iterator[Row | Broken]:
    """Empty lines are told of only when something follows: files may end with some."""
    empty: list[Broken] = []
    for row in found:
        if isinstance(row, Broken) and row.reason == "empty":
            empty.append(row)
            continue
        if empty:
            yield from empty
            empty.clear()
        yield row


class _Ahead:
    """Lines of a file of which more than the next can be looked at."""

    def __init__(self, source: Iterator[_Line]) -> None:
        self._source = source
        self._held: deque[_Line] = deque()

    def at(self, i: int) -> _Line | None:
        while len(self._held) <= i:
            if (line := next(self._source, None)) is None:
                return None
            self._held.append(line)
        return self._held[i]

    def first(self, n: int) -> list[_Line]:
        return list(islice(self._held, n))

    def drop(self, n: int) -> None:
        for _ in range(n):
            self._held.popleft()


# --- CSV


@dataclass(frozen=True, slots=True)
class Csv:
    """How a CSV file is written. `columns` names the fields, in place of the header where there is one.

    `single` are columns that can hold no line break (numbers, times, identifiers): a quote that opens there and
    does not close in its line is damage, and costs that line only.
    """

    delimiter: str = ","
    header: bool = True
    columns: tuple[str, ...] = ()
    single: frozenset[str] = field(default=frozenset())

    def names(self, path: Path) -> tuple[str, ...]:
        """The columns of a file; empty if it has no header that can be read."""
        if self.columns:
            return self.columns
        with path.open("rb") as stream:
            for found in _without_empty_end(self._records(stream, 0, ())):
                if isinstance(found, Row) and isinstance(found.values, list):
                    return tuple(found.values)
                if isinstance(found, Broken) and found.reason != "empty":
                    break
        return ()

    def rows(self, path: Path) -> Iterator[Row | Broken]:
        names = self.names(path)
        single = [i for i, name in enumerate(names) if name in self.single]
        with path.open("rb") as stream:
            headers = 1 if self.header else 0
            for found in _without_empty_end(self._records(stream, len(names), single)):
                if headers and not (isinstance(found, Broken) and found.reason == "empty"):
                    headers = 0
                    continue
                yield found

    def _records(self, stream: IO[bytes], width: int, single: Collection[int]) -> Iterator[Row | Broken]:
        """Records of one or more lines. `width` 0 takes any number of fields; so does the header's."""
        ahead = _Ahead(_lines(stream))
        wanted = 0 if self.header else width
        while first := ahead.at(0):
            if unfit := _unfit(first):
                ahead.drop(1)
                yield unfit
                continue
            span = self._span(ahead, first)
            found = self._record(ahead.first(span), wanted, single) if span else None
            ahead.drop(span if found else 1)
            yield found or self._damaged(first, wanted)
            wanted = width

    def _span(self, ahead: _Ahead, first: _Line) -> int:
        """How many lines the record has that begins in the first; 0 if a quote does not close as it should."""
        if b'"' not in first.raw:
            return 1
        delimiter = self.delimiter.encode()
        is_open = _open_after(first.raw, delimiter, is_open=False)
        span, size = 1, first.size
        while is_open and span < MAX_RECORD_LINES and (line := ahead.at(span)):
            size += line.size
            if size > MAX_BYTES:
                break
            is_open = _open_after(line.raw, delimiter, is_open=True)
            span += 1
        return span if is_open is False else 0

    def _record(self, lines: Sequence[_Line], width: int, single: Collection[int]) -> Row | Broken | None:
        """The record in these lines; None if they are not one record, so that only the first line is at fault."""
        number, raw = lines[0].number, b"".join(line.raw for line in lines)
        text = raw.decode("utf-8", "surrogateescape")
        if "\0" in text:
            return None
        if '"' in text:
            try:
                values = next(csv.reader([text], delimiter=self.delimiter, strict=True))
            except (csv.Error, StopIteration):
                return None
        else:
            values = text.split(self.delimiter)
        if width and len(values) != width:
            return None
        if len(lines) > 1 and any("\n" in values[i].strip() for i in single):
            return None
        return _not_utf8(number, raw) or Row(number, [value.strip() for value in values], raw)

    def _damaged(self, line: _Line, width: int) -> Broken:
        """Why this line is no record."""
        if bad := _not_utf8(line.number, line.raw):
            return bad
        text = line.raw.decode()
        if "\0" in text:
            return Broken(line.number, "row_shape", "a NUL byte, which no text holds", line.raw)
        try:
            fields = len(next(csv.reader([text], delimiter=self.delimiter, strict=True)))
        except (csv.Error, StopIteration) as error:
            return Broken(line.number, "row_shape", f"its quotes do not match: {error}", line.raw)
        return Broken(line.number, "row_shape", f"{fields} fields, {width} are expected", line.raw)


def _not_utf8(number: int, raw: bytes) -> Broken | None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return Broken(number, "not_utf8", f"byte {error.start}: {error.reason}", raw)
    return None


def _open_after(line: bytes, delimiter: bytes, *, is_open: bool) -> bool | None:
    """Whether a quoted field is open at the line's end; None if a quote closes where no field ends."""
    at = 0
    while True:
        if is_open:
            at = line.find(b'"', at)
            if at < 0:
                return True
            after = line[at + 1 : at + 2]
            if after == b'"':
                at += 2
                continue
            if after != delimiter:
                return False if not line[at + 1 :].strip(b"\r\n") else None
            at += 2
            is_open = False
        elif line.startswith(b'"', at):
            is_open = True
            at += 1
        else:
            at = line.find(delimiter, at)
            if at < 0:
                return False
            at += 1


# --- JSON


def _parsed(raw: bytes | msgspec.Raw, kind: Any) -> Any:
    """JSON as `kind`, or a Broken without place. Stricter than the standard library: no NaN, no lone surrogate."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except UnicodeDecodeError as error:
        return Broken(0, "not_utf8", f"{error.reason}", b"")
    except RecursionError:
        return Broken(0, "not_json", "nested too deeply", b"")
    except msgspec.ValidationError as error:
        return Broken(0, "schema", str(error), b"")
    except (msgspec.DecodeError, ValueError) as error:
        return Broken(0, "not_json", str(error), b"")


def _item(number: int, raw: bytes) -> Row | Broken:
    if len(raw) > MAX_BYTES:
        return Broken(
            number, "too_large", f"an item of {len(raw)} bytes, at most {MAX_BYTES} are allowed", raw
        )
    found = _parsed(raw, dict[str, Any])
    if isinstance(found, Broken):
        return _not_utf8(number, raw) or found._replace(line=number, raw=raw)
    return Row(number, found, raw)


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One object a line."""

    def rows(self, path: Path) -> Iterator[Row | Broken]:
        with path.open("rb") as stream:
            yield from _without_empty_end(
                _unfit(line) or _item(line.number, line.raw) for line in _lines(stream)
            )


@dataclass(frozen=True, slots=True)
class Json:
    """A document with a list of objects at `path`. One that does not parse is one Broken."""

    path: tuple[str, ...] = ()

    def rows(self, path: Path) -> Iterator[Row | Broken]:
        raw = path.read_bytes()
        text = raw.removeprefix(_BOM)
        found = self._items(text)
        if isinstance(found, Broken):
            yield found._replace(line=1, raw=raw)
            return
        at, items = found
        line = 1 + text.count(b"\n", 0, at)
        for item in map(bytes, items):
            start = text.index(item, at)
            line += text.count(b"\n", at, start)
            yield _item(line, item)
            line += item.count(b"\n")
            at = start + len(item)

    def _items(self, text: bytes) -> tuple[int, list[msgspec.Raw]] | Broken:
        """The items, and where their list begins."""
        if not text.strip():
            return Broken(1, "empty", "the file is empty", b"")
        node = msgspec.Raw(text)
        for key in self.path:
            found: dict[str, msgspec.Raw] | Broken = _parsed(node, dict[str, msgspec.Raw])
            if isinstance(found, Broken):
                return found
            if key not in found:
                return Broken(1, "schema", f"no {key!r} on the path {'.'.join(self.path)} to the list", b"")
            node = found[key]
        items: list[msgspec.Raw] | Broken = _parsed(node, list[msgspec.Raw])
        return items if isinstance(items, Broken) else (text.index(bytes(node)), items)


# --- XML

#: Bytes that no XML 1.0 document holds, not even escaped. In UTF-8 they are never part of another character.
#: More than the name of any tag.
_TAG = 4096
_CONTROL = bytes(set(range(0x20)) - set(b"\t\r\n"))
_BLANKED = bytes.maketrans(_CONTROL, b" " * len(_CONTROL))


class _Items:
    """Target of the parser: the outermost elements named `item`, each as a dict, with the bytes it spans.

    `last` is the line and first byte of the last tag of the last whole item.
    """

    def __init__(self, item: str) -> None:
        self.item = item
        self.parser: Any = None
        self.done: list[tuple[int, int, int, dict[str, Any]]] = []
        self._open: list[tuple[dict[str, Any], list[str]]] = []
        self._begun = (0, 0)
        self.last = (1, 0)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = _local(tag)
        if self._open or name == self.item:
            if not self._open:
                self._begun = (self.parser.CurrentByteIndex, self.parser.CurrentLineNumber)
            self._open.append(({f"@{_local(k)}": v for k, v in attributes.items()}, []))

    def data(self, text: str) -> None:
        if self._open:
            self._open[-1][1].append(text)

    def end(self, tag: str) -> None:
        if not self._open:
            return
        inner, texts = self._open.pop()
        text = "".join(texts).strip()
        if not self._open:
            begin, line = self._begun
            self.last = (self.parser.CurrentLineNumber, self.parser.CurrentByteIndex)
            self.done.append((line, begin, self.last[1], {**inner, "text": text}))
            return
        value: Any = {**inner, "text": text} if inner else text
        outer, name = self._open[-1][0], _local(tag)
        if name not in outer:
            outer[name] = value
        elif isinstance(outer[name], list):
            outer[name].append(value)
        else:
            outer[name] = [outer[name], value]

    def close(self) -> None: ...

    def taken(self) -> list[tuple[int, int, int, dict[str, Any]]]:
        """Items that are whole by now: line, first byte, first byte of the last tag, values. Each is given once."""
        done, self.done = self.done, []
        return done


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


@dataclass(frozen=True, slots=True)
class Xml:
    """Elements named `item`, wherever they stand; namespaces are ignored.

    Whole items before a break are rows, the rest is one Broken. A control byte that XML forbids is read as a
    space, and one Broken at the file's end tells how many there were and where the first was.
    """

    item: str

    def rows(self, path: Path) -> Iterator[Row | Broken]:
        target = _Items(self.item)
        parser = DefusedXMLParser(target=target, forbid_dtd=True)
        target.parser = parser.parser
        controls = _Controls()
        with path.open("rb") as stream:
            try:
                while chunk := stream.read(_CHUNK):
                    parser.feed(controls.blanked(chunk))
                    yield from (_element(stream, *item) for item in target.taken())
                parser.close()
            except (ParseError, DefusedXmlException) as error:
                yield from (_element(stream, *item) for item in target.taken())
                yield _break(stream, *target.last, error)
        if controls.count:
            yield controls.told()


def _element(stream: IO[bytes], line: int, begin: int, end: int, values: dict[str, Any]) -> Row | Broken:
    """The item that begins at a byte and whose last tag begins at another."""
    closing = os.pread(stream.fileno(), _TAG, end).partition(b">")
    size = end - begin + len(closing[0]) + 1
    raw = os.pread(stream.fileno(), min(size, KEEP_BYTES), begin)
    if size > MAX_BYTES:
        return Broken(line, "too_large", f"an item of {size} bytes, at most {MAX_BYTES} are allowed", raw)
    return Row(line, values, raw)


def _break(stream: IO[bytes], line: int, begin: int, error: Exception) -> Broken:
    """What cannot be read any more, with the file's bytes from the last tag of the last whole item on."""
    raw = os.pread(stream.fileno(), KEEP_BYTES, begin)
    if not raw.strip():
        return Broken(line, "empty", "the file is empty", raw)
    if isinstance(error, DefusedXmlException):
        return Broken(line, "schema", f"a document type or entity, which no feed needs: {error}", raw)
    return Broken(line, "row_shape", f"not well-formed XML, the rest of the file is not read: {error}", raw)


class _Controls:
    """Counts control bytes while it turns them into spaces, so that every other byte keeps its place."""

    def __init__(self) -> None:
        self.count = 0
        self._line = 1
        self._first: tuple[int, bytes] = (0, b"")

    def blanked(self, chunk: bytes) -> bytes:
        clean = chunk.translate(_BLANKED)
        if clean != chunk:
            places = [i for i, byte in enumerate(chunk) if byte in _CONTROL]
            if not self.count:
                at = places[0]
                self._first = (self._line + chunk.count(b"\n", 0, at), chunk[max(0, at - 100) : at + 100])
            self.count += len(places)
        self._line += chunk.count(b"\n")
        return clean

    def told(self) -> Broken:
        line, raw = self._first
        what = f"{self.count} control bytes, which XML forbids, were read as spaces, the first of them here"
        return Broken(line, "bad_value", f"{what}; the items around them were kept", raw)
