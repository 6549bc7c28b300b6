"""What a mapping file may say. It is checked against the models before a row is read, with file and line."""

from __future__ import annotations

import re
import types
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from models.base import Identifier, Place
from models.catalogue import event_of, topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from models.base import Event


class MappingError(Exception):
    """The mapping, or a file given to it, cannot be used. Every problem is one line: file, line, what is right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# --- The words of a mapping file

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _DURATION.match(value.strip())
    if not found:
        raise ValueError("a duration is a number with a unit: 500ms, 10s, 5m, 2h, 1d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def _zone(value: object) -> object:
    try:
        return ZoneInfo(value) if isinstance(value, str) else value
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{value!r} is no time zone; give an IANA name such as Asia/Ho_Chi_Minh or UTC"
        ) from error


def _column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]
Scalar = str | int | float | bool

#: Exact where the definition is: 1 mile is 1.609344 km, 1 inch 25.4 mm, 1 knot 1.852 km/h. Nothing is rounded.
UNITS: dict[str, Callable[[float], float]] = {
    "mph -> km/h": lambda x: x * 1.609344,
    "m/s -> km/h": lambda x: x * 3.6,
    "knots -> km/h": lambda x: x * 1.852,
    "F -> C": lambda x: (x - 32) * 5 / 9,
    "K -> C": lambda x: x - 273.15,
    "ft -> m": lambda x: x * 0.3048,
    "in -> mm": lambda x: x * 25.4,
    "ratio -> %": lambda x: x * 100,
    "min -> s": lambda x: x * 60,
    "h -> s": lambda x: x * 3600,
    "ms -> s": lambda x: x / 1000,
    "cfs -> m3/s": lambda x: x * 0.028316846592,
}


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Source(_Words):
    """Where a text or number comes from: a column, or several put together."""

    column: str | None = None
    template: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.column is None) == (self.template is None):
            raise ValueError("give either `column` or `template`")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,) if self.column is not None else tuple(TEMPLATE.findall(self.template or ""))


#: A name in braces: a column of the row, or one of NAMES.
TEMPLATE = re.compile(r"\{([^{}]+)\}")
#: What every row has beside its columns: parts of its file's path, and, with `each_column`, the column at hand.
NAMES = ("file.stem", "file.folder", "column.name", "column.value")


class Time(Source):
    """A moment: `iso`, `epoch_s`, `epoch_ms` or a strptime pattern. Without an offset of its own it is local to `zone`."""

    format: str = "iso"
    zone: Zone | None = None

    @field_validator("format")
    @classmethod
    def _known(cls, pattern: str) -> str:
        if pattern in ("iso", "epoch_s", "epoch_ms"):
            return pattern
        if "%" not in pattern:
            raise ValueError("a format is iso, epoch_s, epoch_ms or a pattern such as %d/%m/%Y %H:%M")
        try:
            datetime.strptime(datetime(2000, 1, 2, 3, 4, 5, tzinfo=UTC).strftime(pattern), pattern)  # noqa: DTZ007
        except (ValueError, re.error) as error:
            raise ValueError(f"{pattern!r} is no pattern of strptime: {error}") from error
        return pattern


class RowTime(_Words):
    """A file without times: its n-th row is `start` plus n steps of elapsed time."""

    start: str
    step: Duration


class Value(Source):
    """One field of an event."""

    unit: str | None = None
    factor: float = 1.0
    offset: float = 0.0
    no_value: tuple[Scalar, ...] = ()
    values: dict[str, Scalar] | None = None
    other: Scalar | None = None
    token: bool = False
    clean: bool = False
    format: str | None = None
    zone: Zone | None = None

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in UNITS:
            raise ValueError(f"unknown unit; known are {', '.join(UNITS)}; else give `factor` and `offset`")
        return unit

    @model_validator(mode="after")
    def _agree(self) -> Value:
        if self.other is not None and self.values is None:
            raise ValueError("`other` is what `values` does not name: give `values` too")
        if self.unit is not None and (self.factor, self.offset) != (1.0, 0.0):
            raise ValueError("give either `unit` or `factor` and `offset`")
        return self

    @property
    def convert(self) -> Callable[[float], float] | None:
        """The change of units, if any."""
        if self.unit is not None:
            return UNITS[self.unit]
        if (self.factor, self.offset) == (1.0, 0.0):
            return None
        factor, offset = self.factor, self.offset
        return lambda x: x * factor + offset


class Condition(_Words):
    """What a column must hold for a row to be taken: one of some texts, or nothing, or anything."""

    any_of: tuple[Scalar, ...] | None = None
    empty: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Condition:
        if (self.any_of is None) == (self.empty is None):
            raise ValueError("a condition is a value, a list of values, or {empty: true} or {empty: false}")
        return self


def _condition(value: object) -> object:
    if isinstance(value, list):
        return {"any_of": value}
    return value if isinstance(value, dict) else {"any_of": [value]}


Where = dict[str, Annotated[Condition, BeforeValidator(_condition)]]
FieldValue = Annotated[Value, BeforeValidator(_column)]


class Each(_Words):
    """One event for every column whose name matches."""

    like: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


class Making(_Words):
    """One kind of event made of a row."""

    topic: str
    files: tuple[str, ...] = ()
    each_column: Each | None = None
    where: Where = {}
    time: Annotated[Time, BeforeValidator(_column)] | None = None
    event_id: Annotated[Source, BeforeValidator(_column)] | None = None
    constants: dict[str, Scalar] = {}
    fields: dict[str, FieldValue] = {}
    place: dict[Literal["lat", "lon", "ward", "site"], FieldValue] = {}
    measured: tuple[str, ...] = ()


class Valid(_Words):
    """The span in which this feed's times make sense: `from` inclusive, `to` exclusive, local to the feed's zone."""

    from_: str | None = Field(default=None, alias="from")
    to: str | None = None


class Feed(_Words):
    """A whole mapping file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    description: Annotated[str, Field(min_length=1)]
    source: Identifier | None = None
    format: Literal["csv", "json", "jsonl", "xml"]
    delimiter: Annotated[str, Field(pattern=r"^[\t -~]$")] = ","
    header: Literal["present", "absent"] = "present"
    columns: tuple[str, ...] = ()
    path: str | None = None
    item: str | None = None
    zone: Zone | None = None
    time: Annotated[Time, BeforeValidator(_column)] | None = None
    row_time: RowTime | None = None
    arrival: Literal["file", "sorted", "column"]
    arrived: Annotated[Time, BeforeValidator(_column)] | None = None
    grace: Duration | None = None
    valid: Valid = Valid()
    no_value: tuple[Scalar, ...] = ()
    where: Where = {}
    events: Annotated[tuple[Making, ...], Field(min_length=1)]


