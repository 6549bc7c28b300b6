"""From a record's bytes to an event, or to the reason why it is none. One function for the judge, the store and sources."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from models.base import FIRST, LAST, Event, Micros, Topic, micros

if TYPE_CHECKING:
    from collections.abc import Callable

#: The closed list of reasons, used as a metric label. The last five are given by sources and sinks.
Reason = Literal[
    "empty", "too_large", "not_utf8", "not_json", "schema", "not_finite", "time_range", "future", "wrong_key",
    "row_shape", "bad_time", "bad_value", "outside_valid", "refused_by_store",
]  # fmt: skip

#: No event of a city is larger; more is an attack or a mistake.
MAX_BYTES = 256 * 1024

_FIRST, _LAST = micros(FIRST), micros(LAST)


class Rejection(NamedTuple):
    """Why a record is not a valid event. `detail` names the place in it and what would be right."""

    reason: Reason
    detail: str


@cache
def _validator(event: type[Event]) -> Callable[[bytes], Event]:
    return TypeAdapter(event).validator.validate_json


def decode(
    event: type[Event], value: bytes | None, stamp: Micros, key: bytes | None = None
) -> Event | Rejection:
    """The event in `value`, or a `Rejection`. A pure function of its arguments: every reader of a log agrees.

    `stamp` is the record's time: an event further ahead of it than the topic allows is refused. `key`, where
    given, must be the one the topic prescribes, else the event would be judged apart from its own history.
    """
    if not value:
        return Rejection("empty", "the record has no value")
    if len(value) > MAX_BYTES:
        return Rejection("too_large", f"{len(value)} bytes, at most {MAX_BYTES} are allowed")
    try:
        found = _validator(event)(value)
    except ValidationError as error:
        return _why(value, error)
    except RecursionError:
        return Rejection("not_json", "nested too deeply")
    at = found.at
    if not _FIRST <= at < _LAST:
        return Rejection(
            "time_range", f"observed_at {found.observed_at.isoformat()} is outside {FIRST.year}..{LAST.year}"
        )
    topic: Topic = event.topic
    if at > stamp + topic.ahead_us:
        return Rejection("future", f"observed_at is {(at - stamp) / 1e6:.0f} s ahead of the record's stamp")
    if key is not None and key != topic.key_of(found).encode():
        return Rejection("wrong_key", f"the key must be {'/'.join(topic.key)} = {topic.key_of(found)!r}")
    return found


def _why(value: bytes, error: ValidationError) -> Rejection:
    try:
        value.decode()
    except UnicodeDecodeError as bad:
        return Rejection("not_utf8", f"byte {bad.start}: {bad.reason}")
    return explain(error)


def explain(error: ValidationError) -> Rejection:
    """Why values make no event: the first field at fault and what would be right, never the value itself."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    worst = found[0]
    where = ".".join(str(part) for part in worst["loc"]) or "value"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    reason: Reason = "schema"
    if worst["type"] == "json_invalid":
        reason = "not_json"
    elif any(e["type"] == "finite_number" for e in found):
        reason = "not_finite"
    return Rejection(reason, f"{where}: {worst['msg']}{more}")
