"""What a column's value becomes: text, number, truth or time, changed as the mapping says; or why it is refused."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from models.base import EPOCH, FIRST, LAST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

    from models.decode import Reason
    from sources.mapping_grammar import Feed, Scalar, Value, Wanted
    from sources.tokens import Tokens

#: A row: list[str] of CSV, or dict[str, Any] of a JSON or XML item.
Values = Any


class RefusedError(Exception):
    """This value makes no event."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


def text_of(raw: Any) -> str:
    """A value as the text a CSV file would hold; absent is empty."""
    if isinstance(raw, str):
        return raw.strip()
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return repr(raw)
    if isinstance(raw, dict) and isinstance(raw.get("text"), str):
        return str(raw["text"])  # an XML element with attributes
    raise RefusedError("bad_value", "a single value is expected, not a list or an object")


def _number(raw: Any) -> float:
    if isinstance(raw, dict):
        raw = text_of(raw)
    try:
        if isinstance(raw, str):
            if "_" in raw or not raw.isascii():  # Python would take 1_000 and the digits of other scripts
                raise RefusedError("bad_value", "a number is expected")
            found = float(raw)
        elif isinstance(raw, int | float) and not isinstance(raw, bool):
            found = float(raw)
        else:
            raise RefusedError("bad_value", f"a number is expected, not a {type(raw).__name__}")
    except ValueError:
        raise RefusedError("bad_value", "a number is expected") from None
    except OverflowError:
        raise RefusedError("not_finite", "a number too large to hold") from None
    if not math.isfinite(found):
        raise RefusedError("not_finite", "a finite number is expected")
    return found


def _integer(raw: Any) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    found = _number(raw)
    if not found.is_integer():
        raise RefusedError("bad_value", "a whole number is expected")
    return int(found)


_TRUTH = {"true": True, "t": True, "yes": True, "y": True, "1": True, "1.0": True,
          "false": False, "f": False, "no": False, "n": False, "0": False, "0.0": False}  # fmt: skip


def _boolean(text: str) -> bool:
    found = _TRUTH.get(text.lower())
    if found is None:
        raise RefusedError("bad_value", f"one of {', '.join(_TRUTH)} is expected")
    return found


def _cleaned(text: str) -> str:
    """What an Identifier refuses becomes a hyphen: slashes and what cannot be seen."""
    return "".join("-" if c == "/" or unicodedata.category(c)[0] == "C" else c for c in text)


def reader(
    spec: Value, want: Wanted, pick: Callable[[Values], Any], feed: Feed, tokens: Tokens, *, tell: bool
) -> Callable[[Values], Any]:
    absent = frozenset({"", *(text_of(v) for v in (*spec.no_value, *feed.no_value))})
    numbers = frozenset(float(v) for v in (*spec.no_value, *feed.no_value) if not isinstance(v, str | bool))
    if spec.values is not None:
        return _listed(spec.values, spec.other, pick, absent, tell=tell)
    if want.kind == "time":
        return time_of(pick, spec.format or "iso", spec.zone or feed.zone, absent)
    if want.kind == "number":
        return _measured(pick, spec.convert, absent, numbers)
    if want.kind == "integer":
        return _counted(pick, absent, numbers)
    truth, clean, token = want.kind == "boolean", spec.clean, tokens.token if spec.token else None

    def read(row: Values) -> str | bool | None:
        text = text_of(pick(row))
        if text in absent:
            return None
        if truth:
            return _boolean(text)
        if clean:
            text = _cleaned(text)
        return token(text) if token else text

    return read


def _counted(
    pick: Callable[[Values], Any], absent: frozenset[str], numbers: frozenset[float]
) -> Callable[[Values], int | None]:
    def read(row: Values) -> int | None:
        raw = pick(row)
        if text_of(raw) in absent:
            return None
        found = _integer(raw)
        return None if found in numbers else found

    return read


def _measured(
    pick: Callable[[Values], Any],
    convert: Callable[[float], float] | None,
    absent: frozenset[str],
    numbers: frozenset[float],
) -> Callable[[Values], float | None]:
    def read(row: Values) -> float | None:
        raw = pick(row)
        if raw is None or (isinstance(raw, str) and (raw in absent or raw.strip() in absent)):
            return None
        found = _number(raw)
        if found in numbers:
            return None
        return convert(found) if convert else found

    return read


def _listed(
    values: Mapping[str, Scalar],
    other: Scalar | None,
    pick: Callable[[Values], Any],
    absent: frozenset[str],
    *,
    tell: bool,
) -> Callable[[Values], Scalar | None]:
    def read(row: Values) -> Scalar | None:
        text = text_of(pick(row))
        if text in absent and text not in values:
            return None
        found = values.get(text, other)
        if found is None:
            what = f"{text[:100]!r} is" if tell else "the value is"
            raise RefusedError(
                "bad_value", f"{what} not among the values of the mapping: {', '.join(values)}"
            )
        return found

    return read


def moment_of(text: str, pattern: str, zone: ZoneInfo | None) -> datetime:
    """A moment in UTC. Raises ValueError, or OverflowError for one outside the calendar.

    A local time that a change of clocks skips is counted on from before the change (02:30 is half an hour after
    what would have been 02:00); one that comes twice is its first.
    """
    if pattern in _PER_SECOND:
        us = round(_number(text) * 1_000_000 / _PER_SECOND[pattern])
        return EPOCH + timedelta(microseconds=us)
    at = datetime.fromisoformat(text) if pattern == "iso" else datetime.strptime(text, pattern)  # noqa: DTZ007
    if at.tzinfo is None:
        if zone is None:
            raise ValueError("no offset, and the mapping names no zone")
        at = at.replace(tzinfo=zone)
    return at.astimezone(UTC)


_PER_SECOND = {"epoch_s": 1, "epoch_ms": 1000}


def time_of(
    pick: str | Callable[[Values], Any], pattern: str, zone: ZoneInfo | None, absent: frozenset[str]
) -> Callable[[Values], datetime | None]:
    def read(row: Values) -> datetime | None:
        text = pick if isinstance(pick, str) else text_of(pick(row))
        if text in absent:
            return None
        try:
            return moment_of(text, pattern, zone)
        except OverflowError:
            raise RefusedError("time_range", f"a time outside {FIRST.year}..{LAST.year}") from None
        except (ValueError, RefusedError) as error:
            why = str(error) if "mapping names no zone" in str(error) else "not a time as the mapping says"
            raise RefusedError("bad_time", f"{why} ({pattern})") from None

    return read
