"""The shipped feeds on the real files: every figure that was counted independently of us must come out."""

import csv
import json
import math
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from models.base import moment
from sources.mapping import Bad, MappingError, load, try_
from sources.tokens import Tokens

DATA = Path(
    os.environ.get("CITYWATCH_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data"
).resolve()
TOKENS = Tokens(b"a key for tests, 32 bytes long..")

pytestmark = pytest.mark.skipif(
    not (DATA / "ORACLES.json").is_file(),
    reason=f"no real data in {DATA}; set CITYWATCH_DATA to a folder with ORACLES.json",
)


def read(name, *globs):
    """Every item of a feed's real files."""
    files = [path for glob in globs for path in sorted(DATA.glob(glob))]
    assert files, globs
    return list(load(name).read(files, TOKENS))


def fed(name, *globs):
    """The events, where nothing may be refused and no stamp may go back."""
    items = read(name, *globs)
    assert [item for item in items if isinstance(item, Bad)] == []
    stamps = [item.stamp_us for item in items]
    assert stamps == sorted(stamps)
    assert len({item.event.event_id for item in items}) == len(items)
    return items


@pytest.fixture(scope="module")
def oracles():
    return json.loads((DATA / "ORACLES.json").read_text("utf-8"))


@pytest.mark.slow
def test_metr_la_is_238464_cells_whose_sum_and_hourly_means_are_those_of_the_file(oracles):
    items, want = fed("metr-la", "traffic/metr-la/*.csv"), oracles["metr_la"]
    assert len(items) == want["cells"] == 238_464
    assert len({item.event.segment_id for item in items}) == want["sensors"]
    total = math.fsum(item.event.speed_kmh / 1.609344 for item in items)
    assert total == pytest.approx(want["sum"], rel=1e-9)
    hours = defaultdict(list)
    zone = ZoneInfo("America/Los_Angeles")
    for item in items:
        hours[item.event.observed_at.astimezone(zone).strftime("%Y-%m-%dT%H:00:00")].append(
            item.event.speed_kmh
        )
    with (DATA / "oracle_metr_la_hourly.csv").open(newline="") as file:
        rows = {row["hour_start"]: row for row in csv.DictReader(file)}
    assert hours.keys() == rows.keys()
    for hour, row in rows.items():
        assert len(hours[hour]) == int(row["readings"])
        assert math.fsum(hours[hour]) / len(hours[hour]) / 1.609344 == pytest.approx(
            float(row["mean_speed_nonzero"]), abs=5e-7
        )


def test_deepstream_is_late_21_times_by_a_second_and_never_by_its_own_ten(oracles):
    items, want = fed("deepstream", "cameras/deepstream/*.jsonl"), oracles["deepstream"]
    late = [moment(item.stamp_us) - item.event.observed_at for item in items]
    assert load("deepstream").grace == timedelta(seconds=10)
    assert (sum(s > timedelta(seconds=10) for s in late), sum(s > timedelta(seconds=1) for s in late)) == (
        0,
        21,
    )
    assert max(late).total_seconds() == want["max_lateness_s"]
    assert len(items) == want["messages"]
    assert Counter(item.event.kind for item in items) == want["events"]
    assert Counter(item.event.spot_id for item in items if item.event.spot_id) == want["spots"]
    assert len({item.event.camera_id for item in items}) == want["sensors"]
    nowhere = [item for item in items if item.event.place.lat is None and item.event.place.lon is None]
    assert len(nowhere) == want["location_zero"]


def test_room_air_has_the_rows_the_means_and_the_episodes_of_each_room(oracles):
    items = fed("room-air", "schools/room_co2_occupancy/*.txt")
    for file, want in oracles["room_co2"].items():
        room = [item.event for item in items if f"{item.event.room_id}.txt" == file]
        assert len(room) == want["rows"]
        assert sum(event.occupied for event in room) == want["occupied_rows"]
        assert max(event.co2_ppm for event in room) == want["co2_max"]
        high = [event.co2_ppm > 1000 for event in room]
        assert sum(high) == want["co2_over_1000_rows"]
        assert (
            sum(now and not before for before, now in zip([False, *high], high, strict=False))
            == (want["co2_over_1000_episodes"])
        )
        assert all(event.quality == "good" and event.light_lux is not None for event in room)
    assert all(item.stamp_us - item.event.at < 120_000_000 for item in items)  # no room makes another late


@pytest.mark.parametrize(
    ("file", "field", "unit"),
    [
        ("speed_6005", "speed_kmh", 1.609344),
        ("speed_7578", "speed_kmh", 1.609344),
        ("occupancy_6005", "occupancy_pct", 1),
        ("TravelTime_387", "travel_time_s", 1),
    ],
)
def test_nab_traffic_has_the_rows_sums_and_times_of_each_file(oracles, file, field, unit):
    want = oracles["nab"]["files"][f"realTraffic/{file}.csv"]
    items = read("nab", f"traffic/nab/data/realTraffic/{file}.csv")
    assert len(items) == want["rows"]
    assert math.fsum(getattr(item.event, field) / unit for item in items) == pytest.approx(
        want["sum"], rel=1e-9
    )
    first, last = (datetime.fromisoformat(want[k]).replace(tzinfo=UTC) for k in ("first", "last"))
    assert (items[0].event.observed_at, items[-1].event.observed_at) == (first, last)
    assert {item.event.topic.key_of(item.event) for item in items} == {f"realTraffic-{file}"}


def test_nab_refuses_what_is_no_traffic():
    for file in (DATA / "traffic/nab/data").glob("real[KAT]*/*.csv"):
        if file.parent.name != "realTraffic":
            with pytest.raises(MappingError, match="takes no file of this name"):
                load("nab").read([file], TOKENS)


def test_chicago_says_minus_one_for_703_segments_and_that_is_no_speed(oracles):
    want = oracles["chicago"]["realtime_traffic_data.csv"]
    items = fed("chicago-tracker", "traffic/chicago/realtime_traffic_data.csv")
    assert len(items) == want["records"]
    assert Counter(item.event.quality for item in items) == {
        "no_value": want["speed_minus1"],
        "good": want["speed_valid"],
    }
    speeds = [item.event.speed_kmh for item in items if item.event.quality == "good"]
    assert [
        item for item in items if item.event.quality == "no_value" and item.event.speed_kmh is not None
    ] == []
    assert math.fsum(speeds) / len(speeds) / 1.609344 == pytest.approx(want["mean_valid"], abs=5e-5)
    zone = ZoneInfo("America/Chicago")
    assert items[0].event.observed_at == datetime(2010, 7, 21, 14, 50, 15, tzinfo=zone)
    assert items[-1].event.observed_at == datetime(2025, 4, 24, 5, 31, 2, tzinfo=zone)


def test_italian_hospitals_sum_to_every_day_of_the_oracle(oracles):
    items = fed("pcm-dpc", "hospitals/pcm_dpc/regioni/*.csv")
    assert len(items) == 2 * oracles["pcm_dpc"]["region_rows"]
    zone = ZoneInfo("Europe/Rome")
    days = Counter()
    for item in items:
        days[item.event.observed_at.astimezone(zone).strftime("%Y%m%d"), item.event.unit] += (
            item.event.beds_occupied
        )
    with (DATA / "oracle_pcm_daily.csv").open(newline="") as file:
        want = {}
        for row in csv.DictReader(file):
            want[row["day"], "ward"] = int(row["ricoverati_con_sintomi"])
            want[row["day"], "icu"] = int(row["terapia_intensiva"])
    assert days == want
    assert len({item.event.facility_id for item in items}) == 21


def test_mimic_admits_and_discharges_129_and_names_nobody(oracles):
    items, want = fed("mimic-admissions", "hospitals/mimic3demo/ADMISSIONS.csv"), oracles["mimic3demo"]
    assert Counter(item.event.movement for item in items) == {"admit": 129, "discharge": 129}
    assert len({item.event.patient for item in items}) == want["patients"]
    assert (
        Counter(e.admission_type.upper() for e in (i.event for i in items) if e.admission_type)
        == want["by_type"]
    )
    inside, stays, most = {}, timedelta(), 0
    for item in items:
        event = item.event
        if event.movement == "admit":
            inside[event.visit] = event.observed_at
        else:
            stays += event.observed_at - inside.pop(event.visit)
        most = max(most, len(inside))
    assert inside == {}
    assert most == want["max_concurrent"]
    assert stays / timedelta(hours=1) == pytest.approx(want["bed_hours"], abs=0.05)
    with (DATA / "hospitals/mimic3demo/ADMISSIONS.csv").open(newline="") as file:
        numbers = {row[name] for row in csv.DictReader(file) for name in ("subject_id", "hadm_id")}
    # Numbers of five digits and more: none stands by itself in what goes out.
    for item in items:
        words = json.loads(item.event.wire())
        del words["patient"], words["visit"], words["event_id"]
        assert not numbers & {str(value) for value in words.values()}


def test_nypd_collisions_are_5424_events_though_many_share_a_moment(oracles):
    items, want = fed("nypd-collisions", "traffic/nypd_collisions/*.csv"), oracles["nypd_collisions"]
    assert len(items) == want["distinct_keys"]
    assert len({item.stamp_us for item in items}) < len(items)
    assert sum(item.event.killed for item in items) == want["killed"]
    zone = ZoneInfo("America/New_York")
    hours = Counter(str(item.event.observed_at.astimezone(zone).hour) for item in items)
    assert hours == want["per_hour"]
    # The file has a location in every row, but in some it is "(0.0, 0.0)".
    with (DATA / "traffic/nypd_collisions" / want["file"]).open(newline="") as file:
        nowhere = {row["UNIQUE KEY"] for row in csv.DictReader(file) if float(row["LATITUDE"]) == 0}
    assert {item.event.incident_id for item in items if item.event.place is None} == nowhere != set()
    assert [item.line for item in items[:3]] != sorted(item.line for item in items)[
        :3
    ]  # the file is newest first


def test_san_francisco_311_is_3000_reports_in_more_lines_than_that(oracles):
    want = oracles["citizen_311"]["sf311_a.csv"]
    items = fed("sf-311", "environment/sf_311/*.csv")
    assert len(items) == want["records"] == len({item.event.report_id for item in items})
    assert max(item.line for item in items) > len(items) + 1
    assert Counter(item.event.status.capitalize() for item in items) == want["status"]
    nowhere = [i for i in items if i.event.place is None or i.event.place.lat is None]
    assert len(nowhere) == want["no_or_zero_latitude"]
    first, last = (datetime.fromisoformat(want[k]) for k in ("first", "last"))
    assert (items[0].event.observed_at, items[-1].event.observed_at) == (first, last)


def test_new_york_attendance_gives_whole_items_before_a_break_and_tells_of_every_control_byte(
    oracles, tmp_path
):
    mapping = tmp_path / "nyc.yaml"
    mapping.write_text(
        """
name: nyc
description: New York school attendance
format: xml
item: item
zone: America/New_York
time: {template: "{ATTN_DATE_YMD}T16", format: "%Y%m%dT%H"}
arrival: file
no_value: [NS]
events:
- topic: city.school.attendance.v1
  fields: {school_id: DBN, attendance_pct: ATTN_PCT}
  measured: [attendance_pct]
""",
        "utf-8",
    )
    want = oracles["nyc_attendance"]["20130315"]
    whole = DATA / "schools/nyc_attendance/20130315.xml"
    cut = tmp_path / "cut.xml"
    cut.write_bytes(whole.read_bytes()[:100_000])
    items = list(load(mapping).read([whole], TOKENS))
    events = [item.event for item in items if not isinstance(item, Bad)]
    assert sum(event.school_id != "TOTAL" for event in events) == want["schools"]
    assert sum(event.quality == "no_value" for event in events) == want["not_submitted"]
    (told,) = [item.detail for item in items if isinstance(item, Bad)]
    assert told.startswith(f"{want['control_chars']} control bytes")
    report = try_(load(mapping), [cut])
    items_before = cut.read_bytes().count(b"</item>")
    assert report.events == {"city.school.attendance.v1": items_before}
    assert report.rejected["row_shape"] == 1