# --- What the models want


Kind = Literal["text", "number", "integer", "boolean", "time"]
_KINDS: dict[Any, Kind] = {
    str: "text",
    float: "number",
    int: "integer",
    bool: "boolean",
    datetime: "time",
    AwareDatetime: "time",
}


class Wanted(NamedTuple):
    """What a field of an event takes. `free` text may span lines and hold anything."""

    kind: Kind
    required: bool
    free: bool


def _bases(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The plain types an annotation allows, each with what is said of it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *said = get_args(annotation)
        yield from ((base, (*more, *said)) for base, more in _bases(inner))
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _bases(part)
    elif origin is Literal:
        yield type(get_args(annotation)[0]), ("literal",)
    elif annotation is not type(None):
        yield annotation, ()


def wanted(field: FieldInfo) -> Wanted | None:
    """What a field takes; None for one that no column can fill (a list, a model of its own)."""
    found = list(_bases(field.annotation))
    kinds = {_KINDS.get(base) for base, _ in found}
    if len(kinds) != 1 or (kind := kinds.pop()) is None:
        return None
    said = [*field.metadata, *(s for _, more in found for s in more)]
    flat = [m for s in said for m in (getattr(s, "metadata", None) or [s])]
    bound = any(m == "literal" or getattr(m, "pattern", None) for m in flat)
    return Wanted(kind, field.is_required(), free=kind == "text" and not bound)


#: Fields that the engine fills itself.
_OWN = ("event_id", "source_id", "observed_at", "place")


def fields_of(event: type[Event]) -> dict[str, Wanted]:
    """The fields a mapping may fill."""
    found = {name: wanted(field) for name, field in event.model_fields.items() if name not in _OWN}
    return {name: want for name, want in found.items() if want is not None}


PLACE = {name: want for name, field in Place.model_fields.items() if (want := wanted(field))}


# --- Checks between the words

Problem = tuple[tuple[str | int, ...], str]


def _problems(feed: Feed) -> Iterator[Problem]:
    yield from _of_format(feed)
    yield from _of_time(feed)
    for i, making in enumerate(feed.events):
        at = ("events", i)
        if making.topic not in topics():
            yield (*at, "topic"), f"no such topic; there are {', '.join(topics())}"
            continue
        yield from (((*at, *where), what) for where, what in _of_making(feed, making))


def _of_format(feed: Feed) -> Iterator[Problem]:
    csv = feed.format == "csv"
    if not csv:
        for name in ("delimiter", "header", "columns"):
            if name in feed.model_fields_set:
                yield (name,), f"only csv has `{name}`, this feed is {feed.format}"
    if csv and feed.header == "absent" and not feed.columns:
        yield ("header",), "without a header the names of the columns are needed: give `columns`"
    if len(set(feed.columns)) != len(feed.columns):
        yield ("columns",), "two columns have the same name"
    if feed.path is not None and feed.format != "json":
        yield ("path",), "only json has a `path` to its list"
    if (feed.item is None) == (feed.format == "xml"):
        yield ("item",), "xml, and only xml, names the element that is an `item`"


def _of_time(feed: Feed) -> Iterator[Problem]:
    if feed.time is not None and feed.row_time is not None:
        yield ("row_time",), "give either `time` or `row_time`"
    for i, making in enumerate(feed.events):
        if making.time is None and feed.time is None and feed.row_time is None:
            yield ("events", i), "no time: give the feed or this event a `time`, or the feed a `row_time`"
    if (feed.arrival == "column") != (feed.arrived is not None):
        yield (
            ("arrival",),
            "`arrival: column`, and only that, needs `arrived`, the column with the time of arrival",
        )
    if feed.row_time is not None and feed.zone is None:
        yield ("row_time",), "`start` is a local time: give the feed a `zone`"
    moments: dict[tuple[str | int, ...], str | None] = {
        ("row_time", "start"): feed.row_time.start if feed.row_time else None,
        ("valid", "from"): feed.valid.from_,
        ("valid", "to"): feed.valid.to,
    }
    for where, text in moments.items():
        if text is not None:
            try:
                local(text, feed.zone)
            except ValueError:
                yield where, f"{text!r} is no time; write 2012-03-01 or 2012-03-01T00:00:00"
    for where, time in ((("time",), feed.time), (("arrived",), feed.arrived)):
        if time is not None:
            yield from _zoned(feed, where, time)
    for i, making in enumerate(feed.events):
        if making.time is not None:
            yield from _zoned(feed, ("events", i, "time"), making.time)


def _zoned(feed: Feed, where: tuple[str | int, ...], time: Time) -> Iterator[Problem]:
    if (
        time.format not in ("iso", "epoch_s", "epoch_ms")
        and "%z" not in time.format
        and not (time.zone or feed.zone)
    ):
        yield where, "these times have no offset: give a `zone`"


def local(text: str, zone: ZoneInfo | None) -> datetime:
    """A moment written in the mapping itself; without an offset it is local to the feed's zone (UTC if it has none)."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=zone or UTC)).astimezone(UTC)


def _of_making(feed: Feed, making: Making) -> Iterator[Problem]:
    event = event_of(making.topic)
    takes = fields_of(event)
    filled = {*making.fields, *making.constants}
    for group, names in (("fields", making.fields), ("constants", making.constants)):
        for name in names:
            if name in _OWN:
                yield (
                    (group, name),
                    f"`{name}` has a word of its own in a mapping: time, event_id, source or place",
                )
            elif name not in takes:
                yield (group, name), f"{event.__name__} has no such field; it has {', '.join(takes)}"
    for name in sorted({*making.fields} & {*making.constants}):
        yield ("constants", name), "given twice, as a field and as a constant"
    for name, want in takes.items():
        if want.required and name not in filled:
            yield (), f"{event.__name__} needs `{name}`: give it in `fields` or `constants`"
    for name in making.measured:
        if name not in making.fields:
            yield ("measured",), f"{name} is not among the `fields` of this event"
    if making.place and {"lat", "lon"} & {*making.place} and not {"lat", "lon"} <= {*making.place}:
        yield ("place",), "a position is `lat` and `lon`"
    for name, spec in making.fields.items():
        if name in takes:
            yield from _of_value(("fields", name), spec, takes[name], personal=name in event.personal())
            values = [*(spec.values or {}).items(), *([] if spec.other is None else [("other", spec.other)])]
            for key, value in values:
                if what := refused(event.model_fields[name], value):
                    yield ("fields", name, "values", key), what
    for name, spec in making.place.items():
        yield from _of_value(("place", name), spec, PLACE[name], personal=False)
    for name, value in making.constants.items():
        if name in event.personal():
            yield ("constants", name), "this is about a person and differs by row: give it in `fields`"
        elif name in takes and (what := refused(event.model_fields[name], value)):
            yield ("constants", name), what
    if making.each_column is not None and feed.format != "csv":
        yield ("each_column",), f"only csv has columns, this feed is {feed.format}"
    yield from _of_columns(feed, making)


def _of_columns(feed: Feed, making: Making) -> Iterator[Problem]:
    """Names that are known to be wrong before a file is seen."""
    sources: list[tuple[tuple[str | int, ...], Source | None]] = [
        *((("fields", n), s) for n, s in making.fields.items()),
        *((("place", n), s) for n, s in making.place.items()),
        (("event_id",), making.event_id),
        (("time",), making.time),
    ]
    for where, source in sources:
        for name in source.columns if source is not None else ():
            if name.startswith("column.") and name in NAMES and making.each_column is None:
                yield where, f"{{{name}}} is known only under `each_column`"
            elif feed.columns and name not in feed.columns and name not in NAMES:
                yield where, f"there is no column {name!r}; there are {', '.join(feed.columns)}"


def _of_value(
    where: tuple[str | int, ...], spec: Value, want: Wanted, *, personal: bool
) -> Iterator[Problem]:
    if personal and not spec.token:
        yield where, "this is about a person: add `token: true`, so that only a keyed hash leaves the source"
    if spec.token and not personal:
        yield (*where, "token"), "only fields that are tagged personal hold tokens"
    if spec.convert is not None and want.kind != "number":
        yield where, f"units are for measured numbers, this field is a {want.kind}"
    if spec.clean and want.kind != "text":
        yield (*where, "clean"), f"cleaning is for texts, this field is a {want.kind}"
    if spec.format is not None:
        if want.kind != "time":
            yield (*where, "format"), f"a format is for times, this field is a {want.kind}"
        try:
            Time(column="x", format=spec.format)
        except ValidationError as error:
            yield (*where, "format"), error.errors()[0]["msg"].removeprefix("Value error, ")


def refused(field: FieldInfo, value: Scalar) -> str | None:
    """Why a value that stands in the mapping is none for the field."""
    kind: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        return f"{value!r}: {error.errors()[0]['msg']}"
    return None


# --- From a file to a feed


class _Loader(yaml.SafeLoader):
    """Times stay texts: what zone they are in is said elsewhere in the file."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(path: Path) -> Feed:
    """The feed a mapping file describes. Raises MappingError with every problem found."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        root = loader.get_single_node()
    except OSError as error:
        raise MappingError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MappingError(f"{path}: is no UTF-8 text: byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MappingError(f"{path}:{line}: is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise MappingError(f"{path}: is no YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise MappingError(f"{path}:1: a mapping begins with `name:`; see docs/mapping.md")
    if twice := list(_twice(root)):
        raise MappingError(*(f"{path}:{line}: {key}: given twice" for line, key in twice))
    try:
        feed = Feed.model_validate(loader.construct_document(root))
    except ValidationError as error:
        found = [(e["loc"], _words(e["type"], e["msg"])) for e in error.errors()]
        # An event that is wrong is told of; that too few are right then says nothing more.
        found = [f for f in found if not any(o[: len(f[0])] == f[0] != o for o, _ in found)]
        raise _told(path, root, found) from error
    if problems := list(_problems(feed)):
        raise _told(path, root, problems)
    return feed


def _twice(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Keys that stand twice in one mapping: YAML would quietly take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, str(key.value)
            seen.add(key.value)
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twice(value)


def _words(kind: str, what: str) -> str:
    """What pydantic says, in the words of this file."""
    own = {"extra_forbidden": "no such word here; see docs/mapping.md", "missing": "is missing"}
    return own.get(kind, what.removeprefix("Value error, "))


def _told(path: Path, root: yaml.Node, found: list[Problem]) -> MappingError:
    """All problems, in the order of the file."""
    lines = []
    for where, what in found:
        line, name = _place(root, where)
        if what == "is missing":
            name = ".".join(str(part) for part in where)
        lines.append((line, f"{path}:{line}: {name or 'the file'}: {what}"))
    return MappingError(*(text for _, text in sorted(lines)))


def _place(root: yaml.Node, where: tuple[str | int, ...]) -> tuple[int, str]:
    """The line of what is at `where`, or of the nearest thing around it that the file holds."""
    node, line, name = root, root.start_mark.line + 1, []
    for part in where:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            continue
        name.append(str(part))
    return line, ".".join(name)
