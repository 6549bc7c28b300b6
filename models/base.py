"""What every event of the city has in common, and what a topic promises about its events."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Microseconds since 1970-01-01T00:00:00Z: the only form of time inside the core.
Micros = int

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

#: Observations outside [FIRST, LAST) are nonsense for any city and are rejected before they touch a clock.
FIRST = EPOCH
LAST = datetime(2300, 1, 1, tzinfo=UTC)


#: The epoch in pydantic's own UTC: two datetimes with one tzinfo object are subtracted without asking it for its
#: offset, which is two thirds of the cost of `micros` (1.6 µs, now 0.5, an event). Any other zone is right, and slower.
_EPOCH: datetime = TypeAdapter(AwareDatetime).validate_python("1970-01-01T00:00:00Z")


def micros(at: datetime) -> Micros:
    """Microseconds since the epoch of an aware datetime."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(us: Micros) -> datetime:
    """The UTC datetime of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=us)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a field about a person: it never leaves restricted topics (invariant I7)."""


#: Control and invisible characters. Spelled out, because subscribers check our schemas with other engines: Python's
#: knows no `\p{C}`.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"

#: Names of sensors, places and sources. A slash would make two keys look alike (see `Topic.key_of`).
#: No control characters, no space at its ends.
Identifier = Annotated[
    str,
    Field(
        max_length=100, pattern=rf"^[^\s/{_UNSEEN}]([^/{_UNSEEN}]*[^\s/{_UNSEEN}])?$", examples=["hl-0412"]
    ),
]

#: An aware time in any zone; written in UTC, so that one event has one form on the wire.
Instant = Annotated[
    AwareDatetime,
    AfterValidator(lambda at: at.astimezone(UTC)),
    PlainSerializer(lambda at: at.astimezone(UTC), when_used="json"),
]

#: Corrections are few; a greater number is a mistake, and no checkpoint could hold one of any size.
_MOST_REVISIONS = 2**31


def _counted(revision: int) -> int:
    if revision >= _MOST_REVISIONS:
        raise ValueError(f"nothing is corrected {_MOST_REVISIONS} times")
    return revision


Revision = Annotated[int, AfterValidator(_counted)]

#: A person, plate or pupil is only ever a keyed hash of the identifier (sources make it; nothing here can undo it).
Token = Annotated[str, Field(pattern=r"^tok_[0-9a-f]{32}$"), Personal()]

Quality = Literal["good", "suspect", "estimated", "no_value"]


class Place(BaseModel):
    """Where something was observed. WGS 84 degrees; ward and site are names from the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lat: float | None = Field(default=None, ge=-90, le=90)
    lon: float | None = Field(default=None, ge=-180, le=180)
    ward: str | None = Field(default=None, max_length=100)
    site: str | None = Field(default=None, max_length=100)


#: The parts of a place as rules and stores see them, beside the event's own fields.
PLACE_FIELDS = ("lat", "lon", "ward", "site")
ENVELOPE = ("event_id", "source_id", "observed_at", "revision", "quality", "place")

_TOPIC_NAME = re.compile(r"^city\.[a-z]+(\.[a-z_]+)+\.v[1-9][0-9]*$")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's promise to its subscribers.

    `key` names the fields of the subject whose state an event moves; `series` the fields (the key's and more)
    that with the time identify a sample. `lateness` is L: what is observed longer than this before its record's
    stamp is stored as late and never judged. Raises ValueError for a name outside `city.<domain>.<what>.v<N>`.
    """

    name: str
    key: tuple[str, ...]
    lateness: timedelta
    kind: Literal["samples", "events"] = "samples"
    access: Literal["public", "restricted"] = "public"
    partitions: int = 2
    series: tuple[str, ...] = ()
    ahead: timedelta = timedelta(minutes=5)
    buckets: int = 8
    retention: timedelta = timedelta(days=7)
    late_us: Micros = field(init=False, repr=False, compare=False)
    ahead_us: Micros = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _TOPIC_NAME.match(self.name):
            raise ValueError(f"{self.name}: a topic is named city.<domain>.<what>.v<N>")
        object.__setattr__(self, "late_us", self.lateness // _US)
        object.__setattr__(self, "ahead_us", self.ahead // _US)
        if not self.series:
            object.__setattr__(self, "series", self.key)
        if self.series[: len(self.key)] != self.key:
            raise ValueError(f"{self.name}: series {self.series} must begin with the key {self.key}")

    @property
    def measurement(self) -> str:
        """Name in the time-series store: `city.traffic.flow.v1` is `traffic_flow`."""
        return "_".join(self.name.split(".")[1:-1])

    def key_of(self, event: Event) -> str:
        """Kafka key of an event: the key's fields joined by a slash."""
        if len(self.key) == 1:  # nearly always, and four times faster
            return str(getattr(event, self.key[0]))
        return "/".join([str(getattr(event, name)) for name in self.key])


def _is_personal(part: Any) -> bool:
    """Whether `Personal` sits anywhere in an annotation, a field's metadata or a nested model's fields."""
    if isinstance(part, type) and issubclass(part, BaseModel):
        return any(_is_personal(f) or _is_personal(f.annotation) for f in part.model_fields.values())
    inner = (*getattr(part, "metadata", ()), *getattr(part, "__metadata__", ()), *get_args(part))
    return isinstance(part, Personal) or any(map(_is_personal, inner))


class Event(BaseModel):
    """What every observation carries. Absent is None, never 0 or -1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    topic: ClassVar[Topic]

    event_id: Annotated[str, Field(min_length=1, max_length=128)]
    source_id: Identifier
    observed_at: Instant
    revision: Revision = Field(
        default=0, ge=0, description="A greater revision of the same event_id corrects it."
    )
    quality: Quality = "good"
    place: Place | None = None

    @property
    def at(self) -> Micros:
        """Event time in microseconds since the epoch."""
        return micros(self.observed_at)

    def wire(self) -> bytes:
        """The event as a record's value: what `decode` reads back as an equal event. Equal events, equal bytes.

        In the order of the fields; what is absent is not there; computed fields are left to the reader.
        """
        return self.model_dump_json(exclude_none=True, exclude_computed_fields=True).encode()

    @classmethod
    def personal(cls) -> frozenset[str]:
        """Names of the fields tagged personal, however deep the tag sits (`Token | None`, a list, a nested model)."""
        return frozenset(
            [n for n, f in cls.model_fields.items() if _is_personal(f.annotation) or _is_personal(f)]
            + [n for n, c in cls.model_computed_fields.items() if _is_personal(c.return_type)]
        )

    @classmethod
    def public(cls) -> tuple[str, ...]:
        """The event's own fields that rules, stores and evidence may see, computed ones included, in order."""
        personal = cls.personal()
        own = [n for n in cls.model_fields if n not in ENVELOPE]
        return tuple(n for n in (*own, *cls.model_computed_fields) if n not in personal)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What `repr` shows, and so what can reach a log: nothing personal."""
        personal = self.personal()
        return [(name, value) for name, value in super().__repr_args__() if name not in personal]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        topic: Topic | None = getattr(cls, "topic", None)
        if topic is None:
            return
        for name in (*topic.key, *topic.series):
            if name not in cls.model_fields:
                raise TypeError(f"{cls.__name__}: {topic.name} is keyed by {name}, which is no field of it")
            if name in cls.personal():
                raise TypeError(f"{cls.__name__}.{name} is personal and can be no key of {topic.name}")
        if topic.access == "public" and cls.personal():
            raise TypeError(
                f"{cls.__name__}: personal {sorted(cls.personal())} on the public topic {topic.name}"
            )
