"""What every event promises: its form on the wire, its time, its names, and that nothing personal gets out."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, computed_field

from models.base import (
    EPOCH,
    FIRST,
    LAST,
    Event,
    Identifier,
    Personal,
    Token,
    Topic,
    micros,
    minutes,
    moment,
)
from models.catalogue import events
from models.decode import Rejection, decode
from models.hospital import Occupancy, PatientMovement
from models.traffic import TrafficFlow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AFTER = micros(LAST)


def flow(**said) -> TrafficFlow:
    return TrafficFlow(
        **{"event_id": "e1", "source_id": "loops", "observed_at": NOON, "segment_id": "s1"} | said
    )


ZONES = st.builds(timezone, st.timedeltas(timedelta(hours=-14), timedelta(hours=14)))


@given(st.datetimes(datetime(1970, 1, 2), datetime(2299, 12, 30), timezones=ZONES))  # noqa: DTZ001 - drawn with one
def test_microseconds_are_exact_in_every_zone(at):
    assert micros(at) == (at - EPOCH) // timedelta(microseconds=1)
    assert moment(micros(at)) == at


def test_time_read_from_json_has_the_microseconds_of_the_same_time_made_here():
    read = decode(TrafficFlow, flow().wire(), LONG_AFTER)
    assert isinstance(read, TrafficFlow)
    assert read.at == micros(NOON) == 1_767_268_800_000_000


def test_one_instant_has_one_form_on_the_wire_whatever_the_zone():
    in_vietnam = NOON.astimezone(timezone(timedelta(hours=7)))
    assert flow(observed_at=in_vietnam).wire() == flow().wire()
    assert b'"observed_at":"2026-01-01T12:00:00Z"' in flow().wire()


def test_what_is_absent_is_not_on_the_wire():
    assert b"speed_kmh" not in flow().wire()
    assert b"null" not in flow(speed_kmh=40.0).wire()


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a/b", "a\x00b", "a\nb", "a\n", "\u00a0a", "a\u200bb", "a\u202eb", "\ufeffa", "x" * 101],
)
def test_an_identifier_that_would_look_like_another_is_refused(name):
    with pytest.raises(ValidationError):
        flow(segment_id=name)


@pytest.mark.parametrize(
    "name", ["s", "10_110_127_110_A1", "^S10_^O1", "P1-PS-87", "Bãi Cháy", "HL:0412", "x" * 100]
)
def test_names_that_the_citys_systems_use_are_identifiers(name):
    assert flow(segment_id=name).segment_id == name


def test_a_key_of_two_fields_is_joined_by_a_slash_that_neither_can_hold():
    beds = Occupancy(event_id="e", source_id="s", observed_at=NOON, facility_id="bai-chay", unit="icu")
    assert beds.topic.key_of(beds) == "bai-chay/icu"
    assert isinstance(decode(Occupancy, beds.wire(), LONG_AFTER, b"bai-chay/icu"), Occupancy)
    wrong = decode(Occupancy, beds.wire(), LONG_AFTER, b"bai-chay")
    assert isinstance(wrong, Rejection)
    assert wrong.reason == "wrong_key"


def test_topics_hold_their_lateness_in_microseconds():
    assert TrafficFlow.topic.late_us == 120_000_000
    assert TrafficFlow.topic.ahead_us == 300_000_000
    assert flow().topic == Topic(
        "city.traffic.flow.v1", ("segment_id",), minutes(2), partitions=4, buckets=64
    )


@pytest.mark.parametrize(
    "name", ["traffic.flow.v1", "city.traffic.v1", "city.traffic.flow", "city.Traffic.flow.v1"]
)
def test_a_topic_outside_the_naming_is_refused(name):
    with pytest.raises(ValueError, match="is named city"):
        Topic(name, key=("a",), lateness=minutes(1))


def test_a_series_that_does_not_begin_with_the_key_is_refused():
    with pytest.raises(ValueError, match="must begin with the key"):
        Topic("city.a.b.v1", key=("a",), series=("b", "a"), lateness=minutes(1))


# Nothing personal gets out


class Owner(BaseModel):
    plate: Token


@pytest.mark.parametrize(
    "kind",
    [
        Token,
        Token | None,
        list[Token],
        dict[str, tuple[Token, ...]],
        Owner,
        list[Owner] | None,
        Annotated[int, Personal()],
    ],
)
def test_a_public_topic_with_a_personal_field_stops_the_program_at_import(kind):
    public = Topic("city.traffic.plate.v1", key=("camera_id",), lateness=minutes(1))
    with pytest.raises(TypeError, match=r"personal \['who'\] on the public topic city.traffic.plate.v1"):
        type("Plate", (Event,), {"__annotations__": {"camera_id": Identifier, "who": kind}, "topic": public, "__module__": __name__})  # fmt: skip


def test_a_personal_field_cannot_come_in_through_a_subclass():
    with pytest.raises(TypeError, match=r"on the public topic city\.traffic\.flow\.v1"):

        class Owned(TrafficFlow):
            driver: Token


def test_a_personal_field_cannot_be_computed():
    with pytest.raises(TypeError, match=r"personal \['who'\]"):

        class Owned(TrafficFlow):
            @computed_field
            @property
            def who(self) -> Token:
                return "tok_" + "0" * 32


def test_a_personal_field_can_be_no_key():
    with pytest.raises(TypeError, match="who is personal and can be no key"):

        class Plate(Event):
            topic: ClassVar[Topic] = Topic(
                "city.traffic.plate.v1", key=("who",), lateness=minutes(1), access="restricted"
            )
            who: Token


def test_a_key_must_be_a_field():
    with pytest.raises(TypeError, match="is keyed by nowhere, which is no field of it"):

        class Plate(Event):
            topic: ClassVar[Topic] = Topic("city.traffic.plate.v1", key=("nowhere",), lateness=minutes(1))


def test_no_event_shows_a_personal_field_to_rules_and_stores():
    personal = {event: event.personal() for event in events() if event.personal()}
    assert personal == {PatientMovement: {"patient", "visit"}}
    assert not {"patient", "visit"} & set(PatientMovement.public())


def test_a_repr_shows_no_token_so_that_a_log_cannot():
    secret = "tok_" + "ab" * 16
    moved = PatientMovement(
        event_id="e",
        source_id="s",
        observed_at=NOON,
        facility_id="f",
        patient=secret,
        visit=secret,
        movement="admit",
    )
    assert secret not in f"{moved} {moved!r}"
    assert "facility_id='f'" in repr(moved)


def test_a_rejection_never_repeats_what_was_in_the_record():
    name = "Nguyễn Văn A"
    why = decode(
        PatientMovement,
        f'{{"event_id":"e","source_id":"s","observed_at":"2026-01-01T00:00:00Z","facility_id":"f","patient":"{name}","movement":"admit"}}'.encode(),
        LONG_AFTER,
    )
    assert isinstance(why, Rejection)
    assert "patient" in why.detail
    assert name not in why.detail


def test_times_outside_any_city_are_refused():
    for at in (FIRST - timedelta(microseconds=1), LAST):
        why = decode(TrafficFlow, flow(observed_at=at).wire(), LONG_AFTER)
        assert isinstance(why, Rejection)
        assert why.reason == "time_range"
