"""Keeps a producer within what its readers have committed, on a broker that forgets by volume."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bus import clients

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bus.clients import Partition

#: Of the 5 MiB that the embedded broker keeps of a partition, this much may wait for its slowest reader.
LIMIT_BYTES = 2 * 1024 * 1024
#: After this much was sent to a partition it is asked again how far the readers are.
_ASK_BYTES = 256 * 1024


class Room:
    """`await take(...)` before a send: it returns at once while there is room, and waits while there is none.

    `readers` are the groups that must have read a topic, by topic name. What waits is estimated from the readers'
    lag in records and the mean size of what was sent here.
    """

    def __init__(
        self, bootstrap: str, readers: Mapping[str, Sequence[str]], limit: int = LIMIT_BYTES
    ) -> None:
        self._bootstrap, self._readers, self._limit = bootstrap, readers, limit
        self._since: dict[Partition, int] = {}
        self._sent: dict[Partition, tuple[int, int]] = {}  # records, bytes

    async def take(self, topic: str, partition: int, size: int) -> None:
        place = (topic, partition)
        records, total = self._sent.get(place, (0, 0))
        self._sent[place] = (records + 1, total + size)
        self._since[place] = self._since.get(place, 0) + size
        if self._since[place] < _ASK_BYTES:
            return
        pause = 0.02
        while True:
            self._since[place] = 0
            waiting = await asyncio.to_thread(self._lag, place)
            records, total = self._sent[place]
            if waiting * (total / records) <= self._limit - _ASK_BYTES:
                return
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)

    def _lag(self, place: Partition) -> int:
        """Records of a partition that its slowest reader has not committed."""
        end = clients.end_offsets(self._bootstrap, [place])[place]
        slowest = end
        for group in self._readers[place[0]]:
            slowest = min(slowest, clients.committed(self._bootstrap, group, [place]).get(place, 0))
        return end - slowest
