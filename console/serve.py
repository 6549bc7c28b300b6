"""The console's process: one event loop that follows the log and answers browsers."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from console.app import create
from console.desk import Desk
from console.health import Rounds
from console.orders import Orders
from console.past import Past
from console.tail import Tail
from console.watch import Watch
from settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from settings import Settings

log = logging.getLogger("citywatch.console")

#: How long open requests may take when we are told to stop.
STOP_S = 1

#: Who takes nothing of what is sent for so long has its connection closed; what it missed it asks for when it is back.
GONE_MS = 60_000

#: Between two looks at all sensors.
SEEN_S = 1.5


class _Server(uvicorn.Server):
    """Ends the streams first: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._desk.hub.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # those that connect inherit it
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_MS)
    try:
        found.bind((host, port))
        found.listen(512)
    except (OSError, OverflowError) as error:
        found.close()
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"the console cannot listen at {host}:{port}: {why}; give another --port, or set CITYWATCH_CONSOLE__PORT"
        ) from None
    return found


def run(settings: Settings, bootstrap: str, log_id: str | None) -> None:
    """Serve until told to stop by a signal. Raises SettingsError where the port cannot be had."""
    asyncio.run(_run(settings, bootstrap, log_id))


async def _run(settings: Settings, bootstrap: str, log_id: str | None) -> None:
    host, port = settings.console.host, settings.console.port
    listening = listen(host, port)
    desk, past = Desk(settings, log_id), Past(settings)
    orders = Orders(settings, bootstrap, desk, past)
    config = uvicorn.Config(
        create(desk, past, orders, host, list(filter(None, settings.console.names.split(",")))),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config, desk)
    asking = Rounds(settings, bootstrap, desk, past)
    rounds = [
        asyncio.create_task(Tail(settings, bootstrap, desk, past).run()),
        asyncio.create_task(asking.run()),
        asyncio.create_task(Watch(settings, bootstrap, desk).run()),
        asyncio.create_task(past.tell(desk)),
        asyncio.create_task(_every(SEEN_S, desk.tell_seen)),
    ]
    for one in rounds:
        one.add_done_callback(lambda done: _ended(server, done))
    shown = f"[{host}]" if ":" in host else host
    print(f"citywatch: console at http://{shown}:{port}", file=sys.stderr, flush=True)
    try:
        await server.serve([listening])
    finally:
        for one in rounds:
            one.cancel()
        ends = await asyncio.gather(*rounds, return_exceptions=True)
        await asyncio.gather(orders.close(), past.close(), return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


def _ended(server: uvicorn.Server, done: asyncio.Task[None]) -> None:
    """A part that failed takes the process with it: whoever started us starts us again."""
    if not done.cancelled() and done.exception() is not None:
        server.should_exit = True


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()
