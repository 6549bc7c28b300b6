"""The alarm plane's app: one log of signals and commands in; history, and each alarm as it stands, out.

Each entry of the history is acknowledged by the broker before the state that follows from it is written. What the rules over
signals make of a record is appended to the same log, and acknowledged before the next checkpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bus import clients, headers
from bus.canary import canary_of
from bus.latency import Hop
from bus.logtime import LogTime
from bus.rejects import reject
from models import catalogue
from models.alarm import COMMAND_TYPE, MARK_TYPE, SIGNAL_TYPE, AlarmEvent, Command, Mark, Signal
from models.base import micros
from rules.defined import WideProgram, compile_wide
from rules.lifecycle import Plane
from rules.wide import Control, FormatError
from streams import sets
from streams.checkpoint import Checkpoints, Held, Machine
from streams.consumer import ChunkApp
from streams.metrics import ALARM_EVENTS, GAPS, REJECTED, SIGNALS, log

if TYPE_CHECKING:
    from faust.types import TP

    from models.base import Micros
    from settings import Settings

SOURCE = "/citywatch/alarms"

#: 10,000 alarms of 2 kB are then 640 kB a snapshot record, well within what a topic takes.
BUCKETS = 32

#: Where time must act on a rule over signals, the clock of an idle input is moved this long after its last record.
CLOCK_AFTER_S = 1.0

Said = Signal | Mark | Command | Control


class AlarmsWork:
    """What the alarms app does with chunks; one object a worker."""

    def __init__(self, app: ChunkApp, settings: Settings, bootstrap: str, log_id: str) -> None:
        self.app, self.bootstrap, self.log_id = app, bootstrap, log_id
        self.prefix = settings.kafka.prefix
        self._told = Hop("alarm", settings)
        self._time = LogTime()
        self.input = clients.name(self.prefix, catalogue.ALARM_INPUT)
        self.event = clients.name(self.prefix, catalogue.ALARM_EVENT)
        self.state = clients.name(self.prefix, catalogue.ALARM_STATE)
        self.canary = clients.name(self.prefix, catalogue.CANARY)
        self.programs: dict[int, WideProgram] = {}
        self.checkpoints = Checkpoints(
            app,
            bootstrap=bootstrap,
            topic=clients.name(self.prefix, catalogue.ALARMS_STATE),
            partitions=1,
            sources=frozenset({self.input}),
            new=lambda _tp: Plane(log_id, BUCKETS),
            prepare=self._prepare,
            begin=self._begin,
            after=_nothing_to_report,
            settings=settings,
            readers={t: [f"{self.prefix}citywatch-store"] for t in (self.event, self.state)},
        )

    # --- rules --------------------------------------------------------------------------------------------------

    async def program(self, version: int) -> WideProgram | None:
        """The rules over signals of a version, fetched from the log when first needed; None: there are none."""
        if version not in self.programs:
            found = await sets.rules_of(self.bootstrap, self.prefix, version)
            if found is None:
                return None
            self.programs[version] = compile_wide(found, version)
            log.info("rules version %d: %d rules over signals", version, len(found.wide))
        return self.programs[version]

    async def _prepare(self, _tp: TP, machine: Machine, blobs: dict[int, bytes]) -> None:
        plane: Any = machine
        for version in {v for n, blob in blobs.items() for v in plane.versions(n, blob)}:
            program = await self.program(version)
            if program is None:
                raise FormatError(f"it needs rules version {version}, which are no more")
            plane.wide.programs[version] = program

    async def _begin(self, tp: TP, machine: Machine) -> None:
        """Rules that were said to the input before its log begins are said to the machine."""
        plane: Any = machine
        found = await sets.forgotten(self.bootstrap, self.prefix, tp.topic, tp.partition)
        for offset, stamp, published in found.told() if found else ():
            program = await self.program(published.version)
            if program is not None:
                plane.conclude(offset, stamp, Control(published.effective_from, program))

    async def _controls(self, records: list[Any]) -> dict[int, Control]:
        """The control records of a chunk, by offset."""
        found = {}
        for record in records:
            if headers.type_of(record.headers) == headers.CONTROL:
                said = headers.control_of(record.value)
                if said is None:
                    log.error("%s at %d is no control record of ours: passed by", self.input, record.offset)
                    continue
                version, effective = said
                program = await self.program(version)
                if program is not None:
                    found[record.offset] = Control(effective, program)
        return found

    # --- chunks -------------------------------------------------------------------------------------------------

    async def take(self, message: Any) -> None:
        """Step through one chunk; write the history, wait for its acknowledgement, then write the states."""
        if self.checkpoints.current(message) is None:
            return
        controls = await self._controls(message.value)
        producer = await self.checkpoints.sender()
        async with self.checkpoints.taking(message) as held:
            if held is None:
                return
            entries, concluded, causes, refused = self._step(held, message.value, controls)
            for record in concluded:
                held.pending.append(await self._conclude(producer, record))
            acks = [await self._tell(producer, entry) for entry in entries]
            acks += [
                await producer.send(clients.name(self.prefix, catalogue.REJECTED), **fields)
                for fields in refused
            ]
            await asyncio.gather(*acks)
            if causes:
                self._told.done(min(causes) / 1000)
            for alarm_id, entry in {e.alarm.alarm_id: e for e in entries}.items():
                value = entry.alarm.model_dump_json(exclude_none=True).encode()
                await self.checkpoints.room(self.state, len(value) + 300)
                held.pending.append(
                    await producer.send(
                        self.state,
                        value,
                        key=alarm_id.encode(),
                        timestamp_ms=int(entry.at.timestamp() * 1000),
                        headers=headers.headers(
                            f"{alarm_id}/{entry.alarm.position}",
                            catalogue.ALARM_STATE,
                            SOURCE,
                            micros(entry.at),
                        ),
                    )
                )
            await self._pass_on(producer, held, message.value)

    async def _pass_on(self, producer: Any, held: Held, records: list[Any]) -> None:
        """Canaries go on when all that was said before them is acknowledged."""
        found = [canary_of(r.value) for r in records if headers.type_of(r.headers) == catalogue.CANARY]
        if found:
            await asyncio.gather(*held.pending)
        for one in filter(None, found):
            held.pending.append(await producer.send(self.canary, partition=0, **one.passed()._asdict()))

    async def _conclude(self, producer: Any, record: Signal | Mark) -> Any:
        """Append what a rule over signals decided to the input: from there it is an alarm like any other."""
        SIGNALS.labels(record.topic, record.op).inc()
        kind = SIGNAL_TYPE if isinstance(record, Signal) else MARK_TYPE
        # No room is waited for on the embedded broker: it would be that of what is being read here.
        return await producer.send(
            self.input,
            record.model_dump_json(exclude_none=True).encode(),
            key=record.fingerprint.encode(),
            partition=0,
            timestamp_ms=int(record.stamp.timestamp() * 1000),
            headers=headers.headers(
                f"{record.alarm_id}/{record.rule}/{record.offset}/{record.k}",
                kind,
                SOURCE,
                micros(record.stamp),
            ),
        )

    async def _tell(self, producer: Any, entry: AlarmEvent) -> Any:
        ALARM_EVENTS.labels(entry.type).inc()
        value = entry.model_dump_json(exclude_none=True).encode()
        await self.checkpoints.room(self.event, len(value) + 300)
        return await producer.send(
            self.event,
            value,
            key=entry.alarm.fingerprint.encode(),
            timestamp_ms=int(entry.at.timestamp() * 1000),
            headers=headers.headers(entry.id, catalogue.ALARM_EVENT, SOURCE, micros(entry.at)),
        )

    def _step(
        self, held: Held, records: list[Any], controls: dict[int, Control]
    ) -> tuple[list[AlarmEvent], list[Signal | Mark], list[Micros], list[dict[str, Any]]]:
        """What happened to alarms, what follows from it, the stamps of the records that caused it by their signals, and what is no input."""
        plane: Plane = held.machine
        entries: list[AlarmEvent] = []
        concluded: list[Signal | Mark] = []
        causes: list[Micros] = []
        refused: list[dict[str, Any]] = []
        for record in records:
            if record.offset <= held.offset:
                continue
            if record.offset > held.offset + 1 and held.offset >= 0:
                GAPS.labels("alarms", catalogue.ALARM_INPUT).inc(record.offset - held.offset - 1)
            held.offset = record.offset
            said: Said | None = controls.get(record.offset)
            try:
                said = said or _read(record)
            except ValidationError as error:
                REJECTED.labels(catalogue.ALARM_INPUT, "schema").inc()
                why = error.errors(include_url=False, include_input=False)[0]
                detail = f"{'.'.join(map(str, why['loc']))}: {why['msg']}"
                refused.append(reject(self.log_id, catalogue.ALARM_INPUT, record, "schema", detail))
            stamp = record.timestamp * 1000
            told = plane.step(record.offset, stamp, said)
            entries += told
            concluded += plane.conclude(record.offset, stamp, said)
            if told and isinstance(said, Signal):
                causes.append(micros(said.stamp))
            held.bytes_in += len(record.value or b"") + 200
        self._time.see(records[-1].timestamp * 1000)
        held.seen = asyncio.get_running_loop().time()
        return entries, concluded, causes, refused

    # --- beside the chunks --------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Append a clock record to the input while it is read to its end and idle, and something waits for a time that has come.

        Whether it has come the log says, not the clock of this machine; where it has said nothing yet, the record asks it.
        """
        now = asyncio.get_running_loop().time()
        for tp, held in list(self.checkpoints.held.items()):
            due, time = held.machine.due(), self._time.now()
            if due is None or (time is not None and due > time) or now - held.seen < CLOCK_AFTER_S:
                continue
            end = self.app.consumer.highwater(tp)
            if end is not None and held.offset + 1 >= end:
                held.seen = now
                producer = await self.checkpoints.sender()
                clock = headers.clock_record()
                await producer.send(tp.topic, clock.value, partition=tp.partition, headers=clock.headers)


def _read(record: Any) -> Signal | Mark | Command | None:
    """Clock records say nothing of alarms; what has no type we know must be a signal."""
    kind = headers.type_of(record.headers)
    if kind == COMMAND_TYPE:
        return Command.model_validate_json(record.value)
    if kind == MARK_TYPE:
        return Mark.model_validate_json(record.value)
    if kind == SIGNAL_TYPE or headers.is_event(record.headers):
        return Signal.model_validate_json(record.value)
    return None


async def _nothing_to_report(_held: Held) -> None:
    return None


def create(settings: Settings, bootstrap: str, log_id: str) -> ChunkApp:
    """The alarm plane's Faust app."""
    app = ChunkApp("alarms", settings, bootstrap)
    work = AlarmsWork(app, settings, bootstrap, log_id)

    app.on_chunks("alarms", [work.input], work.take)
    if settings.kafka.clock == "log":
        app.timer(0.5)(work.tick)
    return app
