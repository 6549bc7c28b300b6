"""What outages rest on, without a broker: who waits, who passes by, who gives up, and with which word."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.producer.producer import AIOKafkaProducer

from bus import clients, headers, topics
from rules.spec import RuleSet
from settings import Settings, SettingsError
from sinks.contract import Record
from streams import gate, sets, store
from streams.consumer import ChunkApp

T0 = 1_767_225_600_000_000


def test_a_producer_waits_for_a_broker_however_long(monkeypatch):
    asked = []

    async def send(_self, topic, *_args, **_options):
        asked.append(topic)
        if len(asked) < 3:
            raise UnknownTopicOrPartitionError
        return "acknowledged"

    async def story():
        made = clients.aio_producer("127.0.0.1:1")
        assert made._message_accumulator._batch_ttl == clients.PATIENCE_S
        assert made._request_timeout_ms == clients.PATIENCE_S * 1000
        monkeypatch.setattr(AIOKafkaProducer, "send", send)
        return await made.send("t", b"v", key=b"k")

    assert asyncio.run(story()) == "acknowledged"
    assert asked == ["t"] * 3


@pytest.mark.parametrize(
    ("answers", "found", "asked"),
    [
        ([RuleSet()], RuleSet(), 1),
        ([clients.UnreachableError("away"), clients.UnreachableError("away"), RuleSet()], RuleSet(), 3),
        ([LookupError("none")], None, 1),
        ([ValueError("no set")], None, 1),
    ],
)
def test_rules_are_waited_for_and_those_that_never_were_are_passed_by(monkeypatch, answers, found, asked):
    monkeypatch.setattr(sets, "AGAIN_S", 0)
    left = list(answers)

    async def rules_of(*_words):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(topics, "rules_of", rules_of)
    assert asyncio.run(sets.rules_of("b", "", 7)) == found
    assert len(answers) - len(left) == asked


def test_rules_to_come_are_not_passed_by(monkeypatch):
    async def fetch(*_words):
        return b'{"engine": 99, "of": "tomorrow"}'

    monkeypatch.setattr(topics, "fetch_rules", fetch)
    with pytest.raises(topics.EngineError, match=r"for engine 99, .* upgrade this worker"):
        asyncio.run(sets.rules_of("b", "", 7))


def app_of() -> ChunkApp:
    return ChunkApp("judge", Settings(), "127.0.0.1:1")


def test_what_only_an_upgrade_cures_ends_a_worker_without_a_crash():
    async def story():
        app, ends = app_of(), []
        app.end = lambda: ends.append(1)
        await app.crash(topics.EngineError("upgrade"))
        return app, ends

    app, ends = asyncio.run(story())
    assert ends == [1]
    assert str(app.hopeless) == "upgrade"
    assert not app.crashed


def test_after_a_chunk_that_failed_no_other_is_taken(monkeypatch):
    """Else it would be judged as if what is missing had never been."""
    agents, taken, crashes = [], [], []

    async def take(message):
        taken.append(message)
        raise RuntimeError("no")

    async def crash(error):
        crashes.append(str(error))

    class Stream:
        def noack(self):
            return self

        async def events(self):
            for n in range(3):
                yield SimpleNamespace(message=n)

    app = app_of()
    monkeypatch.setattr(app, "agent", lambda *_a, **_k: agents.append)
    monkeypatch.setattr(app, "crash", crash)
    app.on_chunks("judge", ["t"], take)
    asyncio.run(agents[0](Stream()))
    assert (taken, crashes) == ([0], ["no"])


@pytest.mark.parametrize(
    ("id_", "time", "body"),
    [
        (7, T0, {}),
        ("", T0, {}),
        ("x" * 501, T0, {}),
        ("x", 2**70, {}),
        ("x", T0, {"position": 2**63}),
        ("x", T0, {"position": "1"}),
        ("x", T0, {"peak": math.nan}),
        ("x", T0, {"title": "\ud800"}),
    ],
)
def test_what_no_store_can_keep_is_found_before_it_is_sent(id_, time, body):
    with pytest.raises(ValueError):
        store._sound(Record("alarm", id_, time, body))


def test_what_a_store_can_keep_passes():
    made = Record("alarm", "x", T0, {"position": 5, "title": {"vi": "Kẹt xe"}})
    assert store._sound(made) == made


@pytest.mark.parametrize("value", [b"[" * 100_000, b'{"version": 9223372036854775808, "effective_from": 0}', b'{"version": 0, "effective_from": -1e30}', None])  # fmt: skip
def test_what_cannot_be_a_control_record_is_none(value):
    assert headers.control_of(value) is None


# --- what must be there before a worker begins -------------------------------------------------------------------------


def broker(monkeypatch, counts, stamps=None):
    monkeypatch.setattr(
        clients, "partitions_of", lambda _b, names: {n: counts.get(n, 1) for n in names if n in counts}
    )
    monkeypatch.setattr(topics, "stamps", lambda _b, names: stamps or {})


def test_what_is_missing_is_waited_for_and_named(monkeypatch):
    want = gate.needs("alarms", "")
    broker(monkeypatch, {t: w.partitions for t, w in want.items() if "input" not in t})
    why = gate._why_not("b", want)
    assert why.startswith("the broker has no city.alarm.input.v1: `citywatch topics apply` makes them")
    broker(monkeypatch, {t: w.partitions for t, w in want.items()})
    assert gate._why_not("b", want) is None


def test_another_count_and_another_clock_are_refused_together(monkeypatch):
    want = gate.needs("judge", "")
    counts = {t: w.partitions for t, w in want.items()} | {"city.traffic.flow.v1": 9}
    broker(monkeypatch, counts, {"city.alarm.input.v1": "CreateTime"})
    with pytest.raises(SettingsError) as refused:
        gate._why_not("b", want)
    first, second = str(refused.value).splitlines()
    assert first.startswith("city.traffic.flow.v1 has 9 partitions, the catalogue says 4")
    assert second.startswith("city.alarm.input.v1 has message.timestamp.type=CreateTime, not LogAppendTime")


def test_in_a_replay_s_world_it_is_the_other_way_round():
    want = gate.needs("judge", "replay-1.")
    assert want["replay-1.city.traffic.flow.v1"].clock == "CreateTime"
