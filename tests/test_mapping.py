"""Feeds without code: cases told by their files, mistakes told by line, and good rows that outlive bad neighbours."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import micros, moment
from sources import readers
from sources.mapping import Bad, Fed, MappingError, load, shipped, try_
from sources.mapping_grammar import UNITS
from sources.mapping_values import moment_of
from sources.tokens import Tokens

CASES = Path(__file__).parent / "cases" / "mapping"
TOKENS = Tokens(b"a key for tests, 32 bytes long..")

NOISE = """
name: noise
description: water levels
format: {format}
time: {{column: at, format: "%Y-%m-%dT%H:%M:%S"}}
zone: UTC
arrival: {arrival}
events:
- topic: city.environment.water.v1
  fields: {{station_id: id, level_m: level}}
  measured: [level_m]
"""


def result(folder):
    """What a case's mapping makes of its input, as its expected.json holds it."""
    mapping = load(folder / "feed.yaml")
    (path,) = folder.glob("input.*")
    made, refused = [], []
    for item in mapping.read([path], TOKENS):
        if isinstance(item, Bad):
            refused.append(f"{item.line}: {item.reason}: {item.detail} [{item.topic}]")
        else:
            event = json.loads(item.event.wire())
            stamp = moment(item.stamp_us).isoformat()
            for same in ("source_id", "revision", *(["event_id"] if len(event["event_id"]) == 32 else [])):
                del event[same]
            made.append({"line": item.line, "stamp": stamp, **event})
    return {"events": made, "refused": refused}


@pytest.mark.parametrize("case", sorted(p.name for p in CASES.iterdir()))
def test_a_case_gives_what_it_says(case):
    assert result(CASES / case) == json.loads((CASES / case / "expected.json").read_text("utf-8"))


# --- Mistakes in a mapping


def refused(tmp_path, text):
    path = tmp_path / "feed.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(MappingError) as error:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in error.value.problems]


def test_every_mistake_is_told_with_its_line(tmp_path):
    found = refused(
        tmp_path,
        """name: Noise
description: x
format: csv
arrival: never
grace: soon
colour: red
time:
  column: at
  format: "%Q"
  zone: Moon/Base
events:
- topic: city.traffic.flow.v1
  fields:
    segment_id: {column: a, template: b}
    speed_kmh: {column: c, unit: furlongs -> km/h}
""",
    )
    assert [line.split(":")[0] for line in found] == ["1", "4", "5", "6", "9", "10", "14", "15"]
    assert "5m" in found[2]
    assert "mph -> km/h" in found[7]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("city.environment.water.v1", "city.environment.smell.v1", 9, "there are city.camera"),
        ("level_m: level", "level_cm: level", 10, "it has revision"),
        ("station_id: id, ", "", 9, "needs `station_id`"),
        ("zone: UTC", "", 5, "give a `zone`"),
        ("measured: [level_m]", "measured: [level]", 11, "not among the `fields`"),
        ("level_m: level", "level_m: {column: level, token: true}", 10, "tagged personal"),
        ("level_m: level", "level_m: {column: level, clean: true}", 10, "for texts"),
        ("station_id: id", "station_id: {column: id, unit: F -> C}", 10, "measured numbers"),
        ("station_id: id", "station_id: column.name", 10, "only under `each_column`"),
        ("  measured: [level_m]", "  constants: {quality: fine}", 11, "'good', 'suspect'"),
        ("arrival: file", "arrival: column", 7, "needs `arrived`"),
        ("arrival: file", "arrival: file\nvalid: {from: yesterday}", 8, "is no time"),
        ("arrival: file", "arrival: file\nname: again", 8, "given twice"),
        ("format: csv", "format: xml", 2, "is an `item`"),
        ("format: csv", "format: jsonl\ndelimiter: ;", 5, "only csv"),
        ("format: csv", "format: csv\nheader: absent", 5, "give `columns`"),
        ("format: csv", "format: csv\ncolumns: [at, id]", 11, "there is no column 'level'"),
        ("description: water", "description: [water", 4, "is no YAML"),
    ],
)
def test_a_mistake_names_its_line_and_what_would_be_right(tmp_path, old, new, line, what):
    good = NOISE.format(format="csv", arrival="file")
    assert old in good
    (found, *_) = refused(tmp_path, good.replace(old, new))
    assert found.startswith(f"{line}:")
    assert what in found


