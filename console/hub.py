"""Who listens to the stream: each event is written once, and waits in a bounded queue for every subscriber."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from fastapi.sse import format_sse_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import BaseModel

#: What may wait for one subscriber. A browser that is further behind is cut off and resumes by the id it has.
MOST_FRAMES, MOST_BYTES = 5_000, 8 * 1024 * 1024

#: The first words to every subscriber: to come back after a second.
HELLO = format_sse_event(retry=1_000, comment="citywatch")


def frame(event: str, data: BaseModel, id_: str | None = None) -> bytes:
    """An event of the stream as it goes out."""
    return format_sse_event(event=event, data_str=data.model_dump_json(by_alias=True), id=id_)


class Subscriber:
    """One open stream: what it is yet to be sent, in order. What overflows ends it: there is never a silent gap."""

    def __init__(self, most_frames: int = MOST_FRAMES, most_bytes: int = MOST_BYTES) -> None:
        self._most_frames, self._most_bytes = most_frames, most_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self.ended = False
        self.overflowed = False

    def offer(self, *frames: bytes) -> None:
        if self.ended:
            return
        size = sum(map(len, frames))
        too_many = (
            len(self._frames) + len(frames) > self._most_frames or self._bytes + size > self._most_bytes
        )
        if self._frames and too_many:  # a snapshot may be larger: it is all that waits
            self.overflowed = True
            self.end()
            return
        self._frames.extend(frames)
        self._bytes += size
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._frames.clear()
        self._news.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """What waits, joined, each time there is something; ends when the subscriber does."""
        while not self.ended:
            await self._news.wait()
            self._news.clear()
            waiting = b"".join(self._frames)
            self._frames.clear()
            self._bytes = 0
            if waiting:
                yield waiting


class Hub:
    """All subscribers. Closed, it takes no more."""

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self.overflows = 0
        self.closed = False

    def add(self, subscriber: Subscriber) -> None:
        if self.closed:
            subscriber.end()
        else:
            self.subscribers.add(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)

    def send(self, one: bytes) -> None:
        for subscriber in list(self.subscribers):
            subscriber.offer(one)
            if subscriber.overflowed:
                self.overflows += 1
                self.drop(subscriber)

    def close(self) -> None:
        self.closed = True
        for subscriber in self.subscribers:
            subscriber.end()
        self.subscribers.clear()
