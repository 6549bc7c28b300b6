"""What a person writes to ask a store, and what is answered."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import FIRST, LAST, micros
from sinks.contract import Query, Row
from sinks.query import format_time, parse_duration, parse_query, parse_time, parse_where, rows_csv, rows_json

SECOND = 1_000_000
T0 = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z


def test_a_whole_command_line_becomes_a_query():
    assert parse_query(
        "traffic_flow",
        where=["ward=Hạ Long", "segment_id=a=b"],
        from_="2026-01-01",
        to="2026-01-01T08:00:00+07:00",
        every="1h",
        agg="mean",
        by="ward, segment_id,ward",
        fields="speed_kmh",
        limit=5,
    ) == Query(
        "traffic_flow",
        where=(("ward", "Hạ Long"), ("segment_id", "a=b")),
        from_=T0,
        to=T0 + 3600 * SECOND,
        every=3600 * SECOND,
        agg="mean",
        by=("ward", "segment_id"),
        fields=("speed_kmh",),
        limit=5,
    )
    assert parse_query("traffic_flow") == Query("traffic_flow")


@pytest.mark.parametrize(("text", "late"), [("late=1", True), ("late=0", False)])
def test_late_points_are_asked_for_as_the_tag_they_bear(text, late):
    assert parse_query("traffic_flow", where=[text, "ward=x"]) == Query(
        "traffic_flow", where=(("ward", "x"),), late=late
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"every": "1h"}, "need --agg mean|sum"),
        ({"by": "ward"}, "need --agg mean|sum"),
        ({"agg": "median"}, "'median' is no aggregate: write --agg mean|sum|count|min|max"),
        ({"every": "1 hour", "agg": "mean"}, "30s, 15m, 1h, 1d"),
        ({"from_": "yesterday"}, "without an offset it is UTC"),
        ({"from_": "2026-01-02", "to": "2026-01-01"}, "not before"),
        ({"from_": "2026-01-01", "to": "2026-01-01"}, "not before"),
        ({"where": ["ward"]}, "--where tag=value"),
        ({"where": ["=x"]}, "--where tag=value"),
        ({"where": ["late=yes"]}, "late=1"),
        ({"where": ["late=1", "late=0"]}, "late=1"),
        ({"limit": -1}, "negative"),
    ],
)
def test_what_cannot_be_asked_is_answered_with_what_would_be_right(asked, says):
    with pytest.raises(ValueError) as error:
        parse_query("traffic_flow", **asked)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("1d", 86_400), (" 90m ", 5400)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize(
    "text", ["", "1", "h", "0h", "-1h", "1.5h", "1w", "1M", "1h30m", "١h", "999999999d", "1h\n1"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T00:00",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T07:00:00+07:00",
    ],
)
def test_times_with_and_without_an_offset(text):
    assert parse_time(text) == T0


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "2026-01-01T25:00", "1767225600"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="2012-03-01T07:00:00Z"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01"])
def test_a_time_that_is_none_in_utc_is_refused(text):
    with pytest.raises(ValueError, match="no time of the years 1 to 9999"):
        parse_time(text)


def test_an_empty_value_asks_for_what_has_no_such_tag():
    assert parse_where("ward=") == ("ward", "")


@given(st.integers(micros(FIRST), micros(LAST) - 1))
def test_a_time_written_is_read_back_and_ends_with_z(us):
    text = format_time(us)
    assert text.endswith("Z")
    assert ("." in text) == bool(us % SECOND)
    assert parse_time(text) == us
    assert micros(datetime.fromisoformat(text)) == us


ROWS = [
    Row(T0, "traffic_flow", {"ward": "Hạ Long"}, {"speed_kmh": 31.5, "status": 'mở, "một"\nphần'}),
    Row(T0 + 250_000, "traffic_flow", {"segment_id": "1", "late": "1"}, {"diverting": True, "n": 3}),
]


def test_rows_as_json_have_the_four_names_a_program_reads():
    assert json.loads(json.dumps(rows_json(ROWS), allow_nan=False)) == [
        {
            "time": "2026-01-01T00:00:00Z",
            "measurement": "traffic_flow",
            "tags": {"ward": "Hạ Long"},
            "fields": {"speed_kmh": 31.5, "status": 'mở, "một"\nphần'},
        },
        {
            "time": "2026-01-01T00:00:00.250000Z",
            "measurement": "traffic_flow",
            "tags": {"segment_id": "1", "late": "1"},
            "fields": {"diverting": True, "n": 3},
        },
    ]


def test_rows_as_csv_are_read_back_by_any_reader_of_csv():
    read = list(csv.reader(io.StringIO(rows_csv(ROWS), newline="")))
    assert read == [
        ["time", "measurement", "late", "segment_id", "ward", "speed_kmh", "status", "diverting", "n"],
        ["2026-01-01T00:00:00Z", "traffic_flow", "", "", "Hạ Long", "31.5", 'mở, "một"\nphần', "", ""],
        ["2026-01-01T00:00:00.250000Z", "traffic_flow", "1", "1", "", "", "", "true", "3"],
    ]


def test_no_rows_are_a_header_alone():
    assert rows_json([]) == []
    assert rows_csv([]).split() == ["time,measurement"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_csv_loses_no_digit(value):
    cell = rows_csv([Row(T0, "m", {}, {"x": value})]).splitlines()[1].split(",")[2]
    assert float(cell) == value
