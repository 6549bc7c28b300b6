"""What we override in Faust is pinned here: a change of Faust fails with a sentence, not with a lost event."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from types import SimpleNamespace

import aiokafka
import faust
import pytest
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from settings import Settings
from streams import consumer as ours

#: (what, digest of its source, why we depend on it)
PINNED = [
    (
        BaseConsumer.getmany,
        "4b168d84882a",
        "it iterates what _getmany returns and calls _to_message for each chunk",
    ),
    (BaseConsumer._wait_next_records, "6218e1969a63", "it calls _getmany by keyword"),
    (BaseConsumer.on_buffer_full, "c8961679e0bc", "we make it a no-op so that a full queue blocks the fetch"),
    (BaseConsumer._add_gap, "4df2573ded7c", "we make it a no-op: gaps between chunks are the chunks"),
    (
        BaseConsumer._filter_committable_offsets,
        "dc5e9baf5d99",
        "we answer with positions instead of acknowledgements",
    ),
    (BaseConsumer._should_commit, "5ce941793947", "it keeps our positions from going back"),
    (
        BaseConsumer.force_commit,
        "cc094614d22c",
        "it must ask _filter_committable_offsets even when nothing is acked",
    ),
    (BaseConsumer._commit_offsets, "1a6979904118", "it drops offsets of partitions that were taken away"),
    (
        BaseConsumer.on_partitions_revoked,
        "d04b7ae72c6f",
        "what is done is committed in it, and nothing after it",
    ),
    (BaseConsumer.perform_seek, "0e8c130ff4b0", "we seek on from where a partition's state in memory is"),
    (BaseConsumer._drain_messages, "44a2500309e8", "it takes a chunk's last offset for the offset read"),
    (driver.Consumer._to_message, "7c24f6511b2f", "we build the same message from a list of records"),
    (driver.Consumer._new_consumer_thread, "0870ec53dea7", "we give it our thread"),
    (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f",
        "we change the fetch wait of what it makes",
    ),
    (
        driver.AIOKafkaConsumerThread._commit,
        "932852ce7a23",
        "a stale worker's commit must be refused, not crash",
    ),
    (
        driver.AIOKafkaConsumerThread._ensure_consumer,
        "ff4a4c693b7e",
        "we ask its consumer for committed offsets",
    ),
    (Recovery._resume_streams, "d986a6710c1a", "it awaits on_rebalance_complete before it seeks and resumes"),
    (Conductor._update_indices, "619b3247b96a", "it must accept a topic with several names"),
    (faust.Schema.compile, "d46eec5ce319", "ours returns a decode() of the same shape"),
]


def digest(of) -> str:
    return hashlib.sha256(inspect.getsource(of).encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("of", "pinned", "why"), PINNED, ids=lambda x: getattr(x, "__qualname__", None) or "-"
)
def test_what_we_override_in_faust_has_not_changed(of, pinned, why):
    assert digest(of) == pinned, (
        f"Faust's {of.__qualname__} is not what streams/ was written against. We depend on it because {why}. "
        f"Read it again; if streams/ still holds, pin {digest(of)} here."
    )


def test_faust_is_the_version_that_was_read():
    assert faust.__version__ == "0.15.3"


def test_faust_awaits_the_restore_before_it_resumes_and_seeks():
    source = inspect.getsource(Recovery._resume_streams)
    order = [source.index(w) for w in ("on_rebalance_complete.send", "resume_partitions", "perform_seek")]
    assert order == sorted(order)


def test_aiokafka_reads_the_fetch_wait_when_it_starts():
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def record(offset: int) -> SimpleNamespace:
    return SimpleNamespace(topic="t", partition=1, offset=offset, timestamp=1500 + offset, timestamp_type=0)


class Thread:
    def __init__(self, found) -> None:
        self.found = found

    async def getmany(self, active_partitions, timeout):  # noqa: ASYNC109 - the signature that is called
        assert timeout == 1.0
        return self.found


def bare(**attributes) -> ours.ChunkConsumer:
    consumer = ours.ChunkConsumer.__new__(ours.ChunkConsumer)
    for name, value in attributes.items():
        setattr(consumer, name, value)
    return consumer


def test_records_of_one_partition_come_as_chunks_of_at_most_500_in_order():
    tp = TP("t", 1)
    consumer = bare(_thread=Thread({tp: [record(n) for n in range(1201)]}))
    found = asyncio.run(consumer._getmany(active_partitions={tp}, timeout=1.0))
    assert [len(c) for c in found[tp]] == [500, 500, 201]
    assert [r.offset for c in found[tp] for r in c] == list(range(1201))


def test_a_chunk_is_one_message_with_the_last_offset():
    consumer = bare(app=SimpleNamespace(consumer_generation_id=7))
    message = consumer._to_message(TP("t", 1), [record(3), record(9)])
    assert isinstance(message, ConsumerMessage)
    assert (message.offset, message.timestamp, message.generation_id) == (9, 1.509, 7)
    assert [r.offset for r in message.value] == [3, 9]


def test_only_positions_of_own_partitions_that_go_forward_are_committed():
    mine, gone, old = TP("t", 0), TP("t", 1), TP("t", 2)
    consumer = bare(
        app=SimpleNamespace(positions={mine: 10, gone: 10, old: 5}, between=False),
        _committed_offset={mine: 4, gone: 4, old: 5},
    )
    consumer.assignment = lambda: {mine, old}
    assert consumer._filter_committable_offsets([]) == {mine: 10}


def test_nothing_is_committed_from_when_partitions_are_taken_away_until_some_are_given(monkeypatch):
    """It would queue behind the join and be refused, for which aiokafka would leave the group that it has just joined."""
    tp, last = TP("t", 0), []

    async def taken_away(consumer, _revoked):
        last.append(consumer._filter_committable_offsets([]))

    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", taken_away)

    async def go():
        app = ours.ChunkApp("judge", Settings(), "127.0.0.1:1")
        consumer = bare(app=app, _committed_offset={tp: None}, assignment=lambda: {tp})
        app.positions = {tp: 3}
        await consumer.on_partitions_revoked({tp})
        assert last == [{tp: 3}], "what is done is committed while the partitions are still ours"
        assert consumer._filter_committable_offsets([]) == {}
        await app._on_joined()
        assert app.positions == {}, "what is not committed is read again"
        app.positions = {tp: 4}
        assert consumer._filter_committable_offsets([]) == {tp: 4}

    asyncio.run(go())
