"""The simulated city: the same for the same seed, true to its places, its rhythm, its incidents and its faults."""

import hashlib
import heapq
import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import AFTERNOON, HOUR, MINUTE, judged

from models.base import micros
from models.catalogue import event_of, topics
from models.decode import Rejection, decode
from rules.load import default
from sources.simulator import city as c
from sources.simulator import faults, incidents, stream
from sources.simulator.rhythm import (
    RHYTHMS,
    Moment,
    Weather,
    busy,
    high_water,
    local,
    midnight,
    school_day,
    tide_m,
    weather,
)  # fmt: skip
from sources.simulator.sensors import WHAT, Voice, finish
from sources.simulator.stream import events, simulate, truth

#: A platform that is well says nothing.
OF_THE_CITY = [topic for topic in topics() if not topic.startswith("city.platform.")]

ROOT = Path(__file__).parent.parent
CITY = c.city()
DAYS = range(local(AFTERNOON).day, local(AFTERNOON).day + 60)


@cache
def minutes_of(seed, minutes, load=1.0):
    return list(events(seed, AFTERNOON, AFTERNOON + minutes * MINUTE, load))


@cache
def planned():
    return [it for day in DAYS for it in incidents.plan(1, CITY, day)]


@cache
def broken():
    return [it for day in DAYS for it in faults.plan(1, CITY, day)]


# --- the same, again ------------------------------------------------------------------------------------------------

_DIGEST = f"""
import hashlib
from sources.simulator.stream import simulate
found = hashlib.sha256()
for item in simulate(7, {AFTERNOON}, {AFTERNOON + 5 * MINUTE}):
    found.update(repr(item).encode())
print(found.hexdigest())
"""


def test_the_same_seed_and_start_give_the_same_bytes_in_every_process():
    def digest(hash_seed):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": f"UTC{hash_seed}"}
        told = subprocess.run(
            [sys.executable, "-c", _DIGEST], cwd=ROOT, env=environ, capture_output=True, check=True
        )
        return told.stdout

    here = hashlib.sha256()
    for item in simulate(7, AFTERNOON, AFTERNOON + 5 * MINUTE):
        here.update(repr(item).encode())
    assert digest("1") == digest("2") == here.hexdigest().encode() + b"\n"


def test_another_seed_is_another_day():
    assert [e.value for e in minutes_of(7, 5)] != [e.value for e in minutes_of(8, 5)]
    assert [t.id for t in truth(7, AFTERNOON, AFTERNOON + 24 * HOUR)] != [
        t.id for t in truth(8, AFTERNOON, AFTERNOON + 24 * HOUR)
    ]


def test_a_longer_run_begins_with_the_shorter_one():
    short = minutes_of(7, 5)
    assert list(islice(events(7, AFTERNOON, None), len(short))) == short


def test_stamps_are_in_order_and_within_the_time_asked_for():
    found = minutes_of(7, 20)
    assert all(a.stamp_us <= b.stamp_us for a, b in pairwise(found))
    assert found[0].stamp_us >= AFTERNOON
    assert found[-1].stamp_us < AFTERNOON + 20 * MINUTE
    assert all(e.stamp_us % 1000 == 0 for e in found)


def test_a_shift_moves_every_time_and_nothing_else():
    by = 3 * HOUR
    for plain, moved in zip(
        minutes_of(7, 2), events(7, AFTERNOON, AFTERNOON + 2 * MINUTE, shift_us=by), strict=True
    ):
        assert moved.stamp_us - plain.stamp_us == moved.observed_us - plain.observed_us == by
        assert (moved.event_id, moved.key, moved.flaw) == (plain.event_id, plain.key, plain.flaw)
        if plain.flaw is None:
            then, now = (json.loads(e.value) for e in (plain, moved))
            different = {name for name in then if then[name] != now[name]}
            assert different <= {"observed_at", "requested_at"}


