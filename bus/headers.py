"""CloudEvents 1.0 headers in Kafka's binary mode: what a record is, without opening it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from models.base import moment
from models.catalogue import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.base import Micros

Headers = list[tuple[str, bytes]]

#: An empty record that only says how late it is (see streams: the owner of an idle partition writes it).
CLOCK = "city.clock.v1"
#: A record that says which rules are in force from when on.
CONTROL = "city.control.v1"

_NOT_EVENTS = frozenset({CLOCK.encode(), CONTROL.encode(), CANARY.encode()})


@lru_cache(maxsize=1024)
def _constant(ce_type: str, ce_source: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", ce_source.encode()),
    )


@lru_cache(maxsize=4096)
def _time(time_us: Micros) -> bytes:
    return moment(time_us).isoformat().replace("+00:00", "Z").encode()


def headers(
    ce_id: str, ce_type: str, ce_source: str, time_us: Micros | None, traceparent: bytes | None = None
) -> Headers:
    """Headers of a record. `ce_type` of an event is its topic's name, `ce_source` a URI reference such as `/nab`."""
    found = [*_constant(ce_type, ce_source), ("ce_id", ce_id.encode())]
    if time_us is not None:
        found.append(("ce_time", _time(time_us)))
    if traceparent is not None:
        found.append(("traceparent", traceparent))
    return found


def _get(found: Iterable[tuple[str, bytes]] | None, name: str) -> bytes | None:
    for key, value in found or ():
        if key == name:
            return value
    return None


def type_of(found: Iterable[tuple[str, bytes]] | None) -> str | None:
    """The `ce_type`, or None where there is none; bytes that are no UTF-8 are replaced, never raised."""
    value = _get(found, "ce_type")
    return None if value is None else value.decode(errors="replace")


def traceparent_of(found: Iterable[tuple[str, bytes]] | None) -> bytes | None:
    """The W3C trace context to hand on with whatever this record causes."""
    return _get(found, "traceparent")


def is_event(found: Sequence[tuple[str, bytes]] | None) -> bool:
    """Whether subscribers and counts should see the record.

    A record without headers is an event: foreign producers need not set any.
    """
    if not found:
        return True
    for key, value in found:
        if key == "ce_type":
            return value not in _NOT_EVENTS
    return True


def says_nothing(key: bytes | None, found: Sequence[tuple[str, bytes]] | None) -> bool:
    """Whether a record of a source topic is passed by: it has no key, and calls itself something that is no event.

    Whatever its value: judge, store and ledger must agree, or one record is lost for one of them.
    """
    return key is None and not is_event(found)


class Bare(NamedTuple):
    """Key, value and headers of a record that is no event. The value is `b""`, since clients refuse two nulls."""

    key: None
    value: bytes
    headers: Headers


CLOCK_HEADERS: Headers = [("ce_type", CLOCK.encode())]
CONTROL_HEADERS: Headers = [("content-type", b"application/json"), ("ce_type", CONTROL.encode())]


def clock_record() -> Bare:
    """A record that carries nothing but its stamp: doubled, delayed or written by two, it does no harm."""
    return Bare(None, b"", CLOCK_HEADERS)


def control_record(version: int, effective_from: Micros) -> Bare:
    """A record that puts a version of the rules in force; said twice, it is said once."""
    value = json.dumps({"version": version, "effective_from": effective_from}, separators=(",", ":")).encode()
    return Bare(None, value, CONTROL_HEADERS)


def control_of(value: bytes | None) -> tuple[int, Micros] | None:
    """Version and effective time of a control record; None: whoever wrote it, it is none."""
    try:
        said = json.loads(value or b"")
        version, effective = said["version"], said["effective_from"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    good = type(version) is int and type(effective) is int and 0 <= version < 2**63 and abs(effective) < 2**63
    return (version, effective) if good else None
