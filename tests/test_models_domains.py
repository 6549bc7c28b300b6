"""Each domain: an event as its system sends it, what a broken sensor says, and what comes back from the wire."""

from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from models.base import FIRST, LAST, Event, Place, micros
from models.camera import CameraCount, CameraEvent
from models.catalogue import event_of, events, topics
from models.citizen import CitizenReport
from models.decode import decode
from models.environment import AirQuality, WaterLevel
from models.hospital import EmergencyQueue, Occupancy, PatientMovement
from models.school import Attendance, RoomAir
from models.traffic import TrafficFlow, TrafficIncident, TravelTime
from streams.domain import domains

ENVELOPE = {"event_id": "e1", "source_id": "test", "observed_at": datetime(2026, 1, 1, 12, tzinfo=UTC)}
TOKEN = "tok_" + "0123456789abcdef" * 2

#: Per class: what one of its systems says, and values that only a broken sensor or a wrong mapping would say.
EXAMPLES: dict[type[Event], tuple[dict[str, Any], list[dict[str, Any]]]] = {
    TrafficFlow: (
        {"segment_id": "773869", "speed_kmh": 103.6, "intensity_vehh": 1200.0, "occupancy_pct": 6.44},
        [{"speed_kmh": -1.0}, {"speed_kmh": 655.35}, {"occupancy_pct": 100.1}, {"speed_kmh": float("nan")}],
    ),
    TravelTime: (
        {"route_id": "387", "travel_time_s": 564.0},
        [{"travel_time_s": -1.0}, {"travel_time_s": 1e6}],
    ),
    TrafficIncident: (
        {"incident_id": "3742618", "category": "collision", "killed": 0, "cause": "Unsafe Speed"},
        [{"category": "crash"}, {"killed": -1}, {"killed": 0.5}],
    ),
    CameraEvent: (
        {"camera_id": "10_110_127_110_S1", "kind": "parked", "object_id": "^S10_^O1", "spot_id": "P1-PS-87"},
        [{"kind": "departed"}, {"confidence": 95.0}, {"plate": "14A-123.45"}, {"object_class": "face"}],
    ),
    CameraCount: (
        {"camera_id": "birrarung", "object_class": "person", "count": 11_224, "interval_s": 3600.0},
        [{"count": -1}, {"object_class": "people"}, {"interval_s": 0.0}],
    ),
    PatientMovement: (
        {
            "facility_id": "bai-chay",
            "patient": TOKEN,
            "visit": TOKEN,
            "movement": "transfer",
            "hl7_trigger": "A02",
            "unit": "icu",
            "from_unit": "ed",
            "patient_class": "inpatient",
            "triage": 1,
            "age_band": "0-4",
            "syndrome": "respiratory",
        },
        [
            {"patient": "10006"},
            {"patient": "Nguyễn Văn A"},
            {"triage": 0},
            {"triage": 6},
            {"hl7_trigger": "ADT^A01"},
        ],
    ),
    Occupancy: (
        {"facility_id": "13 Abruzzo", "unit": "icu", "beds_occupied": 68, "beds_total": 200},
        [{"beds_occupied": -1}, {"beds_occupied": 6.5}, {"unit": "icu/2"}],
    ),
    EmergencyQueue: (
        {
            "facility_id": "bai-chay",
            "waiting": 41,
            "waiting_urgent": 5,
            "wait_p90_min": 95.0,
            "diverting": True,
        },
        [{"waiting": 65_535}, {"wait_p90_min": -999.0}, {"diverting": 1}],
    ),
    Attendance: (
        {"school_id": "01M015", "enrolled": 190, "present": 171, "attendance_pct": 90.0},
        [{"attendance_pct": 100.5}, {"present": -1}],
    ),
    RoomAir: (
        {
            "room_id": "datatest",
            "co2_ppm": 749.2,
            "temperature_c": 23.7,
            "humidity_pct": 26.272,
            "light_lux": 585.2,
            "occupied": True,
        },
        [{"co2_ppm": 0.0}, {"co2_ppm": 65_535.0}, {"temperature_c": 85.0}, {"humidity_pct": 101.0}],
    ),
    AirQuality: (
        {"station_id": "ha-long", "pm25_ugm3": 20.3, "no2_ugm3": 118.7, "o3_ugm3": 136.1},
        [{"pm25_ugm3": 9999.0}, {"pm10_ugm3": 65_535.0}, {"co_ugm3": -1.0}],
    ),
    WaterLevel: (
        {"station_id": "01541000", "level_m": 1.2, "discharge_m3s": -3.0},
        [{"level_m": -999_999.0}, {"level_m": 9999.0}, {"discharge_m3s": -999_999.0}],
    ),
    CitizenReport: (
        {
            "report_id": "6078653",
            "category": "environment",
            "service_code": "HEAT/HOT WATER",
            "status": "closed",
            "channel": "app",
            "requested_at": datetime(2025, 12, 31, 9, tzinfo=UTC),
        },
        [
            {"status": "assigned"},
            {"description": "my neighbour ..."},
            {"phone": "0912345678"},
            {"service_code": ""},
        ],
    ),
}

