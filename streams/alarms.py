"""The alarm plane's app: one log of signals and commands in; history, and each alarm as it stands, out.

Each entry of the history is acknowledged by the broker before the state that follows from it is written.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bus import clients, headers
from bus.latency import Hop
from bus.rejects import reject
from models import catalogue
from models.alarm import COMMAND_TYPE, SIGNAL_TYPE, AlarmEvent, Command, Signal
from models.base import micros
from rules.lifecycle import Plane
from streams.checkpoint import Checkpoints, Held, Machine
from streams.consumer import ChunkApp
from streams.metrics import ALARM_EVENTS, GAPS, REJECTED

if TYPE_CHECKING:
    from faust.types import TP

    from models.base import Micros
    from settings import Settings

SOURCE = "/citywatch/alarms"

#: 10,000 alarms of 2 kB are then 640 kB a snapshot record, well within what a topic takes.
BUCKETS = 32


class AlarmsWork:
    """What the alarms app does with chunks; one object a worker."""

    def __init__(self, app: ChunkApp, settings: Settings, bootstrap: str, log_id: str) -> None:
        self.app, self.log_id = app, log_id
        self.prefix = settings.kafka.prefix
        self._told = Hop("alarm", settings)
        self.input = clients.name(self.prefix, catalogue.ALARM_INPUT)
        self.event = clients.name(self.prefix, catalogue.ALARM_EVENT)
        self.state = clients.name(self.prefix, catalogue.ALARM_STATE)
        self.checkpoints = Checkpoints(
            app,
            bootstrap=bootstrap,
            topic=clients.name(self.prefix, catalogue.ALARMS_STATE),
            partitions=1,
            sources=frozenset({self.input}),
            new=lambda _tp: Plane(log_id, BUCKETS),
            prepare=_nothing_to_prepare,
            after=_nothing_to_report,
            settings=settings,
            readers={t: [f"{self.prefix}citywatch-store"] for t in (self.event, self.state)},
        )

    async def take(self, message: Any) -> None:
        """Step through one chunk; write the history, wait for its acknowledgement, then write the states."""
        producer = await self.checkpoints.sender()
        async with self.checkpoints.taking(message) as held:
            if held is None:
                return
            entries, causes, refused = self._step(held, message.value)
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
        self, held: Held, records: list[Any]
    ) -> tuple[list[AlarmEvent], list[Micros], list[dict[str, Any]]]:
        """What happened to alarms, the stamps of the records that caused it by their signals, and what is no input."""
        plane: Plane = held.machine
        entries: list[AlarmEvent] = []
        causes: list[Micros] = []
        refused: list[dict[str, Any]] = []
        for record in records:
            if record.offset <= held.offset:
                continue
            if record.offset > held.offset + 1 and held.offset >= 0:
                GAPS.labels("alarms", catalogue.ALARM_INPUT).inc(record.offset - held.offset - 1)
            held.offset = record.offset
            said: Signal | Command | None = None
            try:
                said = _read(record)
            except ValidationError as error:
                REJECTED.labels(catalogue.ALARM_INPUT, "schema").inc()
                why = error.errors(include_url=False, include_input=False)[0]
                detail = f"{'.'.join(map(str, why['loc']))}: {why['msg']}"
                refused.append(reject(self.log_id, catalogue.ALARM_INPUT, record, "schema", detail))
            told = plane.step(record.offset, record.timestamp * 1000, said)
            entries += told
            if told and isinstance(said, Signal):
                causes.append(micros(said.stamp))
            held.bytes_in += len(record.value or b"") + 200
        held.seen = asyncio.get_running_loop().time()
        return entries, causes, refused


def _read(record: Any) -> Signal | Command | None:
    """Control and clock records say nothing of alarms; what has no type we know must be a command or a signal."""
    kind = headers.type_of(record.headers)
    if kind == COMMAND_TYPE:
        return Command.model_validate_json(record.value)
    if kind == SIGNAL_TYPE or headers.is_event(record.headers):
        return Signal.model_validate_json(record.value)
    return None


async def _nothing_to_prepare(_tp: TP, _machine: Machine, _blobs: list[bytes]) -> None:
    return None


async def _nothing_to_report(_held: Held) -> None:
    return None


def create(settings: Settings, bootstrap: str, log_id: str) -> ChunkApp:
    """The alarm plane's Faust app."""
    app = ChunkApp("alarms", settings, bootstrap)
    work = AlarmsWork(app, settings, bootstrap, log_id)

    app.on_chunks("alarms", [work.input], work.take)
    return app
