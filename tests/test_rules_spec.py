"""The grammar of rules: what is a rule, what is none and why, and that a set survives its way through the log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.base import Place
from models.camera import CameraCount
from models.environment import AirQuality
from models.hospital import Occupancy, PatientMovement
from models.traffic import TrafficFlow
from rules.load import default
from rules.spec import ENGINE, Registry, Rule, RuleSet, Sensor
from rules.terms import duration_text, duration_us, names_of, types_of, values_of

RULE = TypeAdapter(Rule)

JAM = {
    "id": "road-jammed",
    "kind": "threshold",
    "on": "city.traffic.flow.v1",
    "by": ["segment_id"],
    "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20", "for": "5m"}],
}
CLUSTER = {
    "id": "cluster",
    "kind": "count",
    "on": "city.camera.event.v1",
    "by": ["camera_id"],
    "window": "15m",
    "levels": [{"priority": "P2", "raise": "count >= 5", "clear": "count < 2"}],
}
SILENT = {
    "id": "silent",
    "kind": "absence",
    "on": "city.traffic.flow.v1",
    "by": ["segment_id"],
    "misses": 3,
    "priority": "P4",
}
CRASH = {
    "id": "crash",
    "kind": "event",
    "on": "city.traffic.incident.v1",
    "by": ["incident_id"],
    "priority": "P2",
    "raise": "injured >= 1",
    "keep": "1h",
}


def problems(data):
    with pytest.raises(ValidationError) as error:
        RULE.validate_python(data)
    return [(".".join(map(str, e["loc"][1:])), e["msg"]) for e in error.value.errors()]


def test_durations_are_microseconds():
    level = RULE.validate_python(JAM).levels[0]
    assert (level.for_us, level.keep_us) == (300_000_000, 0)
    assert RULE.validate_python({**CRASH, "keep": "1h30m"}).keep_us == 5_400_000_000
    assert RULE.validate_python(CLUSTER).window_us == 900_000_000
    assert RULE.validate_python({**SILENT, "misses": None, "after": "2d"}).after_us == 172_800_000_000


@given(st.integers(0, 10**10).map(lambda ms: ms * 1000))
def test_a_written_duration_reads_as_itself(us):
    assert duration_us(duration_text(us)) == us


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "5 has no unit"),
        ("5 m", "is no duration"),
        ("", "is no duration"),
        ("1w", "is no duration"),
        ("9999d", "longer"),
    ],
)
def test_what_is_no_duration_is_refused(value, why):
    [(where, message)] = problems({**CLUSTER, "window": value})
    assert where == "window"
    assert why in message


@pytest.mark.parametrize(
    ("raised", "clear", "at", "below"),
    [("count >= 5", "count < 2", 5, 2), ("count > 4", "count <= 1", 5, 2), ("count>=1", None, 1, 1)],
)
def test_a_count_is_two_numbers(raised, clear, at, below):
    level = RULE.validate_python(
        {**CLUSTER, "levels": [{"priority": "P2", "raise": raised, "clear": clear}]}
    ).levels[0]
    assert (level.raise_at, level.clear_below) == (at, below)


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        ({"on": "city.traffic.fow.v1"}, "on", "there is no topic city.traffic.fow.v1"),
        ({"by": ["ward"]}, "by", "identity labels must follow from the key segment_id"),
        ({"by": []}, "by", "identity labels must follow"),
        ({"where": "speed > 3"}, "where", "column 1: there is no field speed"),
        ({"id": "Road_Jammed"}, "id", "pattern"),
        ({"levels": []}, "levels", "at least one level"),
        ({"levels": [*JAM["levels"], *JAM["levels"]]}, "levels", "2 levels say P3"),
        ({"levels": [{"priority": "P3", "raise": "speed_kmh < 'x'"}]}, "levels.0.raise", "is a number"),
        (
            {"levels": [{"priority": "P3", "raise": "speed_kmh < 1", "clear": "x"}]},
            "levels.0.clear",
            "no field x",
        ),
        ({"title": {"vi": "Ùn tắc"}}, "title.en", "Field required"),
        ({"severity": "bad"}, "severity", "Extreme"),
    ],
)
def test_a_threshold_that_is_none_is_refused_where_it_is_wrong(change, where, why):
    assert any(at == where and why in message for at, message in problems({**JAM, **change}))


@pytest.mark.parametrize(
    ("data", "where", "why"),
    [
        ({**CLUSTER, "levels": [{"priority": "P2", "raise": "count < 5"}]}, "levels.0.raise", "count >="),
        ({**CLUSTER, "levels": [{"priority": "P2", "raise": "speed > 5"}]}, "levels.0.raise", "count >="),
        (
            {**CLUSTER, "levels": [{"priority": "P2", "raise": "count >= 2000"}]},
            "levels.0.raise",
            "1 to 1000",
        ),
        (
            {**CLUSTER, "levels": [{"priority": "P2", "raise": "count >= 2", "clear": "count < 5"}]},
            "levels.0.clear",
            "allowed is 1 to 2",
        ),
        ({**CLUSTER, "window": "0s"}, "window", "longer than nothing"),
        ({**SILENT, "after": "1h"}, "", "either after"),
        ({**SILENT, "misses": None}, "", "either after"),
        ({**SILENT, "where": "speed_kmh > 1"}, "where", "an absence is of a subject"),
        ({**CRASH, "raise": "injured >= 'two'"}, "raise", "is a number"),
    ],
)
def test_the_other_kinds_have_their_own_sense(data, where, why):
    assert any(at == where and why in message for at, message in problems(data))


def test_no_rule_reads_what_is_personal():
    data = {**CRASH, "on": "city.hospital.adt.v1", "by": ["facility_id"], "raise": "patient == 'x'"}
    assert problems(data) == [("raise", "column 1: patient is personal: no rule may read it")]


def test_a_rule_without_words_is_called_by_its_id_and_severity_follows_priority():
    rule = RULE.validate_python(JAM)
    assert rule.title.en == "Road jammed"
    assert rule.severity_at("P1") == "Extreme"
    assert RULE.validate_python({**JAM, "severity": "Minor"}).severity_at("P1") == "Minor"


def event(cls, **data):
    common = {"event_id": "e", "source_id": "s", "observed_at": "2026-01-05T00:00:00Z"}
    return cls.model_validate_json(json.dumps(common | data))


def test_values_come_in_the_order_of_their_names():
    here = event(TrafficFlow, segment_id="a", speed_kmh=3.5, place={"lat": 20.95, "ward": "Bãi Cháy"})
    assert dict(zip(names_of(TrafficFlow), values_of(TrafficFlow)(here), strict=True)) == {
        "segment_id": "a", "speed_kmh": 3.5, "intensity_vehh": None, "occupancy_pct": None,
        "lat": 20.95, "lon": None, "ward": "Bãi Cháy", "site": None, "quality": "good",
    }  # fmt: skip


def test_values_without_a_place_and_computed_ones():
    beds = event(Occupancy, facility_id="h", unit="ed", beds_occupied=9, beds_total=10)
    assert values_of(Occupancy)(beds) == ("h", "ed", 9, 10, 90.0, None, None, None, None, "good")
    assert "vn_aqi" in names_of(AirQuality)


@pytest.mark.parametrize("cls", [TrafficFlow, CameraCount, Occupancy, AirQuality, PatientMovement])
def test_every_name_has_a_type_and_none_is_personal(cls):
    assert set(types_of(cls)) == set(names_of(cls))
    assert not cls.personal() & set(names_of(cls))


def test_a_set_survives_the_log():
    rules = default()
    assert RuleSet.parse(rules.canonical()) == rules
    assert RuleSet.parse(rules.canonical()).canonical() == rules.canonical()


def test_a_set_of_another_engine_or_with_one_id_twice_is_refused():
    with pytest.raises(ValidationError, match=f"written for engine {ENGINE + 1}; this is engine {ENGINE}"):
        RuleSet.parse(b'{"engine": %d}' % (ENGINE + 1))
    assert RuleSet.parse(b'{"engine": 1}').rules == (), (
        "an earlier engine said nothing that this one does not know"
    )
    with pytest.raises(ValidationError, match="there is already a rule road-jammed"):
        RuleSet.model_validate({"rules": [JAM, JAM]})


def test_a_key_of_several_fields_may_be_a_mapping_in_any_order():
    sensor = Sensor.model_validate(
        {"topic": "city.hospital.occupancy.v1", "key": {"unit": "ed", "facility_id": "h"}, "every": "15m"}
    )
    assert (sensor.key, sensor.every_us) == ("h/ed", 900_000_000)
    assert sensor.labels == {"facility_id": "h", "unit": "ed"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"topic": "city.x.y.v1", "key": "a"}, "there is no topic"),
        ({"topic": "city.hospital.occupancy.v1", "key": "h"}, "the key of .* is facility_id/unit"),
        ({"topic": "city.traffic.flow.v1", "key": "a/b"}, "the key of .* is segment_id"),
        ({"topic": "city.traffic.flow.v1", "key": ""}, "the key of"),
        (
            {"topic": "city.traffic.flow.v1", "key": {"segment": "a"}},
            "the key of .* is segment_id; not segment",
        ),
        ({"topic": "city.traffic.flow.v1", "key": "a", "every": "0s"}, "longer than nothing"),
        ({"topic": "city.traffic.flow.v1", "key": "a", "place": {"lat": 200}}, "less than or equal to 90"),
    ],
)
def test_a_sensor_that_cannot_be_is_refused(data, why):
    with pytest.raises(ValidationError, match=why):
        Sensor.model_validate({"every": "1m", **data})


def test_the_registry_knows_each_subject_once_and_by_topic():
    one = {"topic": "city.traffic.flow.v1", "key": "a", "every": "1m", "place": Place(lat=20.0)}
    registry = Registry.model_validate({"sensors": [one, {**one, "key": "b"}]})
    assert [s.key for s in registry.of("city.traffic.flow.v1")] == ["a", "b"]
    assert registry.of("city.camera.event.v1") == ()
    with pytest.raises(ValidationError, match="twice"):
        Registry.model_validate({"sensors": [one, one]})
