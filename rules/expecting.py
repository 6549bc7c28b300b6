"""What a test of rules expects: the words of it, and how what came instead is told."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

from models.alarm import Priority
from models.base import Micros, micros
from rules.terms import Data, Duration, duration_text, duration_us

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rules.spec import Interval

#: Offset 0 of every test: a Monday.
START: Micros = micros(datetime(2026, 1, 5, tzinfo=UTC))


class InputError(ValueError):
    """Why a test's input makes no events; `loc` is its place below the test."""

    def __init__(self, loc: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.loc = loc


class Expected(Data):
    """One alarm: offsets from the test's start. No `end`: it is still raised when the test ends."""

    start: Duration
    end: Duration | None = None
    priority: Priority | None = None
    peak: float | None = None
    labels: dict[str, str] | None = None


def offset(value: object, loc: tuple[str | int, ...]) -> Micros:
    try:
        return 0 if value == 0 else duration_us(str(value))
    except ValueError as error:
        raise InputError(loc, str(error)) from None


def differences(expect: Iterable[Expected], found: Iterable[Interval]) -> list[str]:
    """What is different from what is expected, one by one in the order of time; nothing if all is as it should be."""
    wanted = sorted(expect, key=lambda e: (duration_us(e.start), sorted((e.labels or {}).items())))
    came = sorted(found, key=lambda i: (i.start_us, i.labels))
    return [
        f"expected {_wanted(e) if e else 'nothing more'}, found {_found(f) if f else 'none'}"
        for e, f in zip_longest(wanted, came)
        if e is None or f is None or not _same(e, f)
    ]


def _same(expected: Expected, found: Interval) -> bool:
    start, end = _offsets(found)
    return (
        duration_us(expected.start) == start
        and (None if expected.end is None else duration_us(expected.end)) == end
        and expected.priority in (None, found.priority)
        and (expected.labels is None or expected.labels.items() <= dict(found.labels).items())
        and (
            expected.peak is None
            or (found.peak is not None and abs(expected.peak - found.peak) <= 1e-9 * max(1, abs(found.peak)))
        )
    )


def _offsets(found: Interval) -> tuple[Micros, Micros | None]:
    return found.start_us - START, None if found.end_us is None else found.end_us - START


def _wanted(e: Expected) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in (e.labels or {}).items())
    peak = None if e.peak is None else f"peak {e.peak:g}"
    return " ".join(p for p in (f"{e.start} to {e.end or 'still raised'}", e.priority, peak, labels) if p)


def _found(f: Interval) -> str:
    start, end = _offsets(f)
    labels = ", ".join(f"{k}={v}" for k, v in f.labels)
    peak = None if f.peak is None else f"peak {f.peak:g}"
    until = "still raised" if end is None else duration_text(end)
    return " ".join(p for p in (f"{duration_text(start)} to {until}", f.priority, peak, labels) if p)