#: DESIGN's table of topics: class, key, L in minutes, kind, access.
TABLE = {
    "city.traffic.flow.v1": (TrafficFlow, "segment_id", 2, "samples", "public"),
    "city.traffic.travel_time.v1": (TravelTime, "route_id", 10, "samples", "public"),
    "city.traffic.incident.v1": (TrafficIncident, "incident_id", 60, "events", "public"),
    "city.camera.event.v1": (CameraEvent, "camera_id", 0.5, "events", "public"),
    "city.camera.count.v1": (CameraCount, "camera_id", 0.5, "samples", "public"),
    "city.hospital.adt.v1": (PatientMovement, "facility_id", 60, "events", "restricted"),
    "city.hospital.occupancy.v1": (Occupancy, "facility_id/unit", 120, "samples", "public"),
    "city.hospital.queue.v1": (EmergencyQueue, "facility_id", 10, "samples", "public"),
    "city.school.attendance.v1": (Attendance, "school_id", 720, "samples", "public"),
    "city.school.room_air.v1": (RoomAir, "room_id", 5, "samples", "public"),
    "city.environment.air.v1": (AirQuality, "station_id", 60, "samples", "public"),
    "city.environment.water.v1": (WaterLevel, "station_id", 60, "samples", "public"),
    "city.citizen.report.v1": (CitizenReport, "report_id", 60, "events", "public"),
}


def test_the_citys_topics_are_those_of_the_design():
    found = {
        name: (event_of(name), "/".join(t.key), t.lateness.total_seconds() / 60, t.kind, t.access)
        for name, t in topics().items()
    }
    assert {name: found.get(name) for name in TABLE} == TABLE


def test_every_class_of_the_catalogue_has_an_example_here():
    assert {event.topic.name for event in events()} & set(TABLE) == {e.topic.name for e in EXAMPLES}


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: e.__name__)
def test_what_a_system_says_is_an_event_and_comes_back_from_the_wire(event):
    said = event(**ENVELOPE, **EXAMPLES[event][0])
    assert decode(event, said.wire(), micros(LAST), event.topic.key_of(said).encode()) == said


BAD = [(event, bad) for event, (_, all_bad) in EXAMPLES.items() for bad in all_bad]


@pytest.mark.parametrize(("event", "bad"), BAD, ids=[f"{e.__name__}-{b}" for e, b in BAD])
def test_what_only_a_broken_sensor_or_a_wrong_mapping_says_is_refused(event, bad):
    with pytest.raises(ValidationError):
        event(**ENVELOPE | EXAMPLES[event][0] | bad)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: e.__name__)
def test_an_event_without_any_value_says_so_by_its_quality(event):
    needed = {
        n: EXAMPLES[event][0][n]
        for n, f in event.model_fields.items()
        if f.is_required() and n not in ENVELOPE
    }
    assert event(**ENVELOPE, **needed, quality="no_value").quality == "no_value"


# Any event there can be

NEARLY_LAST = datetime(2299, 12, 31)  # noqa: DTZ001 - drawn with a zone
NAMES = st.sampled_from(["a", "P1-PS-87", "Bãi Cháy", 'q"\\'])


