"""Who is slow holds nobody up: a subscriber that does not read is cut off, a store that is slow has the fetch wait; memory stays flat."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import uvicorn
from faust.types import TP

from bus import headers
from console import hub, serve
from console.app import create
from console.desk import Desk
from models.base import moment
from models.traffic import TrafficFlow
from settings import Settings
from streams import store
from streams.store import WAITING, StoreWork

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

MB = 1024 * 1024
TOPIC = TrafficFlow.topic.name


def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def ask(port: int, room: int | None = None) -> socket.socket:
    """Open the stream as a browser does; `room`: for what it does not read."""
    found = socket.socket()
    if room is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    found.connect(("127.0.0.1", port))
    found.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    found.setblocking(False)
    return found


async def read(found: socket.socket, until: bytes) -> bytes:
    """What comes until this has come."""
    loop, got = asyncio.get_running_loop(), bytearray()
    while until not in got[-200_000:]:
        some = await loop.sock_recv(found, 1 << 20)
        assert some, "who reads is not cut off"
        got += some
    return bytes(got)


async def comes(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110 - it is looked at from outside
        await asyncio.sleep(0.01)


def test_a_subscriber_that_does_not_read_is_cut_off_and_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr(serve, "GONE_MS", 1_000)

    async def story() -> None:
        desk = Desk(Settings(), "log")
        desk.ready()
        listening = serve.listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        app = create(desk, SimpleNamespace(), SimpleNamespace(), "127.0.0.1", [])
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        async with asyncio.timeout(60):
            slow, fast = ask(port, 4096), ask(port)
            await comes(lambda: len(desk.hub.subscribers) == 2)
            reading = asyncio.create_task(read(fast, b"the last"))
            before, worst = rss(), 0.0
            for n in range(400):  # 40 MB
                text = f"{n} {'the last' if n == 399 else 'x' * 100_000}"
                told = hub.format_sse_event(event="health", data_str=text)
                began = time.monotonic()
                desk.hub.send(told)
                worst = max(worst, time.monotonic() - began)
                await asyncio.sleep(0.001)
                if n % 50 == 49:
                    await asyncio.sleep(0.2)  # on a busy machine who reads needs a moment, too
            got = await reading
            assert got.count(b"event: health") == 400, "who reads has all of it"
            assert desk.hub.overflows == 1
            assert len(desk.hub.subscribers) == 1
            assert worst < 0.5, "nobody waits for who does not read"
            assert rss() - before < 60, "what waits for it is bounded, and given up"
            await comes(
                lambda: len(server.server_state.connections) == 1
            )  # its connection, too, for it never reads again
            for one in (slow, fast):
                one.close()
            server.should_exit = True
            desk.hub.close()
            await serving

    asyncio.run(story())


class SlowStore:
    """Takes its time for each batch."""

    def __init__(self) -> None:
        self.points = 0

    async def write(self, points: list) -> None:
        await asyncio.sleep(0.02)
        self.points += len(points)

    async def keep(self, records: list) -> None:
        """Nothing is kept of what these tests feed."""


def test_a_slow_store_has_the_fetch_wait_and_memory_is_flat(monkeypatch):
    """Chunks wait in a queue of a fixed length; behind it the consumer's own buffers are bounded, and then Kafka keeps the rest."""

    async def story() -> None:
        target = SlowStore()
        app = SimpleNamespace(positions={})

        class Producer:
            async def start(self) -> None:
                """There is no broker."""

        monkeypatch.setattr(store.clients, "aio_producer", lambda _b: Producer())
        work = StoreWork(app, Settings(), "127.0.0.1:1", "log", target)
        running = asyncio.create_task(work.run())
        longest = before = 0.0
        for chunk in range(300):
            records = [record(chunk * 100 + n) for n in range(100)]
            await work.take(SimpleNamespace(tp=TP(TOPIC, 0), topic=TOPIC, value=records))
            longest = max(longest, work.queue.qsize())
            if chunk == 100:
                before = rss()
        assert longest <= WAITING
        assert rss() - before < 30
        await comes(lambda: app.positions.get(TP(TOPIC, 0)) == 30_000)
        assert target.points == 30_000
        running.cancel()

    asyncio.run(story())


def record(n: int) -> SimpleNamespace:
    at = 1_767_225_600_000 + n
    event = TrafficFlow(
        event_id=f"e{n}", source_id="t", observed_at=moment(at * 1000), segment_id="s", speed_kmh=5.0
    )
    return SimpleNamespace(
        topic=TOPIC, partition=0, offset=n, timestamp=at, key=b"s", value=event.wire(),
        headers=headers.headers(event.event_id, TOPIC, "/t", None),
    )  # fmt: skip