def test_a_patient_never_leaves_without_a_token(tmp_path):
    text = (CASES / "stays" / "feed.yaml").read_text("utf-8").replace(", token: true", "")
    found = refused(tmp_path, text)
    assert len(found) == 2
    assert all("token: true" in line for line in found)


def test_a_mapping_that_is_not_there_names_those_that_are():
    with pytest.raises(MappingError, match="nor one of chicago-tracker, deepstream, "):
        load("metro-la")


def test_the_shipped_feeds_load():
    assert {*shipped()} == {
        "metr-la", "deepstream", "room-air", "nab", "chicago-tracker", "pcm-dpc", "mimic-admissions",
        "nypd-collisions", "sf-311",
    }  # fmt: skip
    assert {load(name).name for name in shipped()} == {*shipped()}


def test_the_mapping_in_the_documentation_is_one(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "mapping.md").read_text("utf-8")
    path = written(tmp_path, text.split("```yaml\n")[1].split("```")[0], "feed.yaml")
    data = written(
        tmp_path, "district,gauge,measured,level_ft,lat,lon\nHong Hai,7,01/02/2026 07:00,10,20.9,107.1\n"
    )
    (item,) = load(path).read([data], TOKENS)
    assert (item.event.station_id, item.event.level_m) == ("Hong Hai-7", 10 * 0.3048)
    assert all(f"`{unit}`" in text for unit in UNITS)


# --- Files that are none of the feed's


def feed(tmp_path, format_="csv", arrival="file", more=""):
    path = tmp_path / "noise.yaml"
    path.write_text(NOISE.format(format=format_, arrival=arrival) + more, "utf-8")
    return load(path)


def written(tmp_path, data, name="input.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("at,id,height\n", "has no column level, which noise reads; it has at, id, height"),
        ("at,id,level,level\n", "has two columns level"),
        ("", "a header with the names"),
        (b"\xff\xfe,a\n", "a header with the names"),
    ],
)
def test_a_file_of_another_shape_is_refused_before_anything_is_read(tmp_path, data, what):
    good = written(tmp_path, "at,id,level\n2026-01-01T00:00:00,a,1\n", "good.csv")
    with pytest.raises(MappingError, match=what):
        feed(tmp_path).read([good, written(tmp_path, data)], TOKENS)


def test_a_file_of_another_name_is_refused(tmp_path):
    path = written(tmp_path, "timestamp,value\n2014-01-01 00:00:00,1\n", "machine_temperature.csv")
    with pytest.raises(MappingError, match=r"nab takes no file of this name, only TravelTime_\*\.csv, occ"):
        load("nab").read([path], TOKENS)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MappingError, match=r"gone.csv: cannot be read: No such file"):
        feed(tmp_path).read([tmp_path / "gone.csv"], TOKENS)


def test_rows_are_counted_in_one_file_only(tmp_path):
    path = written(tmp_path, "d1\n1\n")
    with pytest.raises(MappingError, match="one file at a time"):
        load("metr-la").read([path, path], TOKENS)


# --- Bad rows among good ones

