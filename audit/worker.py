"""The ledger's worker: reads every source topic after the store, keeps the account, and looks whether the store has it all.

It follows what the store's group has committed: of all below, the rejects are in the log, and the points in the store.
Its own state is the group's: the account stands in the metadata of the offset that it belongs to, so that both are
committed as one, and by nobody whom the group has given up. `city.ledger.v1` only tells it to others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from prometheus_client import Gauge

from audit.account import VERDICTS, Account, Fold
from audit.finder import Finder
from audit.spare import OneHasAll
from bus import clients, headers
from bus.notice import platform_event
from models import catalogue
from sinks.contract import StoreError, Unavailable
from sinks.open import open_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from models.base import Micros
    from settings import Settings
    from sinks.contract import Store

log = logging.getLogger("citywatch")

SOURCE = "/citywatch/ledger"

#: How often what was read is counted, when it is much (who feeds an embedded broker waits for it), and how often the store
#: is asked.
COUNT_S, BUSY_S, ASK_S = 0.25, 0.05, 10.0

#: An account is told at least so often while there is always more to count.
TELL_S = 2.0

#: A ledger that was killed is given up after this long.
SESSION_MS = 6000

#: Bytes of a partition that are read and not yet counted; the rest waits in the log. An embedded one forgets after 5 MiB,
#: for the store as for us: what it may still have to count is held here.
_MOST_WAITING, _MOST_WAITING_EMBEDDED = 2 * 1024 * 1024, 8 * 1024 * 1024

#: Records folded in one go; then others have their turn.
_SLICE = 2000

RECORDS = Gauge("citywatch_ledger_records", "Accepted records by what became of them", ["topic", "verdict"])
WAITING = Gauge(
    "citywatch_ledger_waiting_records", "Records in the log that are not yet accounted for", ["topic"]
)


class _Reject(msgspec.Struct):
    """What is read of a record of the rejects' topic."""

    id: str
    topic: str | None = None
    log: str | None = None
    partition: int | None = None
    offset: int | None = None


_decode = msgspec.json.Decoder(_Reject).decode


def _reject_of(value: bytes | None) -> _Reject | None:
    try:
        return _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # whoever wrote it, it is no reject


def named_place(value: bytes | None, log_id: str) -> tuple[str, int, int] | None:
    """Topic, partition and offset of the record of this log that a reject is of; None: of a file's line, or of none."""
    said = _reject_of(value)
    if said is None or said.log != log_id or said.topic is None:
        return None
    return (
        None if said.partition is None or said.offset is None else (said.topic, said.partition, said.offset)
    )


@dataclass(eq=False)
class Place:
    """A partition as the worker has it: what is counted, and what was read and waits."""

    tp: TopicPartition
    topic: str
    fold: Fold
    key: str  # in the ledger's topic
    committed: int  # as the group has it
    waiting: deque[Any] = field(default_factory=deque)
    size: int = 0  # bytes that wait
    named: set[int] = field(default_factory=set)  # offsets that rejects name
    told: dict[str, int] | None = None  # the counts that others were told last; None: they are to be told
    told_at: float = 0.0  # loop time of then

    def take(self, records: Iterable[Any]) -> None:
        for record in records:
            self.waiting.append(record)
            self.size += _size(record)

    def count(self, upto: int) -> bool:
        """Fold what waits below `upto`, at most a slice of it; whether there is more."""
        waiting, step, named = self.waiting, self.fold.step, self.named
        for _ in range(_SLICE):
            if not waiting or waiting[0].offset >= upto:
                return False
            record = waiting.popleft()
            self.size -= _size(record)
            offset, rejected = record.offset, record.offset in named
            if rejected:
                named.discard(offset)
            stamp = record.timestamp * 1000
            step(offset, stamp, record.key, record.value, record.headers, rejected=rejected)
        return True

    def refused(self, offset: int) -> None:
        """A reject names this place."""
        if offset >= self.fold.at:
            self.named.add(offset)
        else:
            self.fold.refused(offset)


def _size(record: Any) -> int:
    return len(record.value or b"") + 200