def test_ten_times_the_load_is_ten_times_the_roads_and_cameras_and_the_first_ones_stay():
    big = c.city(10)
    for topic in (c.FLOW, c.CAMERA):
        assert len(big.by_topic[topic]) == 10 * len(CITY.by_topic[topic])
    assert len(big.by_topic[c.ROLL]) == len(CITY.by_topic[c.ROLL])
    assert all(big.by_key[place] == sensor for place, sensor in CITY.by_key.items())
    assert len(c.city(0.01).by_topic[c.FLOW]) == len(c.ROADS)


# --- true places ----------------------------------------------------------------------------------------------------


def test_the_city_of_the_plan_has_60_detectors_40_cameras_and_three_hospitals():
    assert len(CITY.by_topic[c.FLOW]) == 60
    assert len(CITY.by_topic[c.CAMERA]) == 40
    assert {s.key for s in CITY.by_topic[c.QUEUE]} == {"dk-tinh", "bai-chay", "san-nhi"}
    assert set(CITY.by_topic) == set(OF_THE_CITY)
    assert all(CITY.by_topic.values())


def test_what_is_registered_is_simulated_there_and_that_often():
    registered = default().registry.sensors
    assert registered
    for sensor in registered:
        here = CITY.by_key[sensor.topic, sensor.key]
        assert here.place == sensor.place
        assert (here.vi, here.en) == (sensor.name.vi, sensor.name.en)
        assert sensor.every_us == (here.every_s or 86_400) * 1_000_000
        assert {name: here.fields[name] for name in sensor.labels} == sensor.labels


def test_everything_stands_on_land_but_the_bridge():
    path = ROOT.parent / "shared/geo/quang_ninh_land.geojson"
    if not path.is_file():
        pytest.skip(f"the base map {path.name} is not here")
    shapes = [f["geometry"] for f in json.loads(path.read_text())["features"]]
    polygons = [
        p for s in shapes for p in ([s["coordinates"]] if s["type"] == "Polygon" else s["coordinates"])
    ]
    in_sea = {s.key for s in c.city(5).sensors if s.place and not _on_land(s.at, polygons)}
    assert all(key.startswith("hl-cau-bai-chay-") for key in in_sea)
    assert not _on_land((20.90, 107.05), polygons)  # the bay


def _on_land(at, polygons):
    return any(
        _inside(at, outer) and not any(_inside(at, hole) for hole in holes) for outer, *holes in polygons
    )


def _inside(at, ring):
    lat, lon = at
    crossed = False
    for (x1, y1), (x2, y2) in pairwise(ring):
        if (y1 > lat) != (y2 > lat) and lon < (x2 - x1) * (lat - y1) / (y2 - y1) + x1:
            crossed = not crossed
    return crossed


# --- rhythm and weather ---------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(RHYTHMS)), st.integers(0, 4 * 10**15))
def test_a_place_is_never_busier_than_full_nor_emptier_than_empty(rhythm, at):
    assert 0 <= busy(rhythm, local(at)) <= 1


def test_the_local_day_is_that_of_ha_long():
    now = local(AFTERNOON)
    assert (now.hour, now.weekend) == (14.5, False)
    assert local(AFTERNOON + 3 * 24 * HOUR).weekend  # from Wednesday to Saturday
    assert midnight(now.day) == AFTERNOON - 14 * HOUR - 30 * MINUTE


def test_rush_hours_lessons_and_weekends_are_felt():
    weekday, saturday = (
        (lambda hour: Moment(DAYS[0], hour, False)),
        (lambda hour: Moment(DAYS[0], hour, True)),
    )
    assert busy("city", weekday(7.1)) > 2 * busy("city", weekday(22))
    assert busy("visitors", saturday(10)) > 1.5 * busy("visitors", weekday(10))
    assert busy("lessons", weekday(9)) == 1
    assert busy("lessons", saturday(9)) == 0
    assert [school_day(day) for day in DAYS[:7]] == [True, True, True, False, False, True, True]


