"""Points as InfluxDB's line protocol, and what a line's identity is there.

InfluxDB knows a point by its series (measurement and tags) and its time in nanoseconds, and a rewrite *adds* to the
fields that are there. So a line says in the field `citywatch.fields` which of the point's fields hold. An event's id
stands in the digits of its time, and its true time in the field `citywatch.us`. No name of ours has a dot.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.base import Micros
    from sinks.contract import Point, Record, Value

FIELDS = "citywatch.fields"
TIME = "citywatch.us"
REVISION = "citywatch.revision"  # of an event that is a correction; absent: 0
EVENT_ID = "event_id"

#: Whole records: one measurement a kind.
RECORDS = "citywatch."

DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_SECOND_NS, _MS_NS = 1_000_000_000, 1_000_000

#: InfluxDB takes 1,048,576 bytes of text in a field.
PART = 1_000_000


#: What a point's identity is in InfluxDB, its series and nanosecond: a second line with it is a rewrite of the first.
Place = tuple[str, int]


def text(value: str) -> str:
    """A text field's value."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=1 << 16)  # one entry a series
def series(measurement: str, tags: tuple[tuple[str, str], ...], late: bool) -> str:
    """Measurement and tags; sorted, as InfluxDB wants them for speed and we for comparing."""
    pairs = sorted((*tags, ("late", "1"))) if late else sorted(tags)
    return ",".join((measurement, *[f"{name}={_tag(value)}" for name, value in pairs]))


def _tag(value: str) -> str:
    return value.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def ns_of(time: Micros, event_id: str) -> int:
    """A sample's own time. An event's, with its id in the digits below its last that says anything.

    Sources that tell whole seconds give many events of one moment, and a thousand million places for them; two of
    a thousand events in one second meet with a chance of 1 to 2,000. Other times keep their millisecond.
    """
    if not event_id:
        return time * 1000
    digits = int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest())
    if time % _SECOND_US == 0:
        return time * 1000 + digits % _SECOND_NS
    return time // 1000 * _MS_NS + digits % _MS_NS


def line(point: Point) -> tuple[Place, str]:
    """A point that `refusal` has nothing against, as its place and its line."""
    measurement, tags, time, fields, event_id, late, revision = point
    key = series(measurement, tags, late)
    ns = ns_of(time, event_id) if event_id else time * 1000
    said = names = ""
    for name, value in fields:
        if type(value) is float:
            said += f"{name}={value!r},"
        else:
            said += f"{name}={_value(value)},"
        names += f"{name},"
    if event_id:
        said += f"{EVENT_ID}={text(event_id)},{TIME}={time},"
        if revision:
            said += f"{REVISION}={revision},"
    return (key, ns), f'{key} {said}{FIELDS}="{names[:-1]}" {ns}'


def again(place: Place, fields: Mapping[str, Value | None]) -> str:
    """The line of a point with all that the server tells of it, as it stood there."""
    key, ns = place
    said = ",".join(f"{name}={_value(value)}" for name, value in fields.items() if value is not None)
    return f"{key} {said} {ns}"


def _value(value: Value) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value))  # whole numbers: a field that began as 3 must take 3.5


def refusal_of_tags(point: Point) -> str | None:
    """Why line protocol cannot say what every other store can, or None."""
    for name, value in point.tags:
        if value.endswith("\\"):
            return f"tag {name} ends in a backslash, which line protocol has no way to write"
    return None


# --- whole records


def record_place(kind: str, id_: str, time: Micros, writer: str) -> Place:
    """Where a record is kept: by its id within the day of its time, one of 2 * 10^16 places.

    `writer` is empty, or says whose place it is where two must not overwrite each other.
    """
    tags = f"slot={record_slot(id_)}" + (f",writer={writer}" if writer else "")
    within = int.from_bytes(_digest(id_)[1:]) % (DAY_US * 1000)
    return f"{RECORDS}{kind},{tags}", time // DAY_US * DAY_US * 1000 + within


def record_slot(id_: str) -> str:
    """The tag by which one record is found without looking at all: one of 256."""
    return f"{_digest(id_)[0]:02x}"


def _digest(id_: str) -> bytes:
    return blake2b(id_.encode(), digest_size=9).digest()


def record_line(record: Record, place: Place, position: int | None, written: int) -> str:
    """A record's line: its body in as many fields as it needs, and what it can be chosen by in `head`.

    Raises ValueError or TypeError for a body that is not JSON.
    """
    body = json.dumps(record.body, allow_nan=False)
    parts = [body[n : n + PART] for n in range(0, len(body), PART)]
    said = [f"body{n}={text(part)}" for n, part in enumerate(parts)]
    said.append(f"parts={len(parts)},at={record.time},written={written}")
    said.append(f'position="{"" if position is None else position}",id={text(record.id)}')
    said.append(f"head={text(json.dumps(head(record.body)))}")
    key, ns = place
    return f"{key} {','.join(said)} {ns}"


#: Longer values of a body cannot be chosen by.
LONGEST_IN_HEAD = 1000


def head(body: dict[str, object]) -> dict[str, str]:
    """What a body's names are, as text, for those that are not too long to be asked for."""
    told = {name: as_text(value) for name, value in body.items()}
    return {
        name: value for name, value in told.items() if value is not None and len(value) <= LONGEST_IN_HEAD
    }


def as_text(value: object) -> str | None:
    """A JSON value as the text it is compared with; None where there is none. As SQLite casts it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _float_text(value: float) -> str:
    """SQLite gives 15 digits, and a point to whole numbers."""
    told = f"{value + 0.0:.15g}"  # there is no -0.0
    if "." in told:
        return told
    whole, sign, exponent = told.partition("e")
    return f"{whole}.0{sign}{exponent}"


def rfc3339(ns: int) -> str:
    second = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


def body(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()