GOOD = '{"at": "2026-01-01T00:00:0%d", "id": "a", "level": %d}'
BAD = {
    "not_json": b'{"at": "2026-01-01T00:0',
    "schema": b"[1, 2]",
    "bad_value": b'{"at": "2026-01-01T00:00:01", "id": "a", "level": "high"}',
    "not_utf8": b'{"at": "2026-01-01T00:00:01", "id": "\xff", "level": 1}',
    "too_large": b'{"at": "' + b"x" * 1_000_000 + b'"}',
    "not_json ": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "not_json  ": b'{"at": "2026-01-01T00:00:01", "id": "a", "level": NaN}',
    "time_range": b'{"at": "9999-01-01T00:00:01", "id": "a", "level": 1}',
    "bad_time": b'{"at": "soon", "id": "a", "level": 1}',
    "empty": b"",
    "not_json   ": b'{"at": "2026-01-01T00:00:01"\0}',
    "schema ": b'{"at": "2026-01-01T00:00:01", "id": "a/b", "level": 1}',
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_json_line_is_one_reject_with_its_bytes_and_the_next_goes_on(tmp_path, reason):
    bad = BAD[reason]
    lines = [(GOOD % (1, 1)).encode(), bad, (GOOD % (2, 2)).encode(), b"", b""]
    path = written(tmp_path, b"\n".join(lines))
    first, reject, second = feed(tmp_path, "jsonl").read([path], TOKENS)
    assert (first.event.level_m, second.event.level_m) == (1, 2)
    assert (reject.reason, reject.line, reject.raw.rstrip(b"\n")) == (reason.strip(), 2, bad)
    assert reject.topic == "city.environment.water.v1"
    assert len(reject.detail) < 64 * 1024


BAD_CSV = {
    "row_shape": b"2026-01-01T00:00:01,a",
    "row_shape ": b'2026-01-01T00:00:01,"a,1',
    "row_shape  ": b'2026-01-01T00:00:01,"a"b,1',
    "row_shape   ": b"2026-01-01T00:00:01,a\0,1",
    "not_utf8": b"2026-01-01T00:00:01,\xe9t\xe9,1",
    "bad_value": b"2026-01-01T00:00:01,a,1_0",
    "not_finite": b"2026-01-01T00:00:01,a,NaN",
    "bad_time": b"yesterday,a,1",
    "time_range": b"9999-01-01T00:00:01,a,1",
    "too_large": b"2026-01-01T00:00:01,a," + b"1" * 1_000_000,
    "empty": b"  ",
}


@pytest.mark.parametrize("reason", BAD_CSV)
def test_a_bad_csv_line_is_one_reject_with_its_bytes_and_the_next_goes_on(tmp_path, reason):
    bad = BAD_CSV[reason]
    lines = [b"at,id,level", b"2026-01-01T00:00:01,a,1", bad, b"2026-01-01T00:00:02,a,2", b"", b" "]
    path = written(tmp_path, b"\r\n".join(lines))
    first, reject, second = feed(tmp_path).read([path], TOKENS)
    assert (first.event.level_m, second.event.level_m) == (1, 2)
    assert (reject.reason, reject.line, reject.raw.rstrip(b"\r\n")) == (reason.strip(), 3, bad)


def test_a_line_without_end_is_kept_in_part_and_counted_whole(tmp_path):
    path = written(tmp_path, b"at,id,level\n" + b"x" * 9_000_000 + b"\n2026-01-01T00:00:02,a,2\n")
    reject, good = feed(tmp_path).read([path], TOKENS)
    assert (reject.reason, len(reject.raw)) == ("too_large", 8 * 1024 * 1024)
    assert "9000001 bytes" in reject.detail
    assert (good.line, good.event.level_m) == (3, 2)


def test_a_json_document_that_does_not_parse_is_one_reject(tmp_path):
    path = written(tmp_path, '[{"at": "2026-01-01T00:00:01", "id": "a", "level": 1}, {"at"')
    (reject,) = feed(tmp_path, "json").read([path], TOKENS)
    assert (reject.reason, reject.raw) == ("not_json", path.read_bytes())


def test_an_item_is_placed_by_its_line_even_after_its_own_like(tmp_path):
    mapping = load(CASES / "stations" / "feed.yaml")
    row = '{"id": "a", "sampled": [0], "got": 1767225700}'
    text = f'{{"last": {row},\n"network": {{"stations": [\n{row},\n\n{row}]}}}}'
    assert [item.line for item in mapping.read([written(tmp_path, text)], TOKENS)] == [3, 5]


def test_an_xml_bomb_is_refused_whole(tmp_path):
    bomb = b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><r><item>&b;</item></r>'
    (reject,) = load(CASES / "roll" / "feed.yaml").read([written(tmp_path, bomb)], TOKENS)
    assert (reject.reason, reject.raw) == ("schema", bomb)


JUNK = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet='",\0\r 1a\u2028', max_size=12).map(str.encode),
    st.sampled_from([*BAD_CSV.values(), b'"', b'",', b',"', b'a,"b', b'c"', b'""', b'","', b'"a","b","']),
).map(lambda line: line.replace(b"\n", b""))


