"""Whether what is shown can be believed: how far broker, workers and store are, asked every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from bus import clients
from console import wire
from console.past import NoStoreError
from models import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bus.clients import Partition
    from console.desk import Desk
    from console.past import Past
    from settings import Settings

log = logging.getLogger("citywatch.console")

ROUND_S = 5.0
#: Who has not answered within this time does not answer.
ANSWER_S = 5.0

#: Workers save what they did every 15 s, so that much is no delay. Beyond `BAD_S` alarms come too late to be of use.
WARN_S, BAD_S = 45.0, 120.0


class Progress:
    """What one group still has to do: for each partition the ends that it has not committed, and when each was first seen."""

    def __init__(self) -> None:
        self._ends: dict[Partition, deque[tuple[int, float]]] = {}

    def see(
        self,
        begins: Mapping[Partition, int],
        ends: Mapping[Partition, int],
        committed: Mapping[Partition, int],
        now: float,
    ) -> float:
        """For how many seconds the oldest of them has waited."""
        oldest = now
        for place, end in ends.items():
            waiting = self._ends.setdefault(place, deque())
            if not waiting or waiting[-1][0] < end:
                waiting.append((end, now))
            done = max(committed.get(place, 0), begins.get(place, 0))
            while waiting and waiting[0][0] <= done:
                waiting.popleft()
            if waiting:
                oldest = min(oldest, waiting[0][1])
        return now - oldest


class Rounds:
    """Asks every part, and puts what it finds on the desk."""

    def __init__(self, settings: Settings, bootstrap: str, desk: Desk, past: Past) -> None:
        self.bootstrap, self.desk, self.past = bootstrap, desk, past
        prefix = settings.kafka.prefix
        self._topics = {
            "judge": _names(prefix, catalogue.topics()),
            "alarms": _names(prefix, [catalogue.ALARM_INPUT]),
            "store-worker": _names(
                prefix,
                [
                    *catalogue.topics(),
                    catalogue.REJECTED,
                    catalogue.ALARM_EVENT,
                    catalogue.ALARM_STATE,
                    catalogue.LEDGER,
                ],
            ),
            "ledger": _names(prefix, catalogue.topics()),
        }
        self._groups = {
            id_: f"{prefix}citywatch-{id_.removesuffix('-worker')}"
            for id_ in ("judge", "alarms", "store-worker", "ledger")
        }
        self._progress = {id_: Progress() for id_ in self._groups}
        self._places: dict[str, list[Partition]] = {}
        self._reader: Any = None
        self._admin: Any = None

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                await asyncio.gather(self._ask_log(), self._ask_store())
                self.desk.tell_health()
                await asyncio.sleep(ROUND_S)
        finally:
            await self._let_go()

    async def _ask_store(self) -> None:
        why: str | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.past.answers()
        except NoStoreError as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {ANSWER_S:g} s"
        level: wire.Level = "ok" if why is None else "bad" if self.past.may_be else "warn"
        self.desk.put_part(_part("store", level, None, why))

    async def _ask_log(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await self._offsets()
        except (KafkaError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            log.debug("the broker does not answer: %s", why)
            self.desk.put_part(_part("broker", "bad", None, why))
            for id_ in self._groups:
                self.desk.put_part(_part(id_, "bad", None, "not known while the broker does not answer"))
            await self._let_go()
            return
        begins, ends, committed = found
        self.desk.put_part(_part("broker", "ok", None, None))
        now = time.monotonic()
        for id_, progress in self._progress.items():
            mine = {place: ends[place] for place in self._mine(id_)}
            behind = progress.see(begins, mine, committed[id_], now)
            bad: wire.Level = "warn" if id_ == "ledger" else "bad"
            level: wire.Level = "ok" if behind < WARN_S else "warn" if behind < BAD_S else bad
            late = f"the group {self._groups[id_]} has not committed for {behind:.0f} s"
            self.desk.put_part(_part(id_, level, round(behind, 1), None if level == "ok" else late))

    def _mine(self, id_: str) -> list[Partition]:
        return [place for topic in self._topics[id_] for place in self._places.get(topic, ())]

    async def _offsets(
        self,
    ) -> tuple[dict[Partition, int], dict[Partition, int], dict[str, dict[Partition, int]]]:
        """Where every partition begins and ends, and what each group has committed."""
        if self._reader is None:
            self._admin, self._reader = (
                clients.aio_admin(self.bootstrap),
                clients.aio_consumer(self.bootstrap),
            )
            await self._admin.start()
            await self._reader.start()
            counts = await clients.aio_partitions_of(self._admin, set().union(*self._topics.values()))
            self._places = {topic: [(topic, n) for n in range(count)] for topic, count in counts.items()}
        places = [TopicPartition(*place) for found in self._places.values() for place in found]
        begins = _plain(await self._reader.beginning_offsets(places))
        committed = {
            id_: await clients.aio_group_offsets(self._admin, group, self._mine(id_))
            for id_, group in self._groups.items()
        }
        # Last, so that nothing is committed that is not among the ends.
        return begins, _plain(await self._reader.end_offsets(places)), committed

    async def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        admin, self._admin = self._admin, None
        if reader is not None:
            await reader.stop()
        if admin is not None:
            await admin.close()


def _plain(found: Mapping[TopicPartition, int]) -> dict[Partition, int]:
    return {(tp.topic, tp.partition): offset for tp, offset in found.items()}


def _names(prefix: str, topics: Iterable[str]) -> list[str]:
    return [clients.name(prefix, topic) for topic in topics]


def _part(id_: Any, level: wire.Level, behind_s: float | None, why: str | None) -> wire.Part:
    return wire.Part(id=id_, level=level, behind_s=behind_s, why=why)