class Worker(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped to us
    """`run` until it is cancelled. Raises UnreachableError where no broker answers at the start."""

    def __init__(self, settings: Settings, bootstrap: str, log_id: str) -> None:
        self.settings, self.bootstrap, self.log_id = settings, bootstrap, log_id
        self.prefix = settings.kafka.prefix
        self.live = settings.kafka.clock == "log"
        self.topics = {clients.name(self.prefix, name): t for name, t in catalogue.topics().items()}
        self.rejected = TopicPartition(clients.name(self.prefix, catalogue.REJECTED), 0)
        self.ledger = TopicPartition(clients.name(self.prefix, catalogue.LEDGER), 0)
        self.group, self.store_group = (f"{self.prefix}citywatch-{role}" for role in ("ledger", "store"))
        self.places: dict[TopicPartition, Place] = {}
        self.finder: Finder | None = None
        self._anew = False  # partitions were given, and what is known of them must be read
        self._joined = False
        self._trouble: str | None = None
        self._gap = False  # rejects are no longer all in their topic
        self._rejects_at = 0
        self._mine: set[int] = set()  # offsets of our own records in the ledger's topic, until they are read
        self._store: Store | None = None
        self._counted = self._asked = 0.0
        self._passed: Mapping[tuple[str, int], int] = {}

    async def unready(self) -> str | None:
        """Why the account is not kept; a spare one, whose share is no partition, has joined."""
        if not self._joined:
            return "the group has not yet given this worker its partitions"
        return self._trouble or ("the account is being read" if self._anew else None)

    # --- the group ----------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002 - aiokafka's signature
        self.places, self.finder = {}, None

    async def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002 - aiokafka's signature
        self._anew = self._joined = True

    # --- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._consumer = clients.aio_consumer(
            self.bootstrap,
            self.group,
            auto_offset_reset="earliest",  # what is gone is seen by its offsets, and told
            partition_assignment_strategy=[OneHasAll],
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 3,
            fetch_max_wait_ms=100,
        )
        self._producer, self._admin = clients.aio_producer(self.bootstrap), clients.aio_admin(self.bootstrap)
        self._consumer.subscribe(
            [*self.topics, self.rejected.topic, self.ledger.topic],
            listener=self,
        )
        try:
            try:
                for client in (self._admin, self._producer, self._consumer):
                    await client.start()
            except KafkaError as error:
                raise clients.UnreachableError(f"no Kafka answers at {self.bootstrap}: {error!r}") from error
            while True:
                await self._turn()
        finally:
            await self._end()

    async def _end(self) -> None:
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(2):
                await self._tell()
        for client in (self._consumer, self._producer):
            with suppress(KafkaError):
                await client.stop()
        await self._admin.close()
        if self._store is not None:
            await self._store.close()

    async def _turn(self) -> None:
        """One round; a broker that is away, or a group that has given us up, is waited for."""
        try:
            if self._anew:
                await self._take_over()
            if not self.places:
                await self._consumer.getmany(
                    timeout_ms=200
                )  # a spare one that never asked would leave the group
                return
            few = await self._fetch()
            now = asyncio.get_running_loop().time()
            if now - self._counted >= (COUNT_S if few else BUSY_S):
                await self._count()
                self._counted = asyncio.get_running_loop().time()
                if self.live and now - self._asked >= ASK_S:
                    self._asked = now
                    await self._ask()
            elif few:
                await asyncio.sleep(0.05)  # many small fetches cost more than a moment's wait
            self._trouble = None
        except IllegalStateError:  # partitions were taken away meanwhile
            await asyncio.sleep(0.1)
        except KafkaError as error:
            self._trouble = f"the broker does not answer: {error!r}"
            log.warning("the ledger waits for its broker: %r", error)
            await asyncio.sleep(1)

    # --- reading ------------------------------------------------------------------------------------------------

    async def _fetch(self) -> bool:
        """Read on wherever there is room; whether there was little."""
        most = _MOST_WAITING_EMBEDDED if self.settings.kafka.embedded else _MOST_WAITING
        wanted = [tp for tp, place in self.places.items() if place.size < most]
        found = await self._consumer.getmany(*wanted, self.rejected, self.ledger, timeout_ms=100)
        for tp, records in found.items():
            self._took(tp, records)
        return sum(map(len, found.values())) < _SLICE // 10

    def _took(self, tp: TopicPartition, records: list[Any]) -> None:
        if tp in self.places:
            self.places[tp].take(records)
        elif tp == self.rejected:
            for record in records:
                self._refused(record)
        elif tp == self.ledger:
            for record in records:
                self._heard(record)

    def _refused(self, record: Any) -> None:
        self._gap = self._gap or record.offset > self._rejects_at
        self._rejects_at = record.offset + 1
        if (named := named_place(record.value, self.log_id)) is not None:
            self._named(*named)
        if self.live and self.finder is not None and (said := _reject_of(record.value)) is not None:
            self.finder.reject(record.offset, said.id, said.topic or "")

    def _named(self, topic: str, partition: int, offset: int) -> None:
        place = self.places.get(TopicPartition(clients.name(self.prefix, topic), partition))
        if place is not None:
            place.refused(offset)

    def _heard(self, record: Any) -> None:
        """A record of the ledger's topic: one that we have not written says what is not so, and is written over."""
        if record.offset in self._mine:
            self._mine.discard(record.offset)
            return
        key = (record.key or b"").decode(errors="replace")
        for place in self.places.values():
            if place.key == key:
                log.warning("an account of %s that is not the ledger's own, at offset %d", key, record.offset)
                place.told = None

    # --- counting -----------------------------------------------------------------------------------------------

    async def _count(self) -> None:
        """Count what the store has passed: of that the rejects are in the log by now."""
        asked = [*self.places, self.rejected, self.ledger]
        passed = await clients.aio_group_offsets(self._admin, self.store_group, asked)
        await self._read_rejects()
        more = True
        while more:
            more = sum(p.count(passed.get((tp.topic, tp.partition), 0)) for tp, p in self.places.items()) > 0
            await asyncio.sleep(0)
        self._passed = passed
        await self._tell()
        if self.finder is not None and self.live:
            for kind, detail in self.finder.found() or ():
                await self._producer.send(
                    **platform_event(self.prefix, SOURCE, "ledger", kind, detail, _now())
                )

    async def _read_rejects(self) -> None:
        end = (await self._consumer.end_offsets([self.rejected]))[self.rejected]
        while await self._consumer.position(self.rejected) < end:
            found = await self._consumer.getmany(self.rejected, timeout_ms=200)
            self._took(self.rejected, found.get(self.rejected, []))
        if self._gap:
            await self._ask_rejects()

    async def _ask_rejects(self) -> None:
        """The embedded broker forgets by volume: what it no longer says of rejects, the store does."""
        try:
            found = await self._open().tally("rejected", ("log", "topic", "partition", "offset"))
        except (StoreError, Unavailable) as error:
            log.warning("rejects are no longer in the log, and the store cannot be asked: %s", error)
            return
        for log_id, topic, partition, offset in found:
            if log_id == self.log_id and partition is not None and offset is not None:
                self._named(topic or "", int(partition), int(offset))
        self._gap = False

    async def _tell(self) -> None:
        """Others are told what is counted, then the group has it."""
        now, sent = asyncio.get_running_loop().time(), []
        for place in self.places.values():
            counts = place.fold.account.json()
            said = {name: n for name, n in counts.items() if name not in ("position", "clock")}
            # In the middle of much it is overtaken at once, and who feeds an embedded broker waits for us.
            if said != place.told and (not place.waiting or now - place.told_at > TELL_S):
                sent.append((place, said, await self._send(place, counts)))
        for place, said, acknowledged in sent:
            self._mine.add((await acknowledged).offset)
            place.told, place.told_at = said, now
        moved = {tp: p.fold.account for tp, p in self.places.items() if p.fold.account.next != p.committed}
        if moved:
            said_of = {tp: (account.next, _metadata(account)) for tp, account in moved.items()}
            await self._consumer.commit(said_of | {self.rejected: (self._rejects_at, "")})
            for tp, account in moved.items():
                self.places[tp].committed = account.next
        self._show()

    async def _send(self, place: Place, counts: Mapping[str, int]) -> Any:
        body = {"log": self.log_id, "topic": place.topic, "partition": place.tp.partition, **counts}
        return await self._producer.send(
            self.ledger.topic,
            json.dumps(body, sort_keys=True).encode(),
            key=place.key.encode(),
            partition=0,
            headers=headers.headers(
                f"{place.key}/{counts['position']}", catalogue.LEDGER, SOURCE, counts["clock"]
            ),
        )

    def _show(self) -> None:
        counts: dict[str, dict[str, int]] = {}
        waiting: dict[str, int] = {}
        for place in self.places.values():
            of = counts.setdefault(place.topic, dict.fromkeys(VERDICTS, 0))  # every one, also of 0
            for verdict in VERDICTS:
                of[verdict] += place.fold.account.counts[verdict]
            waiting[place.topic] = waiting.get(place.topic, 0) + len(place.waiting)
        for topic, verdicts in counts.items():
            WAITING.labels(topic).set(waiting[topic])
            for name, n in verdicts.items():
                RECORDS.labels(topic, name).set(n)

    # --- the store ----------------------------------------------------------------------------------------------

    def _open(self) -> Store:
        """The store; a file that is not there yet raises StoreError."""
        if self._store is None:
            self._store = open_store(self.settings, read_only=True)
        return self._store

    async def _ask(self) -> None:
        assert self.finder is not None
        influx, sqlite = self.settings.influx, self.settings.store
        days = sqlite.retention_days if influx.url is None else influx.retention_days
        oldest = _now() - (days - 0.5) * 86_400_000_000 if days else 0
        passed = self._passed.get((self.rejected.topic, 0), 0)
        try:
            await self.finder.ask(self._open(), self._ends, passed, int(oldest))
        except (StoreError, Unavailable) as error:
            log.debug("the store cannot be asked: %s", error)

    async def _ends(self, topics: Collection[str]) -> dict[str, dict[int, int]]:
        asked = [tp for tp, place in self.places.items() if place.topic in topics]
        found: dict[str, dict[int, int]] = {}
        for tp, end in (await self._consumer.end_offsets(asked)).items():
            found.setdefault(self.places[tp].topic, {})[tp.partition] = end
        return found

    # --- beginning where the last one ended ---------------------------------------------------------------------

    async def _take_over(self) -> None:
        """What the group has of our partitions; then the log again from where its window begins."""
        self._anew = False
        self.places, self.finder = {}, None
        try:
            await self._begin([tp for tp in self._consumer.assignment() if tp.topic in self.topics])
        except BaseException:
            self._anew = True
            raise

    async def _begin(self, mine: list[TopicPartition]) -> None:
        if not mine:
            return
        consumer = self._consumer
        begins = await consumer.beginning_offsets([*mine, self.rejected])
        ends = await consumer.end_offsets([self.ledger])
        told = await self._told()
        accounts = await self._accounts(mine, told)
        places: dict[TopicPartition, Place] = {}
        for tp in sorted(mine):
            topic = self.topics[tp.topic]
            account, committed = accounts.get(tp, (Account(), -1))
            fold = Fold(topic, account, self.settings.grace_us, expect=self.live)
            key = self._key(tp)
            places[tp] = Place(tp, topic.name, fold, key, committed, told=None if key in told else {})
        since = {tp: p.fold.reread_from for tp, p in places.items() if p.fold.account.next}
        oldest = (
            min([max(0, stamp) for stamp in since.values()], default=0) if len(since) == len(places) else 0
        )
        times = {tp: max(0, stamp) // 1000 for tp, stamp in since.items()}
        found = await consumer.offsets_for_times(times | {self.rejected: oldest // 1000})
        for tp in (*mine, self.rejected):
            at = found.get(tp)
            begin = begins[tp] if at is None else max(at.offset, begins[tp])
            if tp in places and places[tp].fold.account.next:
                begin = max(begins[tp], min(begin, places[tp].fold.account.next))
            consumer.seek(tp, begin)
            if tp == self.rejected:
                self._rejects_at, self._gap = begin, self.settings.kafka.embedded and begin > 0
        consumer.seek(self.ledger, ends[self.ledger])
        self._mine.clear()
        self.places = places
        self.finder = Finder(_folds(places), {t.name: t for t in self.topics.values()})
        counted = sum(p.fold.account.counts.total() for p in places.values())
        log.info("the ledger has %d partitions, with %d records accounted for", len(places), counted)

    async def _accounts(
        self, mine: list[TopicPartition], told: Mapping[str, Account]
    ) -> dict[TopicPartition, tuple[Account, int]]:
        """By partition, its account and the group's offset; else what the ledger's topic last said of it."""
        committed = await self._admin.list_consumer_group_offsets(self.group, partitions=mine)
        found: dict[TopicPartition, tuple[Account, int]] = {}
        for tp in mine:
            at = committed.get(tp)
            account = None if at is None or at.offset < 0 else account_of(at.offset, at.metadata)
            if account is not None:
                found[tp] = account, account.next
            elif (one := told.get(self._key(tp))) is not None:
                found[tp] = one, -1
        return found

    def _key(self, tp: TopicPartition) -> str:
        return f"{self.log_id}/{self.topics[tp.topic].name}/{tp.partition}"

    async def _told(self) -> dict[str, Account]:
        """What the ledger's topic says, by key; of each the furthest that is not beyond the log."""
        found: dict[str, Account] = {}
        async for key, value in clients.read_all(self.bootstrap, self.ledger.topic, [0]):
            if key and value:
                with suppress(ValueError, TypeError, AttributeError, RecursionError):
                    account = Account.parse(json.loads(value))
                    name = key.decode(errors="replace")
                    if name not in found or account.next >= found[name].next:
                        found[name] = account
        return found


def _metadata(account: Account) -> str:
    said = account.json()
    del said["position"]
    return json.dumps(said, separators=(",", ":"))


def account_of(offset: int, metadata: str | None) -> Account | None:
    """The account that the group has committed with an offset; None: whoever moved the group there, it was not we."""
    try:
        return Account.parse({**json.loads(metadata or ""), "position": offset - 1})
    except (ValueError, TypeError, RecursionError):
        return None


def _folds(places: Mapping[TopicPartition, Place]) -> dict[str, dict[int, Fold]]:
    found: dict[str, dict[int, Fold]] = {}
    for tp, place in places.items():
        found.setdefault(place.topic, {})[tp.partition] = place.fold
    return found


def _now() -> Micros:
    """The wall clock, for what is told to people and for what a store lets go; no count depends on it."""
    return time.time_ns() // 1000
