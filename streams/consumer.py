"""Faust's consumer, made to deliver chunks: up to 500 records of one partition are one Faust message.

Faust spends 66 µs on each message whatever is done with it; a chunk spreads that over its records. Offsets are
committed by position (`positions`), not by acknowledging messages: what an app has finished is its own to say.
tests/test_faust_contract.py pins the private methods that are overridden here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from bus import security
from bus.topics import EngineError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from settings import Settings

#: More records a message save no more time, and a chunk is judged without a pause.
CHUNK = 500


class ChunkThread(driver.AIOKafkaConsumerThread):
    """As Faust's, but the wait for new records is ours: Faust's 1.5 s is 0.8 s of latency on the embedded broker."""

    def _create_worker_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_worker_consumer(loop)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms  # noqa: SLF001 - read once, when it starts
        return consumer


class ChunkConsumer(driver.Consumer):
    """Delivers lists of aiokafka records; commits what `app.positions` says; goes on where `app.resume_at` says."""

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[list[Any]]]:  # noqa: ASYNC109 - Faust's signature
        fetched = await self._thread.getmany(active_partitions, timeout)
        return {tp: [rs[i : i + CHUNK] for i in range(0, len(rs), CHUNK)] for tp, rs in fetched.items()}

    def _to_message(self, tp: TP, record: list[Any]) -> ConsumerMessage:
        last = record[-1]
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Faust would pause the partition and sleep a second; a full queue blocking the fetch is all we need."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps between the last offsets of chunks are the chunks."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        self.app.between = True

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:  # noqa: ARG002 - acks are not used
        if self.app.between:
            return {}
        mine = self.assignment()
        return {tp: at for tp, at in self.app.positions.items() if tp in mine and self._should_commit(tp, at)}

    async def perform_seek(self) -> None:
        """Seek to what is committed, and partitions with a state in memory to where that is."""
        await super().perform_seek()
        for tp in list(self.assignment()):
            at = self.app.resume_at(tp)
            if at is not None:  # also to the very beginning: a chunk that came too early was dropped
                await self.seek(tp, at)


class ChunkTransport(driver.Transport):
    Consumer = ChunkConsumer


class _Raw(faust.Schema):
    """Hands the list of records to the agent as it is."""

    def compile(self, app: Any, **_options: Any) -> Any:
        create = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's signature
            return create(None, message.value, None, message)

        return decode


def credentials() -> SASLCredentials | SSLCredentials | None:
    """What every client of this process is given, in Faust's words."""
    given = security.options()
    context = given.get("ssl_context")
    if "sasl_mechanism" in given:
        return SASLCredentials(
            username=given["sasl_plain_username"],
            password=given["sasl_plain_password"],
            ssl_context=context,
            mechanism=given["sasl_mechanism"],
        )
    return None if context is None else SSLCredentials(context)


class ChunkApp(faust.App):
    """A Faust app whose agents take chunks and which commits `positions` (next offset to read, by partition)."""

    def __init__(self, role: str, settings: Settings, bootstrap: str) -> None:
        self.positions: dict[TP, int] = {}
        self.resume_at: Callable[[TP], int | None] = lambda _tp: None
        #: What who watches this worker asks: what it holds in memory, and why it cannot do its work yet.
        self.held: dict[TP, Any] = {}
        self.joined = False
        #: From when the group takes partitions away until it has given some. A commit would queue behind the join, be refused
        #: for what it was before, and aiokafka would take that for the end of the membership that the join has just begun.
        self.between = False
        self.unready: Callable[[], Awaitable[str | None]] = self.not_joined
        self.fetch_wait_ms = settings.kafka.fetch_wait_ms
        #: What no restart cures, and what then ends the worker without a trace of where it was.
        self.hopeless: Exception | None = None
        self.end: Callable[[], object] = lambda: self.add_future(self.stop())
        super().__init__(
            f"{settings.kafka.prefix}citywatch-{role}",
            broker=";".join(f"kafka://{b}" for b in bootstrap.split(",")),
            broker_credentials=credentials(),
            datadir=str(settings.data.dir / f"faust-{role}"),
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            stream_buffer_maxsize=16,
            broker_commit_interval=0.5,
            broker_commit_livelock_soft_timeout=3600.0,
            stream_processing_timeout=3600.0,
            broker_session_timeout=6.0,
            broker_heartbeat_interval=1.0,
            broker_request_timeout=40.0,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=1024 * 1024,
            producer_acks=-1,
        )
        self.transport = ChunkTransport(self.conf.broker_consumer, self)
        self.on_rebalance_complete.connect(self._on_joined, weak=False)

    async def _on_joined(self, *_args: Any, **_kwargs: Any) -> None:
        self.positions.clear()  # others may have had what we had, and all that is not committed is read again
        self.joined, self.between = True, False

    async def not_joined(self) -> str | None:
        """Why this worker has nothing to do yet; a spare one, whose share is no partition, has joined."""
        return None if self.joined else "the group has not yet given this worker its partitions"

    async def crash(self, reason: BaseException) -> None:
        """End the worker: who started it starts it again, unless that is of no use."""
        if isinstance(reason, EngineError):
            self.hopeless = reason
            self.end()
        else:
            await super().crash(reason)

    def position(self, tp: TP) -> int:
        """The offset of the next record to take, as far as is known."""
        held = self.held.get(tp)
        if held is not None:
            return int(held.offset) + 1
        found = self.positions.get(tp)
        return found if found is not None else self.consumer._committed_offset.get(tp) or 0  # noqa: SLF001 - no public way

    def on_chunks(self, name: str, topics: Iterable[str], take: Callable[[Any], Awaitable[None]]) -> None:
        """Have `take` called with each delivered message of these topics, whose value is a list of records."""

        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                try:
                    await take(event.message)
                except Exception as error:  # noqa: BLE001 - never out of the loop: Faust would skip the chunk and go on
                    await self.crash(error)
                    return  # until all has stopped the next chunk would come, and one would be missing before it

        channel = self.topic(*topics, schema=_Raw(key_type=bytes, value_type=bytes), acks=True)
        self.agent(channel, name=name)(agent)
