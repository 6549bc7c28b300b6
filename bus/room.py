"""Keeps a producer within what its readers have committed, on a broker that forgets by volume."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kafka import TopicPartition

from bus import clients

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bus.clients import Partition

#: Of the 5 MiB that the embedded broker keeps of a partition, this much may wait for its slowest reader.
LIMIT_BYTES = 3 * 1024 * 1024


class Room:
    """`await take(...)` before a send: it returns at once while there is room, and waits while there is none.

    `readers` are the groups that must have read a topic, by topic name. What waits is the readers' lag in records,
    as last asked, times the mean size of what was sent here, and all that was sent since.
    """

    def __init__(
        self, bootstrap: str, readers: Mapping[str, Sequence[str]], limit: int = LIMIT_BYTES
    ) -> None:
        self._readers, self._limit = readers, limit
        self._sent: dict[Partition, tuple[int, int]] = {}  # records and bytes, ever
        self._waiting: dict[Partition, float] = {}  # bytes that wait, estimated
        self._admin = clients.admin(bootstrap)
        self._consumer = clients.consumer(bootstrap)

    async def take(self, topic: str, partition: int, size: int) -> None:
        """Make room for `size` bytes."""
        place = (topic, partition)
        records, total = self._sent.get(place, (0, 0))
        self._sent[place] = (records + 1, total + size)
        self._waiting[place] = self._waiting.get(place, 0.0) + size
        pause = 0.02
        while self._waiting[place] > self._limit:
            lags = await asyncio.to_thread(self._lags, list(self._sent))
            for asked, lag in lags.items():
                n, volume = self._sent[asked]
                self._waiting[asked] = lag * volume / n
            if self._waiting[place] > self._limit / 2:
                await asyncio.sleep(pause)
                pause = min(0.2, pause * 1.5)

    def _lags(self, places: list[Partition]) -> dict[Partition, int]:
        """Records of each partition that its slowest reader has not committed."""
        tps = {place: TopicPartition(*place) for place in places}
        ends = self._consumer.end_offsets(list(tps.values()))
        lags = dict.fromkeys(places, 0)
        for group in {g for topic, _ in places for g in self._readers[topic]}:
            mine = [p for p in places if group in self._readers[p[0]]]
            at = clients.group_offsets(self._admin, group, mine)
            for place in mine:
                lags[place] = max(lags[place], ends[tps[place]] - at.get(place, 0))
        return lags

    def close(self) -> None:
        self._admin.close()
        self._consumer.close()
