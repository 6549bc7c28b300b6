"""From an event to the point that a store keeps of it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from functools import lru_cache, partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from models.base import PLACE_FIELDS, Event, micros
from models.catalogue import domain_of
from sinks.contract import Point, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def pointer(
    event: type[Event], fields: tuple[str, ...], tags: tuple[str, ...]
) -> Callable[[Event, bool], Point]:
    """The function (event, late) -> point for one class of events. Make it once: what it gives is the hot path.

    A sample's tags are those of its series and `tags`; an event's only `tags`, for its own names would make a series
    of each. What is absent is left out. `quality` is stored as a field where it is not "good", and where there is
    nothing else to store. Raises TypeError for a name the event has not, a personal one, and one used twice.
    """
    topic = event.topic
    is_event = topic.kind == "events"
    named = tags if is_event else {*topic.series, *tags}
    tags = tuple(sorted(named))  # so that a store sees one spelling of a series
    _check(event, fields, tags)
    own = tuple(name for name in (*tags, *fields) if name not in PLACE_FIELDS or name in event.public())
    needs_place = len(own) < len(tags) + len(fields)
    read = attrgetter(*_ENVELOPE, *own)
    layout = (*_ENVELOPE, *own, *(n for n in PLACE_FIELDS if n not in own))
    pick_tags, pick_fields = _picker(layout, tags), _picker(layout, fields)
    tagged = lru_cache(maxsize=1 << 16)(partial(_tagged, tags))  # one entry a series
    says_quality = "quality" in (*tags, *fields)
    measurement = topic.measurement

    def point(found: Event, late: bool) -> Point:
        values = read(found)
        at, event_id, revision, quality, place = values[:5]
        if needs_place:
            values += _NOWHERE if place is None else _read_place(place)
        kept = pick_fields(values)
        stored = tuple(zip(fields, kept))  # noqa: B905 - equal by make, and asking costs half as much again
        if not _STORED.issuperset(map(type, kept)):
            stored = tuple([(name, _value(value)) for name, value in stored if value is not None])
        if not stored or (quality != "good" and not says_quality):
            stored += (("quality", quality),)
        id_, corrects = (event_id, revision) if is_event else ("", 0)
        return _point((measurement, tagged(pick_tags(values)), micros(at), stored, id_, late, corrects))

    return point


_ENVELOPE = ("observed_at", "event_id", "revision", "quality", "place")
_NOWHERE = (None,) * len(PLACE_FIELDS)
_read_place = attrgetter(*PLACE_FIELDS)
_STORED = frozenset({float, str, bool})
_point: Callable[[tuple[Any, ...]], Point] = partial(tuple.__new__, Point)  # Point() takes twice as long


def _check(event: type[Event], fields: tuple[str, ...], tags: tuple[str, ...]) -> None:
    known = (*event.public(), *PLACE_FIELDS, "quality")
    for name in (*fields, *tags):
        if name not in known:
            raise TypeError(f"{event.__name__} has no public field {name}; it has {', '.join(known)}")
    if twice := {name for name in (*fields, *tags) if (*fields, *tags).count(name) > 1}:
        raise TypeError(
            f"{event.__name__}: {', '.join(sorted(twice))} is named twice among its fields and tags"
        )


def _picker(layout: tuple[str, ...], names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    places = [layout.index(name) for name in names]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple([values[place] for place in places])


def _tagged(names: tuple[str, ...], values: tuple[Any, ...]) -> tuple[tuple[str, str], ...]:
    named = zip(names, values, strict=True)
    return tuple([(name, _text(value)) for name, value in named if value is not None and value != ""])


def _value(value: Any) -> Value:
    """A number as a float; all else as it is: what a store cannot keep it refuses with a reason."""
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return value
    return value.value if isinstance(value, Enum) else value  # type: ignore[no-any-return]  # or refused by the store


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- alarms -------------------------------------------------------------------------------------------------------

#: The domain of an alarm that rests on events of several.
CITY = "city"

#: As the topic `city.alarm.event.v1` would have it.
ALARMS = "alarm_event"


def alarm_point(entry: Mapping[str, Any]) -> Point:
    """An entry of the alarms' history (the JSON of `AlarmEvent`) as a point, so that charts can show alarms beside what was measured.

    Only what names nobody: an operator's name and note stay in the record.
    """
    alarm = entry["alarm"]
    domains = {domain_of(topic) for topic in _rests_on(alarm)}
    tags = {
        "category": alarm["category"],
        "domain": domains.pop() if len(domains) == 1 else CITY,
        "priority": alarm["priority"],
        "rule": alarm["rule"],
        "type": entry["type"],
    }
    fields = {
        "alarm_id": alarm["alarm_id"],
        "subject": ", ".join(alarm["labels"].values()),
        "title": f"{alarm['title']['vi']} · {alarm['title']['en']}",
    }
    at = micros(datetime.fromisoformat(entry["at"]))
    return Point(ALARMS, tuple(sorted(tags.items())), at, tuple(fields.items()), entry["id"])


def _rests_on(alarm: Mapping[str, Any]) -> list[str]:
    """The topics of its evidence; of what was never heard, so that there is no evidence, that of its rule."""
    topics = [event["topic"] for event in alarm.get("evidence", ())]
    rules = ((alarm.get("proof") or {}).get("rules") or {}).get("rules", ())
    return topics or [rule["on"] for rule in rules if "on" in rule]