def test_rain_slows_roads_empties_the_beach_and_shuts_windows():
    now = Moment(DAYS[0], 9.0, False)

    def reading(topic, name, sky):
        values = [WHAT[topic](Voice(CITY.by_topic[topic][0], Random(n)), now, sky)[name] for n in range(20)]
        return sum(values) / len(values)

    dry, wet = Weather(0, 5), Weather(25, 5)
    assert reading(c.FLOW, "speed_kmh", wet) < 0.85 * reading(c.FLOW, "speed_kmh", dry)
    assert reading(c.COUNT, "count", wet) < 0.5 * reading(c.COUNT, "count", dry)
    assert reading(c.ROOM, "co2_ppm", wet) > 1.05 * reading(c.ROOM, "co2_ppm", dry)
    assert reading(c.ROLL, "present", wet) < reading(c.ROLL, "present", dry)
    assert reading(c.AIR, "pm25_ugm3", Weather(0, 80)) > 3 * reading(c.AIR, "pm25_ugm3", dry)


def test_it_rains_more_in_summer_and_the_tide_turns_once_a_day():
    def wet(days):
        return sum(weather(1, midnight(day) + hour * HOUR).rain_mmh > 0 for day in days for hour in range(24))

    january, july = range(20_819, 20_849), range(21_000, 21_030)
    assert wet(july) > 1.5 * wet(january) > 0
    tops = [tide_m(high_water(day)) for day in DAYS]
    assert (
        3.5 < max(tops) < 4.0
    )  # as high as the sea comes without wind or rain: below every bound of water-high
    assert min(tops) < 3.0


# --- what happens ---------------------------------------------------------------------------------------------------


def test_every_simulation_begins_with_a_grave_crash_on_the_bridge_that_is_told_at_once():
    found = minutes_of(7, 5)
    first = next(e for e in found if e.topic == c.INCIDENT)
    assert first.stamp_us - AFTERNOON < 15_000_000
    assert json.loads(first.value)["injured"] >= 5
    item = next(item for item in simulate(7, AFTERNOON, None) if not isinstance(item, stream.Sent))
    assert (item.what, item.kind) == ("incident", "crash")
    assert "hl-cau-bai-chay-1" in item.subjects


def test_within_half_a_minute_every_domain_has_spoken():
    early = {e.topic.split(".")[1] for e in minutes_of(7, 5) if e.stamp_us < AFTERNOON + 30_000_000}
    assert early == {topic.split(".")[1] for topic in OF_THE_CITY}


def test_every_kind_of_incident_happens_and_leaves_its_marks():
    marks = {}
    for it in planned():
        marks.setdefault(it.kind, set()).update(it.truth.topics)
        assert it.start < it.end
        assert all(e.start >= it.start and e.end <= it.end for e in it.effects)
        assert all(s.at >= it.start for s in it.script)
    assert set(marks) == {kind.name for kind in incidents.KINDS}
    assert {c.FLOW, c.TRAVEL, c.INCIDENT, c.CAMERA, c.REPORT, c.ADT, c.QUEUE} <= marks["crash"]
    assert {c.AIR, c.REPORT, c.ADT} <= marks["haze"]
    assert {c.WATER, c.FLOW, c.INCIDENT, c.REPORT} <= marks["flood"]
    assert {c.COUNT, c.REPORT} <= marks["crowd"]
    assert {c.CAMERA, c.COUNT, c.REPORT} <= marks["abandoned-object"]
    assert {c.BEDS, c.QUEUE, c.ADT} <= marks["ed-overload"]
    assert {c.ROLL, c.ADT} <= marks["fever-in-school"]


def test_an_incident_names_rules_that_exist_and_subjects_they_could_speak_of():
    known = {rule.id: rule for rule in default().rules}
    for it in planned():
        assert set(it.rules) <= set(known)
        if it.rules:
            assert any(known[rule].on in it.truth.topics for rule in it.rules), it.id


