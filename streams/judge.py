"""The judge: source topics in, signals out. Decodes, steps the pure core, sends; decides nothing."""

from __future__ import annotations

import asyncio
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from bus import canary, clients, headers
from bus.canary import Canary
from bus.latency import Hop
from models import catalogue
from models.alarm import SIGNAL_TYPE
from models.base import micros
from models.decode import Rejection, decode
from rules.judge import FormatError, Judge
from rules.program import Program, compile_program
from streams import sets
from streams.checkpoint import Checkpoints, Held, Machine
from streams.consumer import ChunkApp
from streams.metrics import EVENTS, GAPS, SERIES, SIGNALS, log, oldest

if TYPE_CHECKING:
    from faust.types import TP

    from models.alarm import Signal
    from rules.spec import RuleSet
    from settings import Settings

SOURCE = "/citywatch/judge"

#: An idle partition's clock is moved by its owner this long after the last record.
CLOCK_AFTER_S = 1.0


class JudgeWork:
    """What the judge app does with chunks; one object a worker."""

    def __init__(self, app: ChunkApp, settings: Settings, bootstrap: str, log_id: str) -> None:
        self.app, self.settings, self.bootstrap, self.log_id = app, settings, bootstrap, log_id
        self.prefix = settings.kafka.prefix
        self.events = {clients.name(self.prefix, e.topic.name): e for e in catalogue.events()}
        self.sets: dict[int, RuleSet] = {}
        self.alarm_input = clients.name(self.prefix, catalogue.ALARM_INPUT)
        self.checkpoints = Checkpoints(
            app,
            bootstrap=bootstrap,
            topic=clients.name(self.prefix, catalogue.JUDGE_STATE),
            partitions=next(t.partitions for t in catalogue.PLATFORM if t.name == catalogue.JUDGE_STATE),
            sources=frozenset(self.events),
            new=self._new,
            prepare=self._prepare,
            begin=self._begin,
            after=self._show,
            settings=settings,
            readers={self.alarm_input: [f"{self.prefix}citywatch-alarms"]},
        )
        self._taken = Hop("judge", settings)
        self._canaries: dict[TP, float] = {}  # loop time of the last one that was sent

    def _new(self, tp: TP) -> Judge:
        return Judge(self.events[tp.topic], tp.partition, self.log_id, self.settings.grace_us)

    # --- rules --------------------------------------------------------------------------------------------------

    async def program(self, version: int, topic: str) -> Program | None:
        """The rules of a version for one topic, fetched from the log when first needed; None: there are none."""
        if version not in self.sets:
            found = await sets.rules_of(self.bootstrap, self.prefix, version)
            if found is None:
                return None
            self.sets[version] = found
            log.info("rules version %d: %d rules", version, len(found.rules))
        return compile_program(self.sets[version], version, self.events[topic])

    async def _prepare(self, tp: TP, machine: Machine, blobs: dict[int, bytes]) -> None:
        judge: Any = machine
        for version in {v for blob in blobs.values() for v in judge.versions(blob)}:
            program = await self.program(version, tp.topic)
            if program is None:
                raise FormatError(f"it needs rules version {version}, which are no more")
            judge.programs[version] = program

    async def _begin(self, tp: TP, machine: Machine) -> None:
        """Rules that were said to this partition before its log begins are said to the machine."""
        judge: Any = machine
        found = await sets.forgotten(self.bootstrap, self.prefix, tp.topic, tp.partition)
        for offset, stamp, published in found.told() if found else ():
            program = await self.program(published.version, tp.topic)
            if program is not None:
                judge.control(offset, stamp, published.effective_from, program)

    async def _controls(self, records: list[Any], topic: str) -> dict[int, tuple[int, Program]]:
        """The control records of a chunk by offset: (effective from, program)."""
        found = {}
        for record in records:
            if record.key is None and headers.type_of(record.headers) == headers.CONTROL:
                said = headers.control_of(record.value)
                if said is None:
                    log.error("%s at %d is no control record of ours: passed by", topic, record.offset)
                    continue
                version, effective = said
                program = await self.program(version, topic)
                if program is not None:
                    found[record.offset] = (effective, program)
        return found

    # --- chunks -------------------------------------------------------------------------------------------------

    async def take(self, message: Any) -> None:
        """Judge one chunk and send its signals; their acknowledgements are the next checkpoint's to await."""
        if self.checkpoints.current(message) is None:
            return
        controls = await self._controls(message.value, message.topic)
        producer = await self.checkpoints.sender()
        async with self.checkpoints.taking(message) as held:
            if held is None:
                return
            said = self._step(held, message.value, controls)
            self._taken.done(oldest(message.value))
            for one in said:
                fields = _passed(one) if isinstance(one, Canary) else _told(one)
                await self.checkpoints.room(self.alarm_input, len(fields["value"]) + 300)
                held.pending.append(await producer.send(self.alarm_input, partition=0, **fields))

    def _step(
        self, held: Held, records: list[Any], controls: dict[int, tuple[int, Program]]
    ) -> list[Signal | Canary]:
        """No await in here: a chunk is in the state as a whole or not at all."""
        judge: Judge = held.machine
        event_class = self.events[held.tp.topic]
        signals: list[Signal | Canary] = []
        before = judge.counts()
        for record in records:
            offset: int = record.offset
            if offset <= held.offset:
                continue
            if offset > held.offset + 1 and held.offset >= 0:
                GAPS.labels("judge", event_class.topic.name).inc(offset - held.offset - 1)
            held.offset = offset
            stamp = record.timestamp * 1000
            value = record.value
            if offset in controls:
                effective, program = controls[offset]
                signals += judge.control(offset, stamp, effective, program)
            elif headers.says_nothing(record.key, record.headers):
                signals += judge.pass_by(offset, stamp)
                if headers.type_of(record.headers) == catalogue.CANARY:
                    signals.append(Canary(event_class.topic.name, held.tp.partition, offset, stamp))
            else:
                found = decode(event_class, value, stamp, record.key or b"")
                if isinstance(found, Rejection):
                    signals += judge.pass_by(offset, stamp, "rejected")
                else:
                    signals += judge.event(offset, stamp, found, zlib.crc32(value))
            held.bytes_in += len(value or b"") + 200
        held.seen = asyncio.get_running_loop().time()
        for verdict, n in (judge.counts() - before).items():
            EVENTS.labels("judge", event_class.topic.name, verdict).inc(n)
        return signals

    # --- beside the chunks --------------------------------------------------------------------------------------

    async def _show(self, held: Held) -> None:
        """Say how large it has become; part of every checkpoint."""
        topic = self.events[held.tp.topic].topic.name
        SERIES.labels(topic, str(held.tp.partition)).set(held.machine.size())

    async def tick(self) -> None:
        """Append a clock record to each partition that is read to its end and idle: so that silence has a time."""
        now = asyncio.get_running_loop().time()
        producer = await self.checkpoints.sender()
        for tp, held in list(self.checkpoints.held.items()):
            if now - held.seen < CLOCK_AFTER_S:
                continue
            end = self.app.consumer.highwater(tp)
            if end is not None and held.offset + 1 >= end:
                held.seen = now
                clock = headers.clock_record()
                await producer.send(tp.topic, clock.value, partition=tp.partition, headers=clock.headers)

    async def send_canaries(self, every_s: float = canary.EVERY_S) -> None:
        """Append a canary to each partition that has had none of us for so long; to one that is new here, at once."""
        now = asyncio.get_running_loop().time()
        producer = await self.checkpoints.sender()
        held = set(self.checkpoints.held)
        self._canaries = {tp: at for tp, at in self._canaries.items() if tp in held}
        for tp in held:
            if now - self._canaries.get(tp, now - every_s) >= every_s:
                self._canaries[tp] = now
                one = canary.record()
                await producer.send(tp.topic, one.value, partition=tp.partition, headers=one.headers)


def _told(signal: Signal) -> dict[str, Any]:
    """A signal, as `send` takes it."""
    SIGNALS.labels(signal.topic, signal.op).inc()
    return {
        "value": signal.model_dump_json(exclude_none=True).encode(),
        "key": signal.fingerprint.encode(),
        "timestamp_ms": int(signal.stamp.timestamp() * 1000),
        "headers": headers.headers(
            f"{signal.alarm_id}/{signal.offset}/{signal.k}", SIGNAL_TYPE, SOURCE, micros(signal.stamp)
        ),
    }


def _passed(seen: Canary) -> dict[str, Any]:
    """A canary, as `send` takes it."""
    return {"timestamp_ms": seen.stamp // 1000, **seen.passed()._asdict()}


def create(settings: Settings, bootstrap: str, log_id: str) -> ChunkApp:
    """The judge's Faust app."""
    app = ChunkApp("judge", settings, bootstrap)
    work = JudgeWork(app, settings, bootstrap, log_id)

    app.on_chunks("judge", work.events, work.take)
    if settings.kafka.clock == "log":
        app.timer(0.5)(work.tick)
        # Bound here: Faust gives the app to an argument that is free.
        app.timer(1.0)(partial(work.send_canaries, canary.EVERY_S))
    return app
