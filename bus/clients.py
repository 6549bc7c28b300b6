"""Kafka clients as the whole project opens them, and the few questions everybody asks a broker."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, NoReturn, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioTopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.errors import KafkaError as AioKafkaError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
)

from bus.security import explained
from bus.security import options as secured
from models.keys import partition_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

log = logging.getLogger("citywatch")

#: (topic, partition): a plain pair, because each client has a class of its own for it.
Partition = tuple[str, int]

#: The newest protocol that the embedded broker and Apache Kafka 4 both speak: asked for (2, 4) and later,
#: kafka-python sends the embedded broker what it cannot answer; Kafka 4 refuses what is older than (2, 1).
API_VERSION = (2, 3)

#: The embedded broker's cluster id begins with this.
EMBEDDED = "mockCluster"

#: How long a blocking client tries to reach its first broker.
BOOTSTRAP_MS = 10_000

#: And how long it takes to find out why it did not.
_WHY_MS = 5_000

#: What an asyncio producer holds waits so long for a broker that is away: longer than anybody would let it be.
PATIENCE_S = 30 * 86_400.0

#: The largest record we produce; brokers allow it by `max.message.bytes` (see topics).
MAX_RECORD_BYTES = 2 * 1024 * 1024


class UnreachableError(RuntimeError):
    """No broker answers at the address, or it does not do what was asked."""


def name(prefix: str, topic: str) -> str:
    """A topic's name on the broker: a replay's world has a prefix of its own."""
    return f"{prefix}{topic}"


def consumer(bootstrap: str, group: str | None = None, **options: Any) -> KafkaConsumer:
    """A blocking consumer. Positions are the caller's: nothing is committed or reset by itself.

    A position the broker no longer has raises OffsetOutOfRangeError: what was forgotten is not skipped in silence.
    """
    return _open(
        KafkaConsumer,
        bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        fetch_max_wait_ms=50,
        **options,
    )


def producer(bootstrap: str, **options: Any) -> KafkaProducer:
    """A blocking producer, acks=all and idempotent. Its buffer is unbounded: for bulk use `Feeder`."""
    return _open(
        KafkaProducer, bootstrap, acks="all", max_request_size=MAX_RECORD_BYTES, linger_ms=5, **options
    )


def admin(bootstrap: str) -> KafkaAdminClient:
    return _open(KafkaAdminClient, bootstrap)


def _open(client: Any, bootstrap: str, **options: Any) -> Any:
    try:
        return client(
            bootstrap_servers=bootstrap.split(","),
            api_version=API_VERSION,
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            **secured(),
            **options,
        )
    except KafkaError as error:
        _unreachable(bootstrap, error)


def _unreachable(bootstrap: str, error: Exception) -> NoReturn:
    """What clients say of a first connection is only that there is none: it is tried once more, to say why."""
    with ThreadPoolExecutor(1) as beside:  # whoever called may be in an event loop
        why = beside.submit(asyncio.run, _why_not(bootstrap)).result()
    raise UnreachableError(f"no Kafka answers at {bootstrap}: {why or explained(error)}") from error


async def _why_not(bootstrap: str) -> str | None:
    """What the first of the brokers that does not let us in has to say, or None."""
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=_WHY_MS, **secured())
        except (OSError, AioKafkaError) as error:  # ssl's are OSErrors, and TimeoutError is one
            return explained(error)
        connection.close()
    return None


class Patient(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """Waits for a broker that is away, however long; aiokafka's own gives up after 40 s.

    What is given up leaves a gap in an idempotent producer's numbers: its worker would have to end, and who starts again
    waits until its own old session is over. Who cannot wait says so (`asyncio.timeout`) and takes another producer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._message_accumulator._batch_ttl = PATIENCE_S  # noqa: SLF001 - no public way
        self._request_timeout_ms = PATIENCE_S * 1000

    async def send(self, topic: str, *args: Any, **options: Any) -> Any:
        while True:
            try:
                return await super().send(topic, *args, **options)
            except UnknownTopicOrPartitionError:  # nobody has told of the topic for 40 s; nothing is sent yet
                log.warning("no broker tells of %s, waiting for one that does", topic)


def aio_producer(bootstrap: str, *, patient: bool = True, **options: Any) -> AIOKafkaProducer:
    """An asyncio producer, acks=all and idempotent, not yet started. For signals, snapshots, clock records."""
    settings: dict[str, Any] = {"max_batch_size": 256 * 1024, "max_request_size": MAX_RECORD_BYTES, **options}
    client = Patient if patient else AIOKafkaProducer
    return client(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, **secured(), **settings)


def aio_consumer(bootstrap: str, group: str | None = None, **options: Any) -> AIOKafkaConsumer:
    """An asyncio consumer, not yet started; positions as in `consumer`. Seek to numbers, never to 'beginning'."""
    settings: dict[str, Any] = {"fetch_max_wait_ms": 50, "auto_offset_reset": "none", **options}
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, **secured(), **settings
    )


