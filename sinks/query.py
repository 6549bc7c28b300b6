"""What a person writes to ask a store, and how the answer is written: the pure part of `citywatch query`."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from models.base import FIRST, LAST, Micros, micros, moment
from sinks.contract import AGGREGATES, Query, Row, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS: dict[str, Micros] = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)


def parse_query(
    measurement: str,
    *,
    where: Sequence[str] = (),
    from_: str | None = None,
    to: str | None = None,
    every: str | None = None,
    agg: str | None = None,
    by: str | None = None,
    fields: str | None = None,
    limit: int | None = None,
) -> Query:
    """The query that the words of a command line ask for. Raises ValueError saying what would be right.

    `--where late=1` and `late=0` ask for late points alone, or without them.
    """
    pairs = [parse_where(text) for text in where]
    if agg is not None and agg not in AGGREGATES:
        raise ValueError(f"{agg!r} is no aggregate: write --agg {'|'.join(AGGREGATES)}")
    if agg is None and (every is not None or by):
        raise ValueError(f"--every and --by need --agg {'|'.join(AGGREGATES)}")
    start, end = (None if text is None else parse_time(text) for text in (from_, to))
    if start is not None and end is not None and start >= end:
        raise ValueError(f"--from {from_} is not before --to {to}, where the span ends")
    return Query(
        measurement,
        where=tuple(pair for pair in pairs if pair[0] != "late"),
        from_=start,
        to=end,
        every=None if every is None else parse_duration(every),
        agg=agg,
        by=parse_names(by),
        fields=parse_names(fields),
        late=_parse_late([value for name, value in pairs if name == "late"]),
        limit=limit,
    )


def parse_duration(text: str) -> Micros:
    """`30s`, `15m`, `1h`, `1d` in microseconds."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(
            f"{text!r} is no duration: write a whole number and s, m, h or d, as in 30s, 15m, 1h, 1d"
        )
    us = int(found[1]) * _UNITS[found[2]]
    if us > micros(LAST):
        raise ValueError(f"{text!r} is longer than all the time a store knows ({FIRST.year} to {LAST.year})")
    return us


def parse_time(text: str) -> Micros:
    """An ISO 8601 time or date. One without an offset is taken as UTC, a date as its first moment. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write it as 2012-03-01T07:00:00Z, 2012-03-01T14:00:00+07:00 or 2012-03-01"
            " (without an offset it is UTC)"
        ) from None
    us = micros(found if found.tzinfo else found.replace(tzinfo=UTC))
    try:
        moment(us)
    except OverflowError:  # the year 1, and east of Greenwich
        raise ValueError(f"{text!r} is in UTC no time of the years 1 to 9999: write one of those") from None
    return us


def parse_where(text: str) -> tuple[str, str]:
    """`tag=value`; the value may hold more `=`, and an empty one asks for what has no such tag."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"{text!r}: write --where tag=value, as in --where ward=Hạ Long")
    return name.strip(), value


def parse_names(text: str | None) -> tuple[str, ...]:
    """`a,b` as its names, each once, in their order."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _parse_late(values: Sequence[str]) -> bool | None:
    if not values:
        return None
    if set(values) == {"1"}:
        return True
    if set(values) == {"0"}:
        return False
    raise ValueError(f"late={','.join(values)}: write late=1 for late points alone, late=0 for none of them")


def format_time(us: Micros) -> str:
    """ISO 8601 in UTC with Z; microseconds only where there are any."""
    return moment(us).isoformat().replace("+00:00", "Z")


def rows_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What `--json` prints."""
    return [
        {
            "time": format_time(row.time),
            "measurement": row.measurement,
            "tags": row.tags,
            "fields": row.fields,
        }
        for row in rows
    ]


def rows_csv(rows: Sequence[Row]) -> str:
    """What `--csv` prints (RFC 4180): a column for every tag and field of any row, empty where a row has none."""
    tags = sorted({name for row in rows for name in row.tags})
    fields = list(dict.fromkeys(name for row in rows for name in row.fields))
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["time", "measurement", *tags, *fields])
    for row in rows:
        cells = [_cell(row.fields[name]) if name in row.fields else "" for name in fields]
        table.writerow([format_time(row.time), row.measurement, *(row.tags.get(n, "") for n in tags), *cells])
    return out.getvalue()


def _cell(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
