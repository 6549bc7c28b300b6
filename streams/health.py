"""What a worker answers over HTTP: `/metrics`, `/health` (its event loop turns) and `/ready` (it does its work)."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoAnswerError
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from settings import SettingsError
from streams.metrics import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: An event loop that has not answered within this time does no work.
ANSWER_S = 5.0


class Answer(NamedTuple):
    """Status, content type and body."""

    status: int
    kind: str
    body: bytes


class Watch:
    """Answers for one worker from threads of its own, so that it answers while the event loop does not."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        unready: Callable[[], Awaitable[str | None]],
        wait_s: float = ANSWER_S,
    ) -> None:
        self.loop, self.unready, self.wait_s = loop, unready, wait_s

    def metrics(self, accept: str) -> Answer:
        encode, kind = choose_encoder(accept)
        return Answer(200, kind, encode(REGISTRY))

    def health(self, _accept: str) -> Answer:
        return self._ask(_nothing)

    def ready(self, _accept: str) -> Answer:
        return self._ask(self.unready)

    def _ask(self, unready: Callable[[], Awaitable[str | None]]) -> Answer:
        """Have the event loop say why not."""
        if not self.loop.is_running():
            return _says("the event loop does not run")

        async def ask() -> str | None:
            return await unready()

        asked = asyncio.run_coroutine_threadsafe(ask(), self.loop)
        try:
            return _says(asked.result(self.wait_s))
        except NoAnswerError:
            asked.cancel()
            return _says(f"no answer within {self.wait_s:g} s")
        except CancelledError:
            return _says("the worker is stopping")
        except Exception as error:  # noqa: BLE001 - whoever asks is told, whatever it is
            log.exception("cannot tell whether the worker is ready")
            return _says(f"{type(error).__name__}: {error}")

    def __call__(self, path: str, accept: str) -> Answer:
        page = {"/metrics": self.metrics, "/health": self.health, "/ready": self.ready}.get(path)
        if page is None:
            return Answer(404, _TEXT, b"there are /metrics, /health and /ready\n")
        return page(accept)


_TEXT = "text/plain; charset=utf-8"


def _says(why: str | None) -> Answer:
    return Answer(200 if why is None else 503, _TEXT, f"{why or 'ok'}\n".encode())


async def _nothing() -> str | None:
    return None


class _Server(ThreadingTCPServer):
    allow_reuse_address = True  # a worker that is started again finds its port
    daemon_threads = True


def serve(host: str, port: int, answer: Callable[[str, str], Answer]) -> _Server:
    """Serve from a thread of its own until `shutdown`. Raises SettingsError where the port cannot be had."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds; who connects and says nothing is let go

        def do_GET(self) -> None:
            found = answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
            self.send_response(found.status)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_args: object) -> None:
            """Who asks every few seconds is not worth a line each."""

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"metrics cannot be served at {host}:{port}: {error.strerror if isinstance(error, OSError) else error}; "
            "set CITYWATCH_METRICS__PORT to where four ports in a row are free (judge, store, alarms, ledger), or to 0"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