@settings(deadline=None)  # files are written: the machine may be busy
@given(st.lists(st.one_of(JUNK, st.booleans()), max_size=30))
def test_no_junk_costs_a_csv_neighbour(tmp_path_factory, lines):
    # True and False stand for good rows, with and without quotes; everything else is junk.
    tmp_path = tmp_path_factory.mktemp("junk")
    data, want = [b"at,id,level"], []
    for i, line in enumerate(lines):
        if isinstance(line, bool):
            want.append(i + 1000.0)
            quote = '"' if line else ""
            line = f'{quote}2026-01-01T00:00:00{quote},"good",{i + 1000}'.encode()
        data.append(line)
    path = written(tmp_path, b"\n".join(data))
    items = list(feed(tmp_path).read([path], TOKENS))
    assert [i.event.level_m for i in items if isinstance(i, Fed) and i.event.station_id == "good"] == want
    last = max((i for i, line in enumerate(data) if line.strip()), default=0)
    bytes_told = b"".join(item.raw for item in items if isinstance(item, Bad))
    for line in data[1 : last + 1]:
        if b"good" not in line and not line.count(b'"'):
            assert line in bytes_told or line.count(b",") == 2


@settings(deadline=None)  # files are written: the machine may be busy
@given(st.lists(st.one_of(JUNK, st.none()), max_size=30))
def test_no_junk_costs_a_json_neighbour(tmp_path_factory, lines):
    tmp_path = tmp_path_factory.mktemp("junk")
    data = [(GOOD % (1, i)).encode() if line is None else line for i, line in enumerate(lines)]
    path = written(tmp_path, b"\n".join(data))
    items = list(feed(tmp_path, "jsonl").read([path], TOKENS))
    fed = [item.event.level_m for item in items if isinstance(item, Fed)]
    last = max((i for i, line in enumerate(data) if line.strip()), default=-1)
    assert fed == [i for i, line in enumerate(lines) if line is None]
    assert len(items) == last + 1  # one event or one reject a line, the empty end apart


# --- Arrival


def stamps(items):
    return [
        (item.event.station_id, item.stamp_us - micros(datetime(2026, 1, 1, tzinfo=UTC))) for item in items
    ]


ROWS = """at,id,level
2026-01-01T00:00:03,a,1
2026-01-01T00:00:01,b,1
9999-01-01T00:00:00,c,1
2026-01-01T00:00:03,d,1
"""


def test_in_file_order_the_stamp_is_the_running_maximum_and_no_reject_moves_it(tmp_path):
    items = [i for i in feed(tmp_path).read([written(tmp_path, ROWS)], TOKENS) if isinstance(i, Fed)]
    assert stamps(items) == [("a", 3_000_000), ("b", 3_000_000), ("d", 3_000_000)]


def test_several_files_in_file_order_run_side_by_side(tmp_path):
    files = [
        written(tmp_path, "at,id,level\n2026-01-01T00:00:09,x,1\n2026-01-01T00:00:08,y,1\n", "1.csv"),
        written(tmp_path, ROWS, "2.csv"),
    ]
    items = list(feed(tmp_path).read(files, TOKENS))
    assert [i.event.station_id if isinstance(i, Fed) else i.reason for i in items] == [
        "a", "b", "time_range", "d", "x", "y",
    ]  # fmt: skip
    assert stamps(items[-2:]) == [("x", 9_000_000), ("y", 9_000_000)]


def test_sorted_puts_all_files_in_the_order_of_time_and_equals_stay_as_given(tmp_path):
    files = [
        written(tmp_path, "at,id,level\n2026-01-01T00:00:09,x,1\n2026-01-01T00:00:03,y,1\n", "1.csv"),
        written(tmp_path, ROWS, "2.csv"),
    ]
    items = [i for i in feed(tmp_path, arrival="sorted").read(files, TOKENS) if isinstance(i, Fed)]
    assert stamps(items) == [
        ("b", 1_000_000),
        ("y", 3_000_000),
        ("a", 3_000_000),
        ("d", 3_000_000),
        ("x", 9_000_000),
    ]


def test_reading_in_file_order_holds_no_rows(tmp_path, monkeypatch):
    path, lines = written(tmp_path, ROWS), readers._lines
    asked = []

    def counted(stream):
        for line in lines(stream):
            asked.append(line.number)
            yield line

    monkeypatch.setattr(readers, "_lines", counted)
    items = feed(tmp_path).read([path], TOKENS)
    asked.clear()  # the header was looked at
    assert next(items).event.station_id == "a"
    assert asked[-1] == 2
    items.close()


# --- Identity


def ids(tmp_path, data, name="input.csv", tokens=TOKENS, mapping=None):
    items = (mapping or feed(tmp_path)).read([written(tmp_path, data, name)], tokens)
    return [item.event.event_id for item in items]


