"""The words that rules are written with: durations, distances, names of values, and how what is wrong is told."""

from __future__ import annotations

import re
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from models.alarm import Category, Certainty, Priority, Severity, Text, Urgency
from models.base import PLACE_FIELDS, Event, Micros, Quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_DURATION: Micros = 400 * 86_400_000_000
MAX_DISTANCE_M = 100_000

#: What an alarm of this priority means in CAP 1.2, unless the rule says otherwise.
SEVERITY: dict[Priority, Severity] = {
    "P1": "Extreme",
    "P2": "Severe",
    "P3": "Moderate",
    "P4": "Minor",
    "advisory": "Unknown",
}

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")
_DISTANCE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(m|km)")

# --- durations ----------------------------------------------------------------------------------------------------


def duration_us(text: str) -> Micros:
    """Microseconds of "30s", "5m", "1h30m", "2d". Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write 30s, 5m, 1h or 1h30m (units {', '.join(_UNITS)})")
    total = sum(int(n) * _UNITS[unit] for n, unit in parts)
    if total > MAX_DURATION:
        raise ValueError(f"{text} is longer than {MAX_DURATION // _UNITS['d']}d")
    return total


def duration_text(us: Micros) -> str:
    """The shortest way to write it: 90 s is "1m30s". The inverse of `duration_us` down to a millisecond."""
    out = ""
    for unit in ("d", "h", "m", "s", "ms"):
        n, us = divmod(us, _UNITS[unit])
        out += f"{n}{unit}" if n else ""
    return out or "0s"


def _duration(value: object) -> str:
    if value == 0 and not isinstance(value, bool | str):
        return "0s"
    if isinstance(value, int | float):
        raise ValueError(f"{value} has no unit: write {value}s or {value}m")  # noqa: TRY004 - pydantic's way
    if not isinstance(value, str):
        raise ValueError("a duration is written 30s, 5m, 1h")  # noqa: TRY004
    duration_us(value)
    return value


def _lasting(value: object) -> str:
    text = _duration(value)
    if duration_us(text) == 0:
        raise ValueError("must be longer than nothing")
    return text


def distance_m(text: str) -> float:
    """Metres of "500m", "1.5km". Raises ValueError."""
    found = _DISTANCE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no distance: write 500m or 1.5km")
    metres = float(found[1]) * (1000 if found[2] == "km" else 1)
    if not 0 < metres <= MAX_DISTANCE_M:
        raise ValueError(f"{text}: a distance is more than nothing and at most {MAX_DISTANCE_M // 1000}km")
    return metres


def _distance(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a distance is written 500m or 1.5km")  # noqa: TRY004 - pydantic's way
    distance_m(value)
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
Lasting = Annotated[str, BeforeValidator(_lasting)]
Distance = Annotated[str, BeforeValidator(_distance)]
Whole = Annotated[int, Field(strict=True)]
RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]


# --- what an expression may read ----------------------------------------------------------------------------------


@cache
def names_of(event: type[Event]) -> tuple[str, ...]:
    """Names a condition on this event may read, in the order of its values."""
    return (*event.public(), *PLACE_FIELDS, "quality")


@cache
def types_of(event: type[Event]) -> Mapping[str, Any]:
    """The declared type of each of `names_of`."""
    own = {
        name: event.model_computed_fields[name].return_type
        if name in event.model_computed_fields
        else event.model_fields[name].annotation
        for name in event.public()
    }
    return own | {"lat": float, "lon": float, "ward": str, "site": str, "quality": Quality}


_place = attrgetter(*PLACE_FIELDS)
_NOWHERE = (None,) * len(PLACE_FIELDS)


@cache
def values_of(event: type[Event]) -> Callable[[Event], tuple[Any, ...]]:
    """A function that gives an event's values in the order of `names_of`."""
    own = attrgetter(
        *event.public(), "event_id"
    )  # of one name it would give no tuple; the id is cut off again

    def values(found: Event) -> tuple[Any, ...]:
        place = found.place
        mine: tuple[Any, ...] = own(found)[:-1]
        return mine + (_NOWHERE if place is None else _place(place)) + (found.quality,)

    return values


# --- models that tell all that is wrong, each thing at its place ---------------------------------------------------


class Data(BaseModel):
    """Frozen; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Loc = tuple[str | int, ...]
Problem = tuple[Loc, str]


def refuse(problems: list[Problem]) -> None:
    """All problems at once, each at its place below the model that is being validated."""
    if problems:
        raise ValidationError.from_exception_data(
            "rule",
            [
                InitErrorDetails(type=PydanticCustomError("rule", "{why}", {"why": why}), loc=loc, input=None)
                for loc, why in problems
            ],
        )


# --- what every rule says to people -----------------------------------------------------------------------------------


class Said(Data):
    """The words of a rule and its codes of CAP 1.2, whatever its kind."""

    id: RuleId
    title: Text
    instruction: Text | None = None
    category: Category = "Other"
    severity: Severity | None = None
    urgency: Urgency = "Immediate"
    certainty: Certainty = "Observed"

    @model_validator(mode="before")
    @classmethod
    def _title(cls, data: Any) -> Any:
        """A rule without a title is called by its id: an alarm is never without words."""
        if isinstance(data, dict) and data.get("title") is None and isinstance(data.get("id"), str):
            words = title_of(data["id"])
            return {**data, "title": {"vi": words, "en": words}}
        return data

    def severity_at(self, priority: Priority) -> Severity:
        return self.severity or SEVERITY[priority]


def title_of(rule_id: str) -> str:
    """What a rule without a title is called."""
    return rule_id.replace("-", " ").capitalize()
