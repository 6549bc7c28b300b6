"""State that survives a kill at any instant: snapshots on a compacted topic, and offsets committed only after them.

The order is the guarantee. For each bucket: its bytes are frozen at offset o; every output caused at or before o is
acknowledged; the snapshot is sent under a key that no other writer shares; after its acknowledgement the group's
offset may move to the least o of all buckets, plus one. A restored partition reads the snapshots of all writers, takes
the greatest o of each bucket, and skips what a bucket has seen.

With each assignment a worker is another writer, also of partitions that it keeps, and its commits rest on its own snapshots
alone: those of others, and of itself before, may be buried by whoever was given the partition meanwhile. What was to be
committed before a rebalance is not committed after it.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import TopicPartition

from bus import clients
from bus.room import Room
from rules import judge, wide
from streams.metrics import CHECKPOINT_BYTES, CHECKPOINT_SECONDS, REBUILT, log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from aiokafka import AIOKafkaProducer
    from faust.types import TP

    from settings import Settings
    from streams.consumer import ChunkApp

_OFFSET = struct.Struct(">q")

#: On the embedded broker a partition forgets after 5 MiB: what was written longer ago than this is written again.
REWRITE_AFTER_BYTES = 2 * 1024 * 1024


#: A partition at its end is idle so long after its last record, and is saved.
IDLE_S = 0.3


class Machine(Protocol):
    """What is checkpointed: pure state in buckets, each of which can be saved and put back by itself."""

    #: How many records before the first new one must be seen again: what a machine tells may depend on the clock before.
    looks_back: int

    @property
    def dirty(self) -> set[int]: ...
    @property
    def buckets(self) -> int: ...
    def dump(self, number: int, /) -> bytes: ...
    def load(self, number: int, blob: bytes, /) -> int: ...


@dataclass(eq=False)
class Held:
    """A partition this worker owns: its machine, and how far each bucket is saved."""

    tp: TP
    machine: Any
    generation: int
    offset: int  # the last record taken into the machine
    saved: list[int]
    committed: int  # the position that is, or is about to be, the group's
    writer: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    pending: list[Awaitable[Any]] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: What is in the machine is not known to be out: nothing of it may be saved, and nothing committed.
    broken: bool = False
    bytes_in: int = 0  # since the last complete checkpoint
    seen: float = 0.0  # loop time of the last record
    complete: float = 0.0  # loop time when all, or a complete checkpoint of it, was last saved
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of the last snapshot, by bucket
    others: dict[int, list[bytes]] = field(default_factory=dict)  # keys of earlier writers, by bucket
    written: dict[int, int] = field(
        default_factory=dict
    )  # bytes written to the snapshots when a bucket last was
    task: asyncio.Task[None] | None = None

    @property
    def is_saved(self) -> bool:
        return self.committed > self.offset

    def renew(self, generation: int, committed: int) -> None:
        """It is kept over a rebalance: all of it is to be saved again, by another writer."""
        for number in self.written:
            self.others.setdefault(number, []).append(self.key(number))
        self.generation, self.committed, self.writer = generation, committed, uuid.uuid4().hex[:12]
        self.written.clear()

    def key(self, number: int) -> bytes:
        """Of the snapshots of a bucket that this writer makes."""
        return f"{_name(self.tp)}/{number}/{self.writer}".encode()


class Checkpoints:
    """Restores partitions on assignment and saves them while they are held."""

    def __init__(
        self,
        app: ChunkApp,
        *,
        bootstrap: str,
        topic: str,
        partitions: int,
        sources: frozenset[str],
        new: Callable[[TP], Machine],
        prepare: Callable[[TP, Machine, dict[int, bytes]], Awaitable[None]],
        begin: Callable[[TP, Machine], Awaitable[None]],
        after: Callable[[Held], Awaitable[None]],
        settings: Settings,
        readers: dict[str, list[str]],
    ) -> None:
        """`prepare` loads what saved buckets need; `begin` says to a new machine what its log has forgotten; `after` runs when a checkpoint is complete, before its commit.

        `readers` are the groups that read what this app sends, by topic: the embedded broker forgets by volume, and
        so whoever produces stays within what is committed.
        """
        self.app = app
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.sources = sources
        self.new, self.prepare, self.begin, self.after = new, prepare, begin, after
        self.seconds, self.volume = settings.checkpoint.seconds, settings.checkpoint.bytes
        self.embedded, self.readers = settings.kafka.embedded, readers
        self._room: Room | None = None
        self.held: dict[TP, Held] = {}
        self.producer: AIOKafkaProducer | None = None
        self._bytes_written = 0
        self._restored: int | None = None  # the generation whose partitions are all there
        app.resume_at, app.unready, app.held = self._resume_at, self._unready, self.held
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_rebalance_complete.connect(self._on_rebalance, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    def _resume_at(self, tp: TP) -> int | None:
        held = self.held.get(tp)
        return None if held is None else held.offset + 1

    async def _unready(self) -> str | None:
        if self._restored is None:
            return "the group has not yet given this worker its partitions"
        if self._restored != self.app.consumer_generation_id:
            return "partitions that came with the last rebalance are being restored"
        return None

    def current(self, message: Any) -> Held | None:
        """The partition of a delivered chunk, or None if the chunk was fetched before the last rebalance."""
        held = self.held.get(message.tp)
        return held if held is not None and message.generation_id == held.generation else None

    @asynccontextmanager
    async def taking(self, message: Any) -> AsyncIterator[Held | None]:
        """The partition of a delivered chunk, safe from a checkpoint meanwhile; None: the chunk is to be dropped."""
        held = self.current(message)
        if held is None:
            yield None
            return
        async with held.lock:
            if held.broken or self.current(message) is not held:
                yield None
                return
            try:
                yield held
            except BaseException:
                held.broken = True  # the machine has seen records whose outputs may be nowhere
                raise

    async def sender(self) -> AIOKafkaProducer:
        """The one producer of this app: all acks, idempotent, in order."""
        if self.producer is None:
            self.producer = clients.aio_producer(self.bootstrap)
            await self.producer.start()
        return self.producer

    async def room(self, topic: str, size: int) -> None:
        """Wait until `size` bytes more may be sent to the one partition of `topic`."""
        if not self.embedded:
            return
        if self._room is None:
            self._room = await asyncio.to_thread(Room, self.bootstrap, self.readers)
        await self._room.take(topic, 0, size)

    # --- restoring ----------------------------------------------------------------------------------------------

    async def _on_rebalance(self, *_args: Any, **_kwargs: Any) -> None:
        try:
            await self._take_over()
        except Exception as error:  # noqa: BLE001 - a worker that cannot restore must not judge
            await self.app.crash(error)

    async def _on_revoked(self, *_args: Any, **_kwargs: Any) -> None:
        """From here on others may have what we had: until it is given again, what is saved of it moves no position."""
        self._restored = None

    async def _take_over(self) -> None:
        generation = self.app.consumer_generation_id
        mine = {tp for tp in self.app.consumer.assignment() if tp.topic in self.sources}
        for tp in set(self.held) - mine:
            self._stop(self.held.pop(tp))
        thread = self.app.consumer._thread  # noqa: SLF001 - there is no public way to ask for committed offsets
        fresh = []
        for tp in sorted(mine):
            asked = TopicPartition(tp.topic, tp.partition)
            committed = (await thread.call_thread(thread._ensure_consumer().committed, asked)) or 0  # noqa: SLF001
            held = self.held.get(tp)
            if held is not None and await self._goes_on(held, generation, committed):
                continue
            if held is not None:
                self._stop(held)
            fresh.append((tp, committed))
        snapshots = await self._read({self._place(tp) for tp, _ in fresh}) if fresh else {}
        for tp, committed in fresh:
            self.held[tp] = held = await self._restore(
                tp, committed, generation, snapshots.get(_name(tp), {})
            )
            held.task = asyncio.create_task(self._keep(held))
        self._restored = generation

    async def _goes_on(self, held: Held, generation: int, committed: int) -> bool:
        """Whether a partition that was here before is kept: memory is a function of the log, if it is not behind."""
        async with (
            held.saving
        ):  # one that is under way is let finish, or who would wait for what it waits for?
            if held.broken or held.offset + 1 < committed:
                return False
            held.renew(generation, committed)
            return True

    async def _restore(self, tp: TP, committed: int, generation: int, found: dict[int, list[_Saved]]) -> Held:
        machine, offsets = self.new(tp), dict[int, int]()
        found = {number: saved for number, saved in found.items() if 0 <= number < machine.buckets}
        best = {number: max(saved, key=lambda s: s.offset) for number, saved in found.items()}
        # Who commits has written every bucket.
        gone = machine.buckets - len(best)
        lost = f"{gone} of its {machine.buckets} buckets are gone" if committed and gone else ""
        try:
            await self.prepare(tp, machine, {number: s.blob for number, s in best.items()})
            offsets = {number: max(machine.load(number, s.blob), committed - 1) for number, s in best.items()}
        except (judge.FormatError, wide.FormatError, RecursionError) as error:
            lost = str(error)
        if lost:
            log.error("checkpoint of %s cannot be used, rebuilding from the log: %s", _name(tp), lost)
            REBUILT.inc()
            machine, offsets, committed, best = self.new(tp), {}, 0, {}
        if not best:
            await self.begin(tp, machine)
        saved = [offsets.get(n, committed - 1) for n in range(machine.buckets)]
        offset = max(-1, min([*saved, committed - 1]) - machine.looks_back)
        held = Held(tp, machine, generation, offset, saved, committed)
        held.seen = held.complete = asyncio.get_running_loop().time()
        held.sizes = {n: len(s.blob) for n, s in best.items()}
        held.others = {n: [s.key for s in all_] for n, all_ in found.items()}
        self._bytes_written += sum(len(s.blob) for s in best.values())
        if best:
            log.info("restored %s at offset %d from %d buckets", _name(tp), held.offset, len(best))
        return held

    def _place(self, tp: TP) -> int:
        return zlib.crc32(_name(tp).encode()) % self.partitions

    async def _read(self, partitions: Iterable[int]) -> dict[str, dict[int, list[_Saved]]]:
        """All snapshots on these partitions: by partition name and bucket, those of every writer."""
        latest: dict[bytes, bytes] = {}
        async for key, value in clients.read_all(self.bootstrap, self.topic, sorted(partitions)):
            if key is None:
                continue
            if value:
                latest[key] = value
            else:
                latest.pop(key, None)
        found: dict[str, dict[int, list[_Saved]]] = {}
        for key, value in latest.items():
            try:
                name, number, _writer = key.decode().rsplit("/", 2)
                saved = _Saved(key, _OFFSET.unpack_from(value)[0], value[_OFFSET.size :])
                found.setdefault(name, {}).setdefault(int(number), []).append(saved)
            except (ValueError, struct.error) as error:
                log.error("%s: the record under %r is no snapshot of ours: %s", self.topic, key, error)
        return found

    # --- saving -------------------------------------------------------------------------------------------------

    async def _keep(self, held: Held) -> None:
        """Save the partition when it has been idle a moment, every `seconds`, and after much input."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(0.1)
            now = loop.time()
            if held.is_saved:
                held.complete = now
                continue
            idle = now - held.seen >= IDLE_S and self._at_end(held)
            if now - last < self.seconds and not self._much(held) and not idle:
                continue
            try:
                await self.save(held)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - without a checkpoint there is no guarantee: stop loudly
                await self.app.crash(error)
                return
            last = loop.time()

    def _much(self, held: Held) -> bool:
        """Whether reading again what came in since costs more than saving: a restart is short, and yet no more is written than comes in."""
        size = 0 if self.embedded else sum(held.sizes.values())
        return held.bytes_in >= max(self.volume, size)

    def _at_end(self, held: Held) -> bool:
        """Whether nothing waits to be taken: a worker that is only slow is not idle."""
        try:
            end = self.app.consumer.highwater(held.tp)
        except AssertionError:  # aiokafka's, where the partition is being taken away
            return False
        return end is None or held.offset + 1 >= end

    async def save(self, held: Held) -> None:
        """One complete checkpoint, unless something failed before: then what was saved last is what holds."""
        async with held.saving:
            if held.broken:
                return
            try:
                await self._save(held)
            except BaseException:
                held.broken = True  # what it had taken to wait for, nobody waits for any more
                raise

    async def _save(self, held: Held) -> None:
        """Buckets are frozen one by one, so that records go on between them."""
        began = asyncio.get_running_loop().time()
        producer = await self.sender()
        machine, bytes_in = held.machine, held.bytes_in
        acks: list[tuple[int, int, Any]] = []
        for number in range(machine.buckets):
            async with held.lock:
                offset = held.offset
                old = self._bytes_written - held.written.get(number, 0) > REWRITE_AFTER_BYTES
                ours = number in held.written and not (self.embedded and old)
                if ours and number not in machine.dirty:
                    held.saved[number] = offset  # unchanged: our last snapshot is as good as one of now
                    continue
                blob = machine.dump(number)
                pending, held.pending = held.pending, []
            await asyncio.gather(*pending)
            sent = await producer.send(
                self.topic, _OFFSET.pack(offset) + blob, key=held.key(number), partition=self._place(held.tp)
            )
            self._bytes_written += len(blob)
            held.written[number] = self._bytes_written
            held.sizes[number] = len(blob)
            CHECKPOINT_BYTES.inc(len(blob))
            acks.append((number, offset, sent))
        for number, offset, sent in acks:
            await sent
            await self._bury(held, number)
            held.saved[number] = offset
        async with held.lock:
            pending, held.pending = held.pending, []
        await asyncio.gather(*pending)
        await self.after(held)
        held.bytes_in -= bytes_in
        if self.app.between or self._restored != self.app.consumer_generation_id:
            return  # whoever has it now begins where the group's offset is
        self.app.positions[held.tp] = held.committed = min(held.saved) + 1
        held.complete = asyncio.get_running_loop().time()
        CHECKPOINT_SECONDS.observe(held.complete - began)

    async def _bury(self, held: Held, number: int) -> None:
        """Earlier writers' snapshots of a bucket are no longer needed once ours is acknowledged."""
        producer = await self.sender()
        for key in held.others.pop(number, []):
            await producer.send(self.topic, None, key=key, partition=self._place(held.tp))

    def _stop(self, held: Held) -> None:
        if held.task is not None:
            held.task.cancel()

    async def _on_shutdown(self, *_args: Any, **_kwargs: Any) -> None:
        for held in self.held.values():
            async with held.saving:  # one that is under way is let finish
                self._stop(held)
        for held in self.held.values():
            if not held.is_saved:
                await self.save(held)
        if self.held:
            await self.app.consumer.commit()
        if self.producer is not None:
            await self.producer.stop()


@dataclass(frozen=True, slots=True)
class _Saved:
    key: bytes
    offset: int
    blob: bytes


def _name(tp: TP) -> str:
    return f"{tp.topic}/{tp.partition}"
