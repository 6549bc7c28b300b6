"""Feeds the simulated city: into the city that runs, at its pace, or into a world of its own whose only clock it is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from bus import clients, headers
from models.base import moment
from models.catalogue import topics
from models.keys import partition_of
from sources.simulator.incidents import Truth
from sources.simulator.stream import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from bus.clients import Feeder, Partition
    from bus.room import Room
    from models.base import Micros
    from sources.simulator.stream import Sent

#: In a world of its own, time passes on every partition this often.
CLOCK_EVERY: Micros = 10_000_000
_SECOND: Micros = 1_000_000

#: Live, records are sent in batches this far apart: not felt, and cheap.
_BREATH_S = 0.05


@dataclass(frozen=True)
class Plan:
    """What to simulate. `pace` is simulated seconds a second (None: as fast as it is taken up); `until` None: for ever.

    `stage`: it begins with an incident.
    """

    seed: int
    start: Micros
    until: Micros | None = None
    load: float = 1.0
    pace: float | None = 1.0
    stage: bool = True


@dataclass
class Run:
    """One run of a plan. The truth goes line by line to `truth`, the records to the broker.

    `now` given: the running city's clock, which stamps the records and to which all times are moved. Without it the
    records bear the simulation's own stamps, and clock records let time pass where no sensor speaks.
    """

    plan: Plan
    feeder: Feeder
    room: Room | None
    prefix: str
    truth: IO[str]
    now: Callable[[], Micros] | None = None
    sent: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    clock_us: Micros = 0
    _heard: dict[Partition, Micros] = field(default_factory=dict)

    async def feed(self) -> None:
        """Feed until the end, or for ever; ends well when cancelled. Raises NotAcknowledgedError."""
        plan, loop = self.plan, asyncio.get_running_loop()
        shift = self.now() - plan.start if self.now is not None else 0
        self.clock_us = plan.start + shift
        self._write(
            {
                "what": "run", "seed": plan.seed, "start": _text(plan.start + shift), "load": plan.load,
                "simulated_start": _text(plan.start),
            }
        )  # fmt: skip
        began = loop.time()
        try:
            items = simulate(plan.seed, plan.start, plan.until, plan.load, shift, stage=plan.stage)
            for n, item in enumerate(items):
                if isinstance(item, Truth):
                    self.told[item.what] += 1
                    self._write({**item._asdict(), "start": _text(item.start), "end": _text(item.end)})
                    continue
                if plan.pace is not None:
                    due = began + (item.stamp_us - plan.start - shift) / 1e6 / plan.pace
                    if due > loop.time():
                        await self.feeder.flush()
                        await asyncio.sleep(max(_BREATH_S, due - loop.time()))
                await self._send(item)
                if n % 200 == 0:
                    await asyncio.sleep(0)
            await self.feeder.flush()
        finally:
            end = self.now() if self.now is not None else plan.until or self.clock_us
            self._write({"what": "end", "at": _text(end), "fed": dict(self.sent)})

    async def _send(self, item: Sent) -> None:
        topic = topics()[item.topic]
        name = clients.name(self.prefix, item.topic)
        if self.now is None:
            await self._time_passes(item.stamp_us)
        stamp = item.stamp_us if self.now is None else self.now()
        partition = partition_of(item.key, topic.partitions)
        if self.room is not None:
            await self.room.take(name, partition, len(item.value) + 250)
        said = headers.headers(item.event_id, item.topic, "/simulator", item.observed_us)
        await self.feeder.send(name, item.key, item.value, said, stamp // 1000)
        self.sent[item.topic] += 1
        self._heard[item.topic, partition] = stamp
        self.clock_us = max(self.clock_us, stamp)

    async def _time_passes(self, upto: Micros) -> None:
        """A clock record for every partition on which nothing was said for a while, so that silence has a time."""
        while (tick := self.clock_us - self.clock_us % CLOCK_EVERY + CLOCK_EVERY) <= upto:
            for topic in topics().values():
                for partition in range(topic.partitions):
                    if self._heard.get((topic.name, partition), 0) <= tick - CLOCK_EVERY:
                        await self._clock(topic.name, partition, tick)
            self.clock_us = tick

    async def _clock(self, topic: str, partition: int, stamp: Micros) -> None:
        name, clock = clients.name(self.prefix, topic), headers.clock_record()
        if self.room is not None:
            await self.room.take(name, partition, 100)
        await self.feeder.send(name, None, clock.value, clock.headers, stamp // 1000, partition)

    async def finish(self) -> None:
        """Let the clock of every partition pass the end by the topic's lateness, so that nothing more can change."""
        end = self.plan.until or self.clock_us
        for topic in topics().values():
            for partition in range(topic.partitions):
                await self._clock(topic.name, partition, end + topic.late_us + _SECOND)
        await self.feeder.flush()

    def _write(self, row: dict[str, Any]) -> None:
        self.truth.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.truth.flush()


def _text(at: Micros) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")
