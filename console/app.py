"""The console over HTTP: the page, the stream, questions. Its answers are the shapes of `wire`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Header, Query
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from console import hub, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from console.desk import Desk

DIST = Path(__file__).parent / "web" / "dist"

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>citywatch</title>
<p>The page is not built yet: run <code>make web</code> and load this again.
The API answers all the same: <a href="/api/city">/api/city</a>.</p></html>
"""


def create(desk: Desk) -> FastAPI:
    """The application over one desk."""
    app = FastAPI(title="citywatch console", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    @app.get("/api/city")
    async def city() -> wire.City:
        return desk.city()

    @app.get("/api/stream")
    async def stream(
        last_event_id: Annotated[str | None, Header()] = None,
        again: Annotated[str | None, Query(alias="last-event-id")] = None,
    ) -> StreamingResponse:
        return StreamingResponse(
            _frames(desk, again or last_event_id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    if DIST.is_dir():
        app.mount("/", StaticFiles(directory=DIST, html=True))
    else:

        @app.get("/", include_in_schema=False)
        async def not_built() -> HTMLResponse:
            return HTMLResponse(_NOT_BUILT)

    return app


async def _frames(desk: Desk, place: str | None) -> AsyncIterator[bytes]:
    yield hub.HELLO
    subscriber = await desk.join(place)
    try:
        async for waiting in subscriber.frames():
            yield waiting
    finally:
        desk.hub.drop(subscriber)
