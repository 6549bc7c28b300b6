"""Operators' commands: into the log, and answered only when the broker has them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError

from bus import clients, headers
from console import wire
from console.past import NoStoreError
from models.alarm import COMMAND_TYPE, Command
from models.catalogue import ALARM_INPUT

if TYPE_CHECKING:
    from console.desk import Desk
    from console.past import Past
    from settings import Settings

SOURCE = "/citywatch/console"

#: The broker has so long to say that it has a command.
ACK_S = 10.0
CLOSE_S = 0.5

#: For how long a command keeps others from the same: until then the alarm plane has done it, or something is wrong with it.
GIVEN_S = 30.0


class RefusedError(Exception):
    """Why a command is not done, as it is told to whoever asked."""

    def __init__(self, status: int, title: str, detail: str, alarm: wire.Alarm | None = None) -> None:
        super().__init__(detail)
        self.problem = wire.Problem(title=title, status=status, detail=detail, alarm=alarm)


class _Given(NamedTuple):
    """A command, the position of the alarm that it was given on, and when."""

    ask: wire.Ask
    position: int
    at: float


class Orders:
    """Sends commands by one producer, opened with the first of them."""

    def __init__(self, settings: Settings, bootstrap: str, desk: Desk, past: Past) -> None:
        self._bootstrap, self._desk, self._past = bootstrap, desk, past
        self._topic = clients.name(settings.kafka.prefix, ALARM_INPUT)
        self._producer: Any = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._given: OrderedDict[str, _Given] = OrderedDict()  # by alarm, the last one, oldest first

    async def give(self, ask: wire.Ask) -> wire.Done:
        """The place of the command in the log. Raises RefusedError."""
        if (offset := self._desk.alarms.commands.get((ask.alarm_id, ask.command_id))) is not None:
            return wire.Done(command_id=ask.command_id, offset=offset)
        alarm = await self._alarm(ask)
        self._given[ask.alarm_id] = _Given(ask, alarm.position, time.monotonic())
        self._given.move_to_end(ask.alarm_id)
        try:
            async with asyncio.timeout(ACK_S):
                offset = await self._send(ask, alarm.fingerprint)
        except (TimeoutError, KafkaError, OSError) as error:
            self._given.pop(ask.alarm_id, None)
            self._renew()
            raise RefusedError(
                503,
                "The broker does not answer",
                "It is not known whether the command is in the log. Send it again with the same command_id: "
                f"it is done once ({str(error) or type(error).__name__})",
            ) from error
        self._desk.alarms.commanded(ask.alarm_id, ask.command_id, offset)
        return wire.Done(command_id=ask.command_id, offset=offset)

    async def _alarm(self, ask: wire.Ask) -> wire.Alarm:
        """The alarm, if the command may be given now."""
        if self._desk.clock == "writer":
            raise RefusedError(409, "Not in a replay", "This is a recorded world: nobody can act in it")
        known = self._desk.alarms.get(ask.alarm_id)
        if known is None:
            try:
                found = await self._past.alarms(self._desk, id_=ask.alarm_id)
            except NoStoreError as error:
                raise RefusedError(
                    503, "The store does not answer", f"The log does not have this alarm; {error}"
                ) from error
            if not found:
                raise RefusedError(404, "No such alarm", f"There is no alarm {ask.alarm_id}")
            known = found[0]
        alarm = known.alarm
        if (why := self._settled(ask, alarm)) is not None:
            raise RefusedError(409, "Nothing to acknowledge", why, alarm)
        return alarm

    def _settled(self, ask: wire.Ask, alarm: wire.Alarm) -> str | None:
        """Why there is nothing left to acknowledge, or None."""
        if alarm.retracted:
            return "It was taken back: with all data known it never was"
        if alarm.closed_by is not None:
            return "It ended with its log: nothing can be said of it any more"
        if alarm.acked:
            at = "" if alarm.acked_at is None else f" at {alarm.acked_at:%Y-%m-%dT%H:%M:%SZ}"
            return f"Already acknowledged by {alarm.acked_by}{at}"
        while self._given and next(iter(self._given.values())).at < time.monotonic() - GIVEN_S:
            self._given.popitem(last=False)
        given = self._given.get(alarm.alarm_id)
        if given is not None and given.ask.command_id != ask.command_id and given.position >= alarm.position:
            return f"{given.ask.actor} is acknowledging it at this moment"
        return None

    async def _send(self, ask: wire.Ask, fingerprint: str) -> int:
        async with self._opening:
            if self._producer is None:
                producer = clients.aio_producer(self._bootstrap)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
        command = Command(**ask.model_dump())
        said = headers.headers(command.command_id, COMMAND_TYPE, SOURCE, time.time_ns() // 1000)
        sent = await self._producer.send_and_wait(
            self._topic,
            command.model_dump_json(exclude_none=True).encode(),
            key=fingerprint.encode(),
            partition=0,
            headers=said,
        )
        return int(sent.offset)

    def _renew(self) -> None:
        """The next command gets a new producer: one that gave up a record counts wrongly from then on."""
        if self._producer is not None:
            leaving = asyncio.create_task(self._producer.stop())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self._producer = None

    async def close(self) -> None:
        """What is on its way is given a moment."""
        if self._producer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._producer.stop(), CLOSE_S)