def test_schools_are_ill_on_schooldays_and_floods_come_on_high_tides():
    for it in planned():
        if it.kind in ("fever-in-school", "stale-air"):
            assert school_day(local(it.start).day)
        if it.kind == "flood":
            assert tide_m(high_water(local(it.start).day)) >= 3.0


def test_the_truth_told_in_the_stream_is_the_truth():
    until = AFTERNOON + 20 * MINUTE
    told = [item for item in simulate(7, AFTERNOON, until) if not isinstance(item, stream.Sent)]
    assert told == truth(7, AFTERNOON, until)


def test_an_effect_comes_and_goes_by_its_ramps():
    effect = incidents.Effect(c.FLOW, "x", "speed_kmh", 100, 1100, 200, to=0.0)
    assert effect.on(40.0, 99) == effect.on(40.0, 1100) == 40.0
    assert 15 < effect.on(40.0, 200) < 25
    assert effect.on(40.0, 600) == pytest.approx(2.0)


def test_a_run_holds_what_a_day_holds_and_no_more():
    run = stream._Run(1, AFTERNOON, None, 1.0, 0)
    held = []
    for day in DAYS:
        run._plan(day)
        held.append(sum(map(len, (*run.effects.values(), *run.faulty.values()))))
    assert max(held[30:]) < 3 * max(held[:10])


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_every_kind_of_fault_happens():
    assert {it.kind for it in broken()} == {kind for kind, _, _ in faults.FAULTS}
    assert {it.keeps for it in broken() if it.kind == "gateway-dead"} == {True, False}
    known = {rule.id for rule in (*default().rules, *default().wide)}
    assert {rule for it in broken() for rule in it.rules} <= known


def _with(fault, monkeypatch):
    """What its sensors send from ten minutes before to ten minutes after, if this is the only fault."""
    start = fault.start - 10 * MINUTE
    monkeypatch.setattr(
        faults, "plan", lambda _seed, _city, day: [fault] if day == local(fault.start).day else []
    )
    sensors = set(fault.sensors)
    run = stream._Run(1, start, fault.end + 10 * MINUTE, 1.0, 0)
    run.due = [
        d for d in run.due if not isinstance(d[2], Voice) or (d[2].sensor.topic, d[2].sensor.key) in sensors
    ]
    heapq.heapify(run.due)
    return [
        e for e in run.items()
        if isinstance(e, stream.Sent) and (e.topic, e.key.decode()) in sensors and e.flaw in (None, "contradicted")
    ]  # fmt: skip


def _first(kind, wanted=lambda _: True, most_min=40):
    return next(
        it for it in broken()
        if it.kind == kind and wanted(it) and it.end - it.start <= most_min * MINUTE and 8 < local(it.start).hour < 22
    )  # fmt: skip


def test_behind_a_dead_gateway_all_fall_silent_together(monkeypatch):
    fault = _first("gateway-dead", lambda it: not it.keeps)
    sent = _with(fault, monkeypatch)
    assert not [e for e in sent if fault.start <= e.observed_us < fault.end and "signal" not in str(e.value)]
    before, after = (
        {e.key for e in sent if e.observed_us < fault.start},
        {e.key for e in sent if e.observed_us >= fault.end},
    )
    assert before & after >= {key.encode() for topic, key in fault.sensors if c.EVERY[topic]}


def test_a_gateway_that_keeps_sends_it_all_when_it_is_back(monkeypatch):
    fault = _first("gateway-dead", lambda it: it.keeps)
    kept = [e for e in _with(fault, monkeypatch) if fault.start <= e.observed_us < fault.end]
    assert len(kept) > 20
    assert all(fault.end <= e.stamp_us < fault.end + MINUTE for e in kept)


