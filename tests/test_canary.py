"""Canaries on their way: from a source topic through judge and alarm plane to the topic that consoles hear."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from faust.types import TP
from test_streams_work import T0, TOPIC, App, Producer, flow, judging, message, plane_at_work, slow  # noqa: F401

from bus import canary, headers
from bus.canary import Canary, canary_of
from models.catalogue import ALARM_INPUT, CANARY, topics

PLATFORM = "city.platform.event.v1"


def put(topic, offset, found):
    return SimpleNamespace(
        topic=topic, partition=0, offset=offset, timestamp=T0 + offset * 1000,
        key=found.key, value=found.value, headers=found.headers,
    )  # fmt: skip


def sent_to(producer, topic):
    return [(value, more) for t, value, more in producer.sent if t == topic]


# --- what a canary is ---------------------------------------------------------------------------------------------


def test_a_canary_is_no_event():
    assert not headers.is_event(canary.record().headers)
    assert not headers.is_event(Canary(TOPIC, 0, 1, T0).passed().headers)


def test_a_canary_is_read_as_it_was_passed():
    one = Canary(TOPIC, 3, 17, T0 * 1000)
    assert canary_of(one.passed().value) == one


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"\xff", b"[]", b"{}", b"7", b"[" * 100_000,
        b'{"topic": "\\ud800", "partition": 0, "offset": 0, "stamp": 0}',
        b'{"topic": [], "partition": 0, "offset": 0, "stamp": 0}',
        b'{"topic": "city.traffic.flow.v1", "partition": true, "offset": 0, "stamp": 0}',
        b'{"topic": "city.traffic.flow.v1", "partition": 0, "offset": -1, "stamp": 0}',
        b'{"topic": "city.traffic.flow.v1", "partition": 0, "offset": 0, "stamp": 1e400}',
    ],
)  # fmt: skip
def test_what_is_no_canary_is_passed_by(value):
    assert canary_of(value) is None


# --- the judge ----------------------------------------------------------------------------------------------------


def test_a_judge_passes_a_canary_on_after_the_signals_before_it_and_its_checkpoint_waits_for_it(judging):  # noqa: F811
    async def go():
        producer = Producer(at_once=False)
        app, work, held = judging(producer)
        await work.take(message([flow(1, 50), flow(2, 5), put(TOPIC, 3, canary.record())]))
        signal, passed = sent_to(producer, ALARM_INPUT)
        assert json.loads(signal[0])["op"] == "put"
        assert canary_of(passed[0]) == Canary(TOPIC, 0, 3, (T0 + 3000) * 1000)
        assert passed[1]["key"] == f"{TOPIC}/0".encode()
        assert held.offset == 3
        saving = asyncio.create_task(work.checkpoints.save(held))
        producer.waiting[0].set_result(None)
        await asyncio.sleep(0.05)
        assert app.positions == {}, "the canary is not acknowledged yet"
        producer.waiting[1].set_result(None)
        producer.at_once = True
        await asyncio.sleep(0.05)
        for ack in producer.waiting[2:]:
            ack.set_result(None)
        await saving
        assert app.positions == {TP(TOPIC, 0): 4}

    asyncio.run(go())


def test_a_canary_counts_as_nothing_and_moves_the_clock(judging):  # noqa: F811
    async def go():
        _, work, held = judging(Producer())
        await work.take(message([flow(1, 50)]))
        before = held.machine.counts()
        await work.take(message([put(TOPIC, 2, canary.record())]))
        assert held.machine.counts() == before
        assert held.machine.clock == (T0 + 2000) * 1000

    asyncio.run(go())


def test_a_judge_that_does_it_again_says_the_same(judging):  # noqa: F811
    async def go():
        chunk = [flow(1, 5), put(TOPIC, 2, canary.record())]
        sent = []
        for _ in range(2):
            producer = Producer()
            await judging(producer)[1].take(message(chunk))
            sent.append(producer.sent)
        assert sent[0] == sent[1]

    asyncio.run(go())


def test_the_owner_of_a_partition_sends_a_canary_at_once_and_then_one_in_a_while(judging):  # noqa: F811
    async def go():
        producer = Producer()
        _, work, held = judging(producer)
        await work.send_canaries()
        await work.send_canaries()
        (only,) = sent_to(producer, TOPIC)
        assert only == (b"", {"partition": 0, "headers": canary.HEADERS})
        await work.send_canaries(every_s=0.0)
        assert len(sent_to(producer, TOPIC)) == 2
        del work.checkpoints.held[held.tp]
        await work.send_canaries(every_s=0.0)
        assert len(sent_to(producer, TOPIC)) == 2, "it is another's now"
        work.checkpoints.held[held.tp] = held
        await work.send_canaries()
        assert len(sent_to(producer, TOPIC)) == 3, "it came back, and is seen at once"

    asyncio.run(go())


# --- the alarm plane ----------------------------------------------------------------------------------------------


def test_the_alarm_plane_passes_a_canary_on_when_all_before_it_is_acknowledged(monkeypatch):
    async def go():
        producer = Producer(at_once=False)
        _, held, take = plane_at_work(monkeypatch, producer)
        one = Canary(TOPIC, 0, 3, T0 * 1000)
        taking = asyncio.create_task(take(slow(0, 1), put(ALARM_INPUT, 1, one.passed())))
        await asyncio.sleep(0.02)
        assert producer.topics() == ["city.alarm.event.v1"]
        producer.waiting.pop().set_result(None)
        await asyncio.sleep(0.02)
        assert producer.topics()[1:] == ["city.alarm.state.v1"]
        producer.waiting.pop().set_result(None)
        await taking
        ((value, more),) = sent_to(producer, CANARY)
        assert canary_of(value) == one
        assert more["key"] == f"{TOPIC}/0".encode()
        assert len(held.pending) == 2, "its checkpoint waits for it"

    asyncio.run(go())


def test_a_canary_changes_no_alarm(monkeypatch):
    async def go():
        _, with_canary, take = plane_at_work(monkeypatch, Producer())
        await take(slow(0, 1), put(ALARM_INPUT, 1, Canary(TOPIC, 0, 3, T0 * 1000).passed()), slow(2, 2))
        _, without, take = plane_at_work(monkeypatch, Producer())
        await take(slow(0, 1), slow(2, 2))
        assert list(with_canary.machine.alarms()) == list(without.machine.alarms())

    asyncio.run(go())


def test_what_calls_itself_a_canary_and_is_none_stops_no_alarm(monkeypatch):
    async def go():
        producer = Producer()
        _, held, take = plane_at_work(monkeypatch, producer)
        strange = SimpleNamespace(key=None, value=b"\xff", headers=canary.HEADERS)
        await take(put(ALARM_INPUT, 0, strange), slow(1, 1))
        assert "city.alarm.event.v1" in producer.topics()
        assert CANARY not in producer.topics()
        assert held.offset == 1

    asyncio.run(go())


def test_every_feed_can_be_named_in_a_canary():
    assert all(canary_of(Canary(t, 0, 0, 0).passed().value) for t in topics())