def values(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of a field's type within its bounds, after the types and constraints that our models use."""
    if get_origin(annotation) is Annotated:
        return values(annotation.__origin__, (*annotation.__metadata__, *metadata))
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of(*(values(part, metadata) for part in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return made(annotation)
    bounds = [m for given in metadata for m in (given.metadata if isinstance(given, FieldInfo) else [given])]
    pattern = next((p for m in bounds if (p := getattr(m, "pattern", None))), None)
    low = next(
        (m.ge for m in bounds if isinstance(m, at.Ge)),
        next((m.gt for m in bounds if isinstance(m, at.Gt)), None),
    )
    high = next((m.le for m in bounds if isinstance(m, at.Le)), None)
    if annotation is float:
        return st.floats(
            low, high, exclude_min=any(isinstance(m, at.Gt) for m in bounds), allow_subnormal=False
        )
    if annotation is int:
        return st.integers(low, 2**63 if high is None else high)
    if annotation is str and pattern:
        return st.from_regex(pattern).map(str.strip) if len(pattern) < 40 else NAMES
    if annotation is AwareDatetime:
        return st.datetimes(FIRST.replace(tzinfo=None), NEARLY_LAST, timezones=st.just(UTC))
    return {
        str: st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
        bool: st.booleans(),
        type(None): st.none(),
    }[annotation]


def made(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    drawn = {n: values(f.annotation, tuple(f.metadata)) for n, f in model.model_fields.items()}
    if "revision" in drawn:
        drawn["revision"] = st.integers(0, 2**31 - 1)  # its bound is no part of the schema
    return st.builds(model, **drawn)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: e.__name__)
def test_any_event_comes_back_equal_from_the_wire(event):
    @settings(max_examples=40, deadline=None)
    @given(made(event))
    def comes_back(said):
        read = decode(event, said.wire(), micros(LAST))
        assert read == said
        assert read.wire() == said.wire()

    comes_back()


# What is computed


def test_air_has_the_index_of_its_worst_pollutant_and_keeps_it_off_the_wire():
    air = AirQuality(**ENVELOPE, **EXAMPLES[AirQuality][0])
    assert air.vn_aqi == 59  # NO2
    assert b"vn_aqi" not in air.wire()


def test_air_without_particles_has_no_index():
    assert AirQuality(**ENVELOPE, station_id="s", o3_ugm3=500.0).vn_aqi is None


@pytest.mark.parametrize(
    ("occupied", "total", "pct"),
    [(68, 200, 34.0), (210, 200, 105.0), (0, 10, 0.0), (3, 0, None), (3, None, None), (None, 9, None)],
)
def test_occupancy_is_per_staffed_bed_and_may_exceed_them(occupied, total, pct):
    beds = Occupancy(**ENVELOPE, facility_id="f", unit="u", beds_occupied=occupied, beds_total=total)
    assert beds.occupied_pct == pct


@pytest.mark.parametrize(
    ("said", "pct"),
    [
        ({"enrolled": 200, "present": 180, "attendance_pct": 12.0}, 10.0),  # counts go before a share
        ({"attendance_pct": 95.0}, 5.0),
        ({"enrolled": 0, "present": 0}, None),
        ({"enrolled": 10, "present": 11}, 0.0),  # a guest
        ({}, None),
    ],
)
def test_absence_comes_from_the_counts_else_from_the_share(said, pct):
    assert Attendance(**ENVELOPE, school_id="s", **said).absence_pct == pct


# What a store keeps


def test_every_topic_of_the_catalogue_has_a_domain():
    assert set(domains()) == set(topics())


def test_no_domain_keeps_a_personal_field_nor_a_person_or_case_as_a_tag():
    for domain in domains().values():
        assert not domain.event.personal() & {*domain.fields, *domain.tags}
        assert not {"incident_id", "report_id", "object_id", "event_id"} & set(domain.tags)


def test_history_of_patients_holds_no_description_of_one():
    adt = domains()["city.hospital.adt.v1"]
    assert not {"age_band", "syndrome"} & {*adt.fields, *adt.tags}


def test_a_place_out_of_this_world_is_refused():
    for wrong in ({"lat": 90.1}, {"lon": -180.5}, {"lat": float("inf")}, {"street": "1 Lê Lợi"}):
        with pytest.raises(ValidationError):
            Place(**wrong)


def test_first_and_last_are_whole_years():
    assert (FIRST.year, LAST.year) == (1970, 2300)