def test_a_stuck_sensor_says_the_same_again_and_again(monkeypatch):
    fault = _first("stuck", lambda it: it.sensors[0][0] in (c.FLOW, c.COUNT), most_min=120)
    measured = "speed_kmh" if fault.sensors[0][0] == c.FLOW else "count"
    values = [
        (fault.start <= e.observed_us < fault.end, json.loads(e.value)[measured])
        for e in _with(fault, monkeypatch)
    ]
    assert len({value for during, value in values if during}) == 1
    assert len({value for during, value in values if not during}) > 3


def test_a_wrong_clock_is_refused_or_too_late(monkeypatch):
    fault = _first("wrong-clock", most_min=90)
    event = event_of(fault.sensors[0][0])
    during = [e for e in _with(fault, monkeypatch) if fault.start + MINUTE < e.stamp_us < fault.end]
    assert len(during) > 20
    for e in during:
        found = decode(event, e.value, e.stamp_us, e.key)
        ahead = isinstance(found, Rejection) and found.reason == "future"
        assert ahead or e.late_us > event.topic.late_us


def test_a_spike_is_beyond_what_happens(monkeypatch):
    fault = _first("spike", lambda it: it.sensors[0][0] == c.FLOW)
    sent = [
        (fault.start <= e.observed_us < fault.end, json.loads(e.value)) for e in _with(fault, monkeypatch)
    ]
    assert max(e["intensity_vehh"] for during, e in sent if during) > 3 * max(
        e["intensity_vehh"] for during, e in sent if not during
    )


def test_a_lost_picture_is_told_and_nothing_else_is(monkeypatch):
    fault = _first("signal-loss", lambda it: len(it.sensors) == 2)
    during = [e for e in _with(fault, monkeypatch) if fault.start <= e.observed_us <= fault.end]
    assert [(json.loads(e.value)["kind"], json.loads(e.value)["active"]) for e in during if e.topic == c.CAMERA][:2] == [
        ("signal_loss", True), ("signal_loss", False),
    ]  # fmt: skip


def test_only_what_was_spoilt_is_refused_and_what_was_spoilt_is_refused():
    found = minutes_of(SEED, 20)
    spoilt = {"cut", "wrong type"}
    for e in found:
        refused = isinstance(decode(event_of(e.topic), e.value, e.stamp_us, e.key), Rejection)
        assert refused == (e.flaw in spoilt), (e.flaw, e.value)
    assert spoilt | {"doubled", "late"} <= {e.flaw for e in found}


def test_doubled_events_come_again_with_the_same_bytes():
    doubled = Counter((e.event_id, e.value) for e in minutes_of(SEED, 20) if e.flaw == "doubled")
    assert doubled
    assert set(doubled.values()) <= {1, 2}  # one whose second copy comes after the end stands alone
    assert 2 in doubled.values()


def test_finished_values_are_whole_where_they_are_counted():
    said = {"count": -3.2, "diverting": 0.7, "level_m": -0.456, "speed_kmh": -1.0, "kind": "motion"}
    assert finish(said) == {
        "count": 0,
        "diverting": True,
        "level_m": -0.46,
        "speed_kmh": 0.0,
        "kind": "motion",
    }


# --- judged by the rules that ship ----------------------------------------------------------------------------------


def test_twenty_minutes_are_judged_as_the_truth_has_it():
    found, counts = judged(SEED, AFTERNOON, AFTERNOON + 20 * MINUTE)
    crash = found.incidents[0]
    assert crash.happened.id.startswith("crash-staged-")
    assert crash.alarm.rule == "incident-grave"
    assert crash.seconds < 15
    assert found.rate == 1
    total = sum(counts.values(), Counter())
    assert set(total) == {"stored", "late", "duplicate", "conflict", "rejected"}
    assert total.total() == len(minutes_of(SEED, 20))


#: A seed whose twenty minutes hold something of everything that may happen on the line.
SEED = 2


def test_times_are_those_of_the_city_not_of_this_machine():
    first = minutes_of(7, 5)[0]
    event = decode(event_of(first.topic), first.value, first.stamp_us, first.key)
    assert 0 <= micros(event.observed_at) - AFTERNOON < 30_000_000