def test_fed_again_from_another_file_a_row_is_the_same_event(tmp_path):
    one = "2026-01-01T00:00:03,a,1\n"
    assert ids(tmp_path, "at,id,level\n" + one) == ids(
        tmp_path, 'at,id,level\r\n"2026-01-01T00:00:03",a,1', "b.csv"
    )


def test_two_events_of_one_moment_are_two_even_where_no_field_tells_them_apart(tmp_path):
    data = "at,id,level,note\n2026-01-01T00:00:03,a,1,x\n2026-01-01T00:00:03,a,1,y\n"
    assert len({*ids(tmp_path, data)}) == 2


def test_a_cell_corrected_changes_no_other_event_of_its_row(tmp_path):
    mapping = load(CASES / "wide-row" / "feed.yaml")
    a = ids(tmp_path, "day;d1;d2;note\nThu;10;11;", mapping=mapping)
    b = ids(tmp_path, "day;d1;d2;note\nThu;10;12;corrected", mapping=mapping)
    assert (a[0] == b[0], a[1] == b[1]) == (True, False)


def test_the_id_of_a_persons_event_depends_on_the_key(tmp_path):
    mapping, data = load(CASES / "stays" / "feed.yaml"), "An,02/01/2026 08:00,\n"
    other = Tokens(b"another key for tests, as long as")
    assert ids(tmp_path, data, mapping=mapping) == ids(tmp_path, data, mapping=mapping)
    assert ids(tmp_path, data, mapping=mapping) != ids(tmp_path, data, mapping=mapping, tokens=other)


def test_why_a_restricted_row_is_refused_repeats_nothing_of_it(tmp_path):
    mapping, data = load(CASES / "stays" / "feed.yaml"), "An Nguyen,An Nguyen,An Nguyen\n"
    (reject,) = [i for i in mapping.read([written(tmp_path, data)], TOKENS) if isinstance(i, Bad)][:1]
    assert "An Nguyen" not in reject.detail
    assert b"An Nguyen" in reject.raw


# --- Numbers and times


@pytest.mark.parametrize(
    ("unit", "x", "y"),
    [("mph -> km/h", 1, 1.609344), ("F -> C", 212, 100), ("F -> C", -40, -40), ("F -> C", 32, 0), ("knots -> km/h", 1, 1.852),
     ("in -> mm", 1, 25.4), ("ft -> m", 1, 0.3048), ("m/s -> km/h", 10, 36), ("ratio -> %", 0.25, 25)],
)  # fmt: skip
def test_units_are_exact(unit, x, y):
    assert UNITS[unit](x) == y


@pytest.mark.parametrize(
    ("text", "pattern", "utc"),
    [
        ("1767225600.25", "epoch_s", "2026-01-01T00:00:00.250000+00:00"),
        ("1767225600250", "epoch_ms", "2026-01-01T00:00:00.250000+00:00"),
        ("2010-07-21 14:50:15.0", "iso", "2010-07-21T14:50:15+00:00"),
        ("2026-01-01T00:00:00+07:00", "iso", "2025-12-31T17:00:00+00:00"),
        ("20260101T000000Z", "iso", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_times_of_every_format_become_utc(text, pattern, utc):
    assert moment_of(text, pattern, UTC).isoformat() == utc


# --- Trying


def test_trying_shows_the_first_events_every_problem_and_counts(tmp_path):
    path = written(tmp_path, ROWS)
    report = try_(feed(tmp_path, more="grace: 1s\n"), [path], 1)
    assert report.json() == {
        "feed": "noise",
        "events": {"city.environment.water.v1": 3},
        "late": {"city.environment.water.v1": 1},
        "rejected": {"time_range": 1},
        "first": "2026-01-01T00:00:01+00:00",
        "last": "2026-01-01T00:00:03+00:00",
        "shown": report.json()["shown"],
        "problems": [
            {
                "at": f"{path}:4",
                "reason": "time_range",
                "detail": "9999-01-01T00:00:00+00:00 is outside 1970..2300",
            }
        ],
    }
    assert [shown["at"] for shown in report.json()["shown"]] == [f"{path}:2"]
    assert f"{path}:4: time_range" in report.text()
    assert "3 events of city.environment.water.v1, 1 of them late" in report.text()
    assert not report.well
