"""Explanations beside a running broker: every cited event is compared with the log, byte for byte."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import closing

import pytest
from cli_world import FLOW, city  # noqa: F401
from explained import points, records, through_plane
from test_core_judge import RULES, T0, S, flow

from bus import clients, headers
from bus.embedded import EmbeddedBroker
from models.catalogue import ALARM_EVENT, ALARM_STATE
from models.traffic import TrafficFlow
from rules.derive import seal_of
from rules.judge import Judge
from rules.program import compile_program

JAM = [flow(n, "a", T0 + 10 * n, 3) for n in range(5)] + [flow(9, "a", T0 + 60, 30)]


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def live(city, broker):  # noqa: F811
    """A city that runs on the broker, with the events in its log and the alarm that its judge made of them."""
    said = {
        "bootstrap": broker.bootstrap,
        "log_id": broker.log_id,
        "pid": os.getpid(),
        "embedded": True,
        "prefix": "",
    }
    (city.folder / "up.json").write_text(json.dumps(said))
    judge, signals = Judge(TrafficFlow, 0, broker.log_id, whole=True), []
    clock, at = headers.clock_record(), []
    with closing(clients.producer(broker.bootstrap)) as producer:

        def put(topic, value, key, said=()):
            at.append(producer.send(topic, value, key, list(said), 0).get(10).offset)
            return at[-1]

        begun = put(FLOW, clock.value, None, clock.headers)
        signals += judge.control(begun, T0 * S, 0, compile_program(RULES, 7, TrafficFlow))
        for event in JAM:
            signals += judge.event(put(FLOW, event.wire(), b"a"), event.at, event, zlib.crc32(event.wire()))
        signals += judge.pass_by(put(FLOW, clock.value, None, clock.headers), (T0 + 300) * S)
        (told,) = through_plane(s for s in signals if s.rule == "slow")
        put(ALARM_STATE, wire(told.alarm), told.alarm.alarm_id.encode())
        for entry in told.history:
            put(ALARM_EVENT, wire(entry), told.alarm.fingerprint.encode())
    city.told = told
    return city


def wire(record):
    return record.model_dump_json(exclude_none=True).encode()


def tell_again(broker, told, proof):
    """The alarm with another proof, sealed by whoever made it, in the place of the first."""
    proof = proof.model_copy(update={"seal": seal_of(proof)})
    alarm = told.alarm.model_copy(update={"proof": proof})
    with closing(clients.producer(broker.bootstrap)) as producer:
        producer.send(ALARM_STATE, wire(alarm), alarm.alarm_id.encode(), [], 0).get(10)


def test_an_alarm_is_found_on_the_broker_and_its_events_are_the_same_in_the_log(live):
    done = live("explain", live.told.alarm.alarm_id, "--json")
    found = done.json()
    assert (done.code, found["derives"], found["minimal"]) == (0, True, True)
    assert {(e["compared_with"], e["result"]) for e in found["events"]} == {("log", "same")}
    assert [line["part"] for line in found["story"]].count("told") == len(live.told.history)
    assert "same in the log, byte for byte" in live("explain", live.told.alarm.alarm_id).out


@pytest.mark.parametrize("n", range(2))
def test_an_event_that_is_another_in_the_log_is_named(live, broker, n):
    proof = live.told.alarm.proof
    samples = [list(s) for s in proof.samples]
    assert len(samples) == 2
    samples[n][5] ^= 1  # the bytes that were judged were others
    tell_again(broker, live.told, proof.model_copy(update={"samples": tuple(samples)}))
    done = live("explain", live.told.alarm.alarm_id)
    assert done.code == 1
    assert f"! the event was altered: {samples[n][1]}" in done.out


def test_an_event_of_which_the_log_knows_nothing_is_named(live, broker):
    proof = live.told.alarm.proof
    samples = [[*s[:3], 10**6, *s[4:]] for s in proof.samples]
    tell_again(broker, live.told, proof.model_copy(update={"samples": tuple(samples)}))
    done = live("explain", live.told.alarm.alarm_id)
    assert done.code == 1
    assert done.out.count("! the event was removed") == 2


def test_events_of_another_log_are_not_looked_for_in_this_one(live, broker):
    tell_again(broker, live.told, live.told.alarm.proof.model_copy(update={"log": "another"}))
    live.hold(points(JAM))
    found = live("explain", live.told.alarm.alarm_id, "--json").json()
    assert {(e["compared_with"], e["result"]) for e in found["events"]} <= {
        ("store", "same"),
        ("log", "same"),
    }
    assert ("store", "same") in {(e["compared_with"], e["result"]) for e in found["events"]}


def test_what_only_the_store_has_is_found_beside_a_broker(live):
    (told,) = through_plane(_jam())
    live.hold(points(JAM), records([told]))
    found = live("explain", told.alarm.alarm_id, "--json")
    assert (found.code, found.json()["derives"]) == (0, True)


def _jam():
    judge = Judge(TrafficFlow, 0, "ended", whole=True)
    signals = judge.control(0, T0 * S, 0, compile_program(RULES, 7, TrafficFlow))
    for n, event in enumerate(JAM, 1):
        signals += judge.event(n, event.at, event, zlib.crc32(event.wire()))
    return [s for s in signals if s.rule == "slow"]
