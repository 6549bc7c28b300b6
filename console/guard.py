"""Keeps other web pages, and whoever is not meant, away from the console: wraps the whole application."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from console import wire
from console.problems import problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Everything comes from here; styles may be set by scripts (Leaflet, uPlot), which this allows.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


class Guard:
    """Answers by itself what may not reach the application.

    A name in `Host` that is not ours is a page elsewhere whose name was made to point here (DNS rebinding). Where we
    listen on every address, any address is ours, and no name but those that were set.
    """

    def __init__(self, app: ASGIApp, host: str, names: Collection[str]) -> None:
        self._app = app
        self._anywhere = host in _ANYWHERE
        self._names = {"localhost", host.lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    said.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    said.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(scope["method"], Headers(scope=scope))
        if refused is not None:
            await problem(refused)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, method: str, said: Headers) -> wire.Problem | None:
        if not self._is_ours(said.get("host", "")):
            return _refuse(
                400,
                "Unknown host",
                "This console is not known by that name: reach it as localhost, or add the name to "
                "CITYWATCH_CONSOLE__NAMES",
            )
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        if said.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _refuse(415, "Not JSON", "Send Content-Type: application/json")
        if said.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or not _same_origin(said):
            return _refuse(403, "Another page's", "Commands are taken from the console's own page only")
        return None

    def _is_ours(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if _is_host(host) else ""
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._anywhere


def _is_host(text: str) -> bool:
    try:
        urlsplit(f"//{text}").port  # noqa: B018 - raises where it is no port
    except ValueError:
        return False
    return not set(text) & set("/?#@\\ ")


def _same_origin(said: Headers) -> bool:
    origin = said.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == said.get("host", "").lower()


def _refuse(status: int, title: str, detail: str) -> wire.Problem:
    return wire.Problem(title=title, status=status, detail=detail)