def aio_admin(bootstrap: str) -> AIOKafkaAdminClient:
    """An asyncio client for questions about topics and groups, not yet started."""
    return AIOKafkaAdminClient(bootstrap_servers=bootstrap, **secured())


async def aio_partitions_of(client: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """As `partitions_of`, over an open asyncio client."""
    known = sorted(set(topics) & set(await client.list_topics()))
    found = await client.describe_topics(known) if known else []
    return {t["topic"]: len(t["partitions"]) for t in found}


async def aio_group_offsets(
    client: AIOKafkaAdminClient, group: str, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """As `group_offsets`, over an open asyncio client."""
    asked = [AioTopicPartition(*p) for p in partitions]
    try:
        found = await client.list_consumer_group_offsets(group, partitions=asked)
    except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
        return {}
    return {(tp.topic, tp.partition): o.offset for tp, o in found.items() if o.offset >= 0}


async def aio_log_id(client: AIOKafkaAdminClient, bootstrap: str) -> str:
    """As `log_id`, over an open asyncio client."""
    return _log_id(bootstrap, str((await client.describe_cluster())["cluster_id"]))


def is_embedded(bootstrap: str) -> bool:
    """Whether the broker is the embedded one, in this process or another."""
    return _cluster_id(bootstrap).startswith(EMBEDDED)


def log_id(bootstrap: str) -> str:
    """What names the broker's logs for ever: the cluster's id.

    The embedded broker has none that tells it from the last one: whoever started it knows (`EmbeddedBroker.log_id`)
    and tells by CITYWATCH_KAFKA__LOG_ID; without that this raises LookupError.
    """
    return _log_id(bootstrap, _cluster_id(bootstrap))


def _log_id(bootstrap: str, cluster_id: str) -> str:
    if cluster_id.startswith(EMBEDDED):
        raise LookupError(
            f"{bootstrap} is an embedded broker: set CITYWATCH_KAFKA__LOG_ID to the log id its owner printed"
        )
    return cluster_id


def _cluster_id(bootstrap: str) -> str:
    with closing(admin(bootstrap)) as client:
        try:
            return str(client.describe_cluster()["cluster_id"])
        except KafkaError as error:
            _unreachable(bootstrap, error)


def committed(bootstrap: str, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Offsets the group has committed, without joining it. A partition it never committed is left out."""
    with closing(admin(bootstrap)) as client:
        return group_offsets(client, group, partitions)


def group_offsets(
    client: KafkaAdminClient, group: str, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """As `committed`, over an open client. A group whose coordinator is only being found has committed nothing."""
    asked = [TopicPartition(*p) for p in partitions]
    try:
        found = client.list_group_offsets({group: asked})[group]
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
        return {}
    return {(tp.topic, tp.partition): o.offset for tp, o in found.items() if o.offset >= 0}


def begin_offsets(bootstrap: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The oldest offset the broker still has, per partition."""
    with closing(consumer(bootstrap)) as client:
        return _plain(client.beginning_offsets([TopicPartition(*p) for p in partitions]))


def end_offsets(bootstrap: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The offset the next record will have, per partition."""
    with closing(consumer(bootstrap)) as client:
        return _plain(client.end_offsets([TopicPartition(*p) for p in partitions]))


def records(bootstrap: str, place: Partition, begin: int | None = None) -> Iterator[Any]:
    """The records of a partition that are there now, from `begin` or the oldest, in order."""
    with closing(consumer(bootstrap)) as client:
        asked = TopicPartition(*place)
        client.assign([asked])
        end = client.end_offsets([asked])[asked]
        client.seek(asked, client.beginning_offsets([asked])[asked] if begin is None else begin)
        while client.position(asked) < end:
            for found in client.poll(500).get(asked, ()):
                if found.offset < end:
                    yield found


def _plain(found: Mapping[TopicPartition, int]) -> dict[Partition, int]:
    return {(tp.topic, tp.partition): offset for tp, offset in found.items()}


def partitions_of(bootstrap: str, topics: Iterable[str]) -> dict[str, int]:
    """How many partitions each of the topics has; one the broker does not know is left out."""
    wanted = set(topics)
    with closing(admin(bootstrap)) as client:
        known = wanted & set(client.list_topics())  # asked by name, the embedded broker would create it
        return (
            {t["name"]: len(t["partitions"]) for t in client.describe_topics(sorted(known))} if known else {}
        )


async def read_all(
    bootstrap: str, topic: str, partitions: Sequence[int]
) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    """Key and value of every record that is now on these partitions, each partition in order, then the end.

    For compacted topics: what the broker forgets while we read is skipped.
    """
    reader = aio_consumer(bootstrap, auto_offset_reset="earliest")
    async with _started(reader, bootstrap):
        places = [AioTopicPartition(topic, n) for n in partitions]
        reader.assign(places)
        begins, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
        for place in places:
            reader.seek(place, begins[place])
        while unread := [p for p in places if await reader.position(p) < ends[p]]:
            for place, records in (await reader.getmany(*unread, timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[place]:
                        yield record.key, record.value


@asynccontextmanager
async def _started(client: Any, bootstrap: str) -> AsyncIterator[Any]:
    """Start an aiokafka client and stop it in any case; UnreachableError if it cannot start."""
    try:
        try:
            await client.start()
        except AioKafkaError as error:
            _unreachable(bootstrap, error)
        yield client
    finally:
        await client.stop()


async def read_one(bootstrap: str, topic: str, partition: int, offset: int, wait_s: float = 10) -> Any:
    """The record at an offset. Raises LookupError if the broker has none there, UnreachableError if it does not say."""
    async with _started(aio_consumer(bootstrap), bootstrap) as reader:
        place = AioTopicPartition(topic, partition)
        reader.assign([place])
        record = None
        try:
            async with asyncio.timeout(wait_s):
                if offset < (await reader.end_offsets([place]))[place]:
                    reader.seek(place, offset)
                    record = await reader.getone()
        except OffsetOutOfRangeError:
            pass
        except (TimeoutError, AioKafkaError) as error:
            _unreachable(bootstrap, error)
    if record is None or record.offset != offset:
        raise LookupError(f"{topic}/{partition} has no record at offset {offset}")
    return record


class NotAcknowledgedError(RuntimeError):
    """A batch of records was not acknowledged: it is not known to be in the log."""


class Feeder:
    """Feeds many records fast, in order within a partition, dropping none.

    Records are packed into batches per partition and handed over whole (104,000/s against 25,000/s with one
    future a record and 15,000/s with kafka-python; 300-byte values, the embedded broker). `send` waits while a
    partition's last full batch is still under way, so memory is bounded; `flush` waits for every acknowledgement.
    After `NotAcknowledgedError` the feeder is of no more use: some later batches may be in the log.
    """

    _BATCH_BYTES = 64 * 1024

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._counts: dict[str, int] = {}
        self._open: dict[Partition, Any] = {}
        self._sent: list[tuple[Partition, int, asyncio.Future[Any]]] = []
        self._next: dict[Partition, int] = {}

    async def __aenter__(self) -> Self:
        self._producer = aio_producer(self._bootstrap, patient=False, max_batch_size=self._BATCH_BYTES)
        self._running = _started(self._producer, self._bootstrap)
        await self._running.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._running.__aexit__(None, None, None)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        stamp_ms: int,
        partition: int | None = None,
    ) -> None:
        """Add a record; it goes out with its batch, at the latest at `flush`. Without a key name the partition."""
        if partition is None:
            if key is None:
                raise ValueError(f"{topic}: a record without a key needs a partition")
            count = self._counts.get(topic) or await self._count(topic)
            partition = partition_of(key, count)
        place = topic, partition
        batch = self._open.get(place)
        if batch is None or batch.append(key=key, value=value, timestamp=stamp_ms, headers=headers) is None:
            if batch is not None:
                await self._dispatch(place, batch)
            batch = self._open[place] = self._producer.create_batch()
            batch.append(key=key, value=value, timestamp=stamp_ms, headers=headers)

    async def flush(self) -> dict[Partition, int]:
        """Send what is open and wait for every acknowledgement.

        Returns, for every partition ever fed, the offset after its last record. Raises NotAcknowledgedError.
        """
        for place, batch in list(self._open.items()):
            await self._dispatch(place, batch)
        self._open.clear()
        if self._sent:  # not gathered: who stops waiting must not cancel what is under way
            await asyncio.wait([future for _, _, future in self._sent])
        self._reap()
        return dict(self._next)

    async def _count(self, topic: str) -> int:
        self._counts[topic] = len(await self._producer.partitions_for(topic))
        return self._counts[topic]

    async def _dispatch(self, place: Partition, batch: Any) -> None:
        batch.close()
        try:
            future = await self._producer.send_batch(batch, place[0], partition=place[1])
        except AioKafkaError as error:
            raise NotAcknowledgedError(f"{place[0]}/{place[1]}: {error!r}") from error
        self._sent.append((place, batch.record_count(), future))
        self._reap()

    def _reap(self) -> None:
        """Forget what has been acknowledged; raise for what never will be."""
        waiting = []
        for place, count, future in self._sent:
            if not future.done():
                waiting.append((place, count, future))
            elif (error := future.exception()) is not None:
                raise NotAcknowledgedError(f"{place[0]}/{place[1]}: {count} records: {error!r}") from error
            else:
                self._next[place] = future.result().offset + count
        self._sent = waiting
