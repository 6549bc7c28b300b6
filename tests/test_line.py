"""Points as line protocol: what is written is what a parser of the protocol reads, and identity is kept."""

from __future__ import annotations

import json
import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from sinks import line
from sinks.contract import Point, Record, refusal

T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z

_value = (
    st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text(max_size=20) | st.integers()
)
_tag = st.text(st.sampled_from("a,= \\\"'đ🔥"), min_size=1, max_size=6)
_points = st.builds(
    Point,
    st.sampled_from(["traffic_flow", "citizen_report"]),
    st.dictionaries(st.sampled_from(["ward", "kind", "zone"]), _tag).map(lambda d: tuple(d.items())),
    st.integers(-(10**15), 4 * 10**15),
    st.dictionaries(st.sampled_from(["speed_kmh", "status", "open"]), _value, min_size=1).map(
        lambda d: tuple(d.items())
    ),
    st.sampled_from(["", "e1", 'e"2\\']),
    st.booleans(),
).filter(lambda p: refusal(p) is None and line.refusal_of_tags(p) is None)


def parsed(said):
    """A plain reading of the protocol, as InfluxDB does it: series, fields, time."""
    key, rest = _until(said, " ")
    name, *pairs = _split(key, ",")
    tags = {}
    for pair in pairs:
        tag, value = _until(pair, "=")
        tags[tag] = value.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
    fields, time = {}, rest
    while True:
        field, time = time.split("=", 1)
        if time.startswith('"'):
            end = 1
            while time[end] != '"':
                end += 2 if time[end] == "\\" else 1
            fields[field] = time[1:end].replace('\\"', '"').replace("\\\\", "\\")
            time = time[end + 1 :]
        else:
            end = min(n for n in (time.find(","), time.find(" ")) if n >= 0)
            word = time[:end]
            fields[field] = {"true": True, "false": False}.get(word)
            if fields[field] is None:
                fields[field] = float(word)
            time = time[end:]
        if time[0] == " ":
            return name, tags, fields, int(time)
        time = time[1:]


def _until(text, sign):
    """Split at the first sign without a backslash before it."""
    at = next(n for n, c in enumerate(text) if c == sign and text[n - 1] != "\\")
    return text[:at], text[at + 1 :]


def _split(text, sign):
    parts = [""]
    for n, c in enumerate(text):
        if c == sign and text[n - 1] != "\\":
            parts.append("")
        else:
            parts[-1] += c
    return parts


@given(_points)
def test_a_line_says_what_the_point_is(point):
    place, said = line.line(point)
    name, tags, fields, ns = parsed(said)
    assert (name, ns) == (point.measurement, place[1])
    assert tags == dict(point.tags) | ({"late": "1"} if point.late else {})
    own = {n: float(v) if type(v) is int else v for n, v in point.fields}
    assert fields.pop(line.FIELDS).split(",") == list(own)
    if point.event_id:
        assert (fields.pop(line.EVENT_ID), fields.pop(line.TIME)) == (point.event_id, point.time)
    assert fields == own


@given(_points, _points)
def test_two_lines_are_at_one_place_only_where_the_points_are_one(one, other):
    identities = [(p.measurement, sorted(p.tags), p.time, p.event_id, p.late) for p in (one, other)]
    places = [line.line(p)[0] for p in (one, other)]
    assert (places[0] == places[1]) == (identities[0] == identities[1])


@given(st.integers(-(10**15), 4 * 10**15), st.text(min_size=1, max_size=20))
def test_a_sample_keeps_its_microsecond_and_an_event_its_millisecond_or_second(time, id_):
    assert line.ns_of(time, "") == time * 1000
    ns = line.ns_of(time, id_)
    kept = 10**9 if time % 10**6 == 0 else 10**6
    assert ns // kept * kept == time * 1000 // kept * kept


def test_a_thousand_events_of_one_second_have_a_thousand_places():
    assert len({line.ns_of(T0, f"event-{n}") for n in range(1000)}) == 1000


def test_an_ending_backslash_in_a_tag_is_refused_by_name():
    assert "ward" in line.refusal_of_tags(Point("m", (("ward", "a\\"),), T0, (("v", 1.0),)))
    assert line.refusal_of_tags(Point("m", (("ward", "a\\b"),), T0, (("v", 1.0),))) is None


def test_a_long_body_is_in_parts_that_make_it_again():
    record = Record("rejected", "a", T0, {"bytes": "x" * 2_500_000, "topic": "t"})
    place = line.record_place("rejected", "a", T0, "")
    name, tags, fields, ns = parsed(line.record_line(record, place, None, 7))
    assert json.loads("".join(fields[f"body{n}"] for n in range(int(fields["parts"])))) == record.body
    assert max(len(v.encode()) for v in fields.values() if isinstance(v, str)) <= line.PART
    assert json.loads(fields["head"]) == {"topic": "t"}
    assert (name, tags, ns) == ("citywatch.rejected", {"slot": line.record_slot("a")}, place[1])


@given(st.text(max_size=10), st.integers(-(10**15), 4 * 10**15))
def test_a_record_is_kept_on_the_day_of_its_time(id_, time):
    ns = line.record_place("alarm", id_, time, "w")[1]
    assert ns // 1000 // line.DAY_US == time // line.DAY_US


#: Beyond 15 digits each rounds in its own way.
_told = st.integers(-(10**9), 10**9).map(lambda n: n / 1000) | st.sampled_from([-0.0, 1e300, 1.5e-7, 1e15])


@given(
    st.none()
    | st.booleans()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    | st.integers(-(2**63), 2**63 - 1)
    | _told
)
def test_a_value_is_compared_as_the_text_that_sqlite_makes_of_it(value):
    db = sqlite3.connect(":memory:")
    body = json.dumps({"x": value})
    (said,) = db.execute("SELECT CAST(json_extract(?, '$.\"x\"') AS TEXT)", (body,)).fetchone()
    db.close()
    assert line.as_text(value) == said
