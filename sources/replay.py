"""Recorded input, fed to its topics with the stamps of its own time; whoever feeds is that world's only clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus import clients, headers
from bus.rejects import reject_line
from models import catalogue
from models.base import Micros, moment
from models.keys import partition_of
from sources.mapping import Bad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bus.clients import Feeder
    from bus.room import Room
    from sources.mapping import Fed, Item, Mapping

_TICK_US = 1_000_000


@dataclass
class Progress:
    """What was fed so far, by topic; `clock_us` is the last stamp."""

    events: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    clock_us: Micros = 0


@dataclass
class Replay:
    """Feeds the items of a mapping. `shift_us` moves every time; `pace` is recorded seconds a second (None: at once).

    In a world of its own (`live` false) a record's stamp is the item's; in the live one the broker's clock stamps it.
    """

    mapping: Mapping
    feeder: Feeder
    room: Room | None
    prefix: str
    live: bool = False
    pace: float | None = None
    shift_now: bool = False
    progress: Progress = field(default_factory=Progress)

    async def feed(self, items: Iterable[Item], now: Callable[[], Micros]) -> None:
        """Feed everything and wait until the broker has it. Raises NotAcknowledgedError."""
        loop = asyncio.get_running_loop()
        began: tuple[float, Micros] | None = None
        shift = 0
        for n, item in enumerate(items):
            if isinstance(item, Bad):
                await self._refuse(item, now())
            else:
                if began is None:
                    began = loop.time(), item.stamp_us
                    shift = now() - item.stamp_us if self.shift_now else 0
                if self.pace is not None:
                    ahead = (item.stamp_us - began[1]) / 1e6 / self.pace - (loop.time() - began[0])
                    if ahead > 0.01:
                        await self.feeder.flush()
                        await asyncio.sleep(ahead)
                await self._send(item, shift, now)
            if n % 200 == 0:
                await asyncio.sleep(0)
        await self.feeder.flush()

    async def _send(self, item: Fed, shift: Micros, now: Callable[[], Micros]) -> None:
        event = item.event
        if shift:
            event = event.model_copy(update={"observed_at": moment(event.at + shift)})
        topic = event.topic
        name = clients.name(self.prefix, topic.name)
        key, value = topic.key_of(event).encode(), event.wire()
        stamp = now() if self.live else item.stamp_us
        if self.room is not None:
            await self.room.take(name, partition_of(key, topic.partitions), len(value) + 250)
        said = headers.headers(event.event_id, topic.name, f"/{self.mapping.name}", event.at)
        await self.feeder.send(name, key, value, said, stamp // 1000)
        self.progress.events[topic.name] += 1
        self.progress.clock_us = max(self.progress.clock_us, stamp)

    async def _refuse(self, item: Bad, now: Micros) -> None:
        """A line that is no event is kept with its file, line and bytes; it moves no clock."""
        name = clients.name(self.prefix, catalogue.REJECTED)
        sending = reject_line(item.topic, item.file.name, item.line, item.raw, item.reason, item.detail)
        if self.room is not None:
            await self.room.take(name, 0, len(sending["value"]) + 250)
        await self.feeder.send(name, sending["key"], sending["value"], sending["headers"], now // 1000, 0)
        self.progress.bad[item.topic or "(unknown)"] += 1

    async def finish(self, late_us: Callable[[str], Micros]) -> None:
        """Let the clock of every partition of this feed pass the end by L, so that nothing more can change."""
        clock = headers.clock_record()
        for topic in sorted(self.mapping.topics()):
            stamp = self.progress.clock_us + late_us(topic) + _TICK_US
            for partition in range(catalogue.topics()[topic].partitions):
                name = clients.name(self.prefix, topic)
                await self.feeder.send(name, None, clock.value, clock.headers, stamp // 1000, partition)
        await self.feeder.flush()
