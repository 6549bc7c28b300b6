"""From an event to the point a store keeps: nothing invented, nothing personal, one spelling of a series."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import Event, Place, Quality, Token, Topic, micros, minutes
from sinks.contract import refusal
from sinks.points import pointer

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Lane(StrEnum):
    LEFT = "left"


class Loop(Event):
    topic: ClassVar[Topic] = Topic(
        "city.points.loop.v1", key=("segment_id",), series=("segment_id", "lane_no"), lateness=minutes(2)
    )
    segment_id: str
    lane_no: int = 1
    lane: Lane | None = None
    speed_kmh: float | None = None
    vehicles: int | None = None
    jammed: bool | None = None
    surface: Literal["dry", "wet"] | None = None


class Crash(Event):
    topic: ClassVar[Topic] = Topic(
        "city.points.crash.v1", key=("crash_id",), lateness=minutes(60), kind="events", access="restricted"
    )
    crash_id: str
    injured: int | None = None
    plate: Token | None = None


def loop(**values):
    return Loop(**{"event_id": "e1", "source_id": "s", "observed_at": AT, "segment_id": "hl-1", **values})


def test_a_sample_is_tagged_by_its_series_and_bears_no_event_id():
    point = pointer(Loop, ("speed_kmh",), ("ward",))
    found = point(loop(speed_kmh=31.5, place=Place(ward="Hạ Long")), False)
    assert found == (
        "points_loop",
        (("lane_no", "1"), ("segment_id", "hl-1"), ("ward", "Hạ Long")),
        micros(AT),
        (("speed_kmh", 31.5),),
        "",
        False,
        0,
    )
    assert found.measurement == "points_loop"


def test_an_event_is_tagged_by_what_is_bounded_and_bears_its_id_and_revision():
    event = Crash(
        event_id="e9",
        source_id="s",
        observed_at=AT,
        crash_id="c7",
        injured=2,
        place=Place(ward="Hạ Long"),
        revision=3,
    )
    found = pointer(Crash, ("crash_id", "injured"), ("ward",))(event, True)
    assert found.tags == (("ward", "Hạ Long"),)
    assert found.fields == (("crash_id", "c7"), ("injured", 2.0))
    assert (found.event_id, found.late, found.revision) == ("e9", True, 3)


def test_numbers_are_floats_and_truth_stays_truth():
    fields = ("vehicles", "jammed", "surface", "lane", "speed_kmh")
    event = loop(vehicles=3, jammed=False, surface="wet", lane=Lane.LEFT, speed_kmh=0.0)
    found = dict(pointer(Loop, fields, ())(event, False).fields)
    assert found == {"vehicles": 3.0, "jammed": False, "surface": "wet", "lane": "left", "speed_kmh": 0.0}
    assert {type(v) for v in found.values()} == {float, bool, str}


def test_what_is_absent_is_left_out_and_zero_is_not_absent():
    point = pointer(Loop, ("speed_kmh", "vehicles", "lat", "lon"), ("ward", "site", "lane"))
    assert point(loop(vehicles=0), False).fields == (("vehicles", 0.0),)
    found = point(loop(vehicles=0, place=Place(lat=0.0, ward="")), False)
    assert found.fields == (("vehicles", 0.0), ("lat", 0.0))
    assert dict(found.tags) == {"lane_no": "1", "segment_id": "hl-1"}


def test_quality_is_told_where_it_is_not_good_or_nothing_else_is_left():
    point = pointer(Loop, ("speed_kmh",), ())
    assert point(loop(speed_kmh=1.0), False).fields == (("speed_kmh", 1.0),)
    assert point(loop(speed_kmh=1.0, quality="suspect"), False).fields == (
        ("speed_kmh", 1.0),
        ("quality", "suspect"),
    )
    assert point(loop(quality="no_value"), False).fields == (("quality", "no_value"),)
    assert point(loop(), False).fields == (("quality", "good"),)
    asked = pointer(Loop, ("quality", "speed_kmh"), ())
    assert asked(loop(speed_kmh=1.0, quality="suspect"), False).fields == (
        ("quality", "suspect"),
        ("speed_kmh", 1.0),
    )


def test_an_integer_beyond_every_float_is_left_to_the_store_to_refuse():
    found = pointer(Loop, ("vehicles",), ())(loop(vehicles=10**400), False)
    assert "beyond every float" in refusal(found)


@pytest.mark.parametrize(
    ("fields", "tags", "says"),
    [
        (("plate",), (), "no public field plate"),
        ((), ("plate",), "no public field plate"),
        (("speed",), (), "no public field speed; it has crash_id, injured"),
        (("event_id",), (), "no public field event_id"),
        (("injured",), ("injured",), "injured is named twice"),
    ],
)
def test_a_wrong_name_stops_at_the_start(fields, tags, says):
    with pytest.raises(TypeError, match=says):
        pointer(Crash, fields, tags)


@given(
    st.builds(
        loop,
        segment_id=st.sampled_from(["hl-1", "đường 18A"]),
        speed_kmh=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        vehicles=st.none() | st.integers(-(10**30), 10**30),
        jammed=st.none() | st.booleans(),
        quality=st.sampled_from(Quality.__args__),
        place=st.none()
        | st.builds(
            Place, lat=st.none() | st.floats(-90, 90), ward=st.none() | st.sampled_from(["", "Hạ Long"])
        ),
    ),
    st.booleans(),
)
def test_every_event_makes_a_point_that_a_store_takes(event, late):
    point = pointer(Loop, ("speed_kmh", "vehicles", "jammed", "lat"), ("ward",))(event, late)
    assert refusal(point) is None
    stored = dict(point.fields)
    for name in ("speed_kmh", "vehicles", "jammed"):
        assert stored.get(name) == (getattr(event, name) if name != "vehicles" else _float(event.vehicles))
    assert all(type(v) is not float or isfinite(v) for v in stored.values())
    assert list(point.tags) == sorted(point.tags)


def _float(value):
    return None if value is None else float(value)
