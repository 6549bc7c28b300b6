"""The console over HTTP: the page, the stream, questions, commands. Its answers are the shapes of `wire`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import AwareDatetime  # noqa: TC002 - FastAPI reads annotations when it runs
from starlette.exceptions import HTTPException

from console import hub, metrics, problems, wire
from console.find import Find, newest
from console.guard import Guard
from console.orders import RefusedError
from console.past import NoStoreError
from models.alarm import Alarm, Priority, State
from models.base import moment
from rules.explain import derive
from rules.story import story

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from starlette.types import Scope

    from console.alarms import Known
    from console.desk import Desk
    from console.orders import Orders
    from console.past import Past
    from models.alarm import AlarmEvent

DIST = Path(__file__).parent / "web" / "dist"

#: No command is longer.
MOST_BYTES = 64 * 1024

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>citywatch</title>
<p>The page is not built yet: run <code>make web</code> and load this again.
The API answers all the same: <a href="/api/city">/api/city</a>.</p></html>
"""

States = Annotated[list[State], Query(description="only these; may be said more than once, as all filters")]
Priorities = Annotated[list[Priority], Query()]
Words = Annotated[list[str], Query(max_length=20)]
Text = Annotated[str, Query(max_length=200, description="words in titles, places, labels, the rule's id")]
Limit = Annotated[int, Query(ge=1, le=5_000)]


def create(desk: Desk, past: Past, orders: Orders, host: str, names: Collection[str]) -> FastAPI:
    """The application over one desk, answering to browsers that know it as `host` or one of `names`."""
    app = FastAPI(
        title="citywatch console",
        summary="Alarms of the city as they stand, their history, and commands of operators.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        max_body_size=MOST_BYTES,
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        responses={"4XX": {"model": wire.Problem, "description": "why not, as RFC 9457 has it"}},
        exception_handlers={
            HTTPException: problems.of_http,
            RequestValidationError: problems.of_validation,
            RefusedError: _refused,
            NoStoreError: _no_store,
        },
    )
    app.add_middleware(Guard, host=host, names=names)
    _stream(app, desk)
    _questions(app, desk, past)
    _commands(app, orders)
    _about_us(app, desk)
    app.mount("/", _Page(directory=DIST, html=True, check_dir=False))
    return app


# --- the stream -------------------------------------------------------------------------------------------------------


def _stream(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/stream", response_class=StreamingResponse)
    async def stream(
        last_event_id: Annotated[str | None, Header()] = None,
        again: Annotated[str | None, Query(alias="last-event-id")] = None,
    ) -> StreamingResponse:
        """Everything as it stands, then each change (text/event-stream); after an id, what came since then."""
        return StreamingResponse(
            _frames(desk, last_event_id or again),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )


async def _frames(desk: Desk, place: str | None) -> AsyncIterator[bytes]:
    yield hub.HELLO
    subscriber = await desk.join(place)
    try:
        async for waiting in subscriber.frames():
            yield waiting
    finally:
        desk.hub.drop(subscriber)


# --- questions --------------------------------------------------------------------------------------------------------


def _questions(app: FastAPI, desk: Desk, past: Past) -> None:
    @app.get("/api/city")
    async def city() -> wire.City:
        """Rules, sensors and topics as they are set up."""
        return desk.city()

    @app.get("/api/health")
    async def health() -> wire.Health:
        """Whether what is shown can be believed."""
        return desk.health()

    @app.get("/api/latency")
    async def latency() -> dict[str, Any]:
        """Seconds from the record that caused a change of an alarm until subscribers were told of it, and a canary's whole way."""
        return {"alarm": desk.latency(), "canary": desk.canary_latency()}

    @app.get("/api/alarms")
    async def alarms(
        state: States = [],  # noqa: B006 - FastAPI copies it
        priority: Priorities = [],  # noqa: B006
        rule: Words = [],  # noqa: B006
        ward: Words = [],  # noqa: B006
        q: Text = "",
        limit: Limit = 1_000,
    ) -> wire.Alarms:
        """Alarms that the log still has, those that began last first."""
        find = Find(tuple(state), tuple(priority), tuple(rule), tuple(ward), q)
        return _cut(newest(filter(find, desk.alarms.all())), limit)

    @app.get("/api/history")
    async def history(
        state: States = [],  # noqa: B006
        priority: Priorities = [],  # noqa: B006
        rule: Words = [],  # noqa: B006
        ward: Words = [],  # noqa: B006
        q: Text = "",
        limit: Limit = 200,
        from_: Annotated[AwareDatetime | None, Query(alias="from")] = None,
        to: AwareDatetime | None = None,
    ) -> wire.Alarms:
        """Alarms that began in a span of time, of all logs that the store knows, the last first."""
        find = Find(tuple(state), tuple(priority), tuple(rule), tuple(ward), q, from_, to)
        return await _history(desk, past, find, limit)

    @app.get("/api/alarms/{alarm_id}")
    async def detail(alarm_id: str) -> wire.Detail:
        """All that is known of one alarm."""
        return await _detail(desk, past, await _known(desk, past, alarm_id))

    @app.get("/api/alarms/{alarm_id}/explain")
    async def explain(alarm_id: str) -> wire.Explanation:
        """Why there is this alarm, derived again from its own record."""
        return await _explained(past, await _known(desk, past, alarm_id))

    @app.get("/api/alarms/{alarm_id}/chart")
    async def chart(alarm_id: str) -> wire.Chart:
        """What was measured around one alarm."""
        alarm = (await _known(desk, past, alarm_id)).alarm
        return await past.chart(alarm, desk.rule(alarm.rule), desk.sensors.every(alarm.sensor), desk.now())


def _cut(found: list[wire.Alarm], limit: int, *, more: bool = False) -> wire.Alarms:
    return wire.Alarms(alarms=tuple(found[:limit]), more=more or len(found) > limit)


async def _history(desk: Desk, past: Past, find: Find, limit: int) -> wire.Alarms:
    """Of an alarm that both have, the memory's counts: the store is a little behind."""
    found = {alarm.alarm_id: alarm for alarm in desk.alarms.all()}
    more = False
    try:
        before, more = await past.before(desk, find, limit + 1, skip=found.keys())
    except NoStoreError:
        before = []  # /api/health says so
    here = [alarm for alarm in found.values() if find(alarm)]
    return _cut(newest([*here, *before]), limit, more=more)


async def _known(desk: Desk, past: Past, alarm_id: str) -> Known:
    known = desk.alarms.get(alarm_id)
    if known is not None:
        return known
    found = await past.alarms(desk, id_=alarm_id)
    if not found:
        raise HTTPException(404, f"There is no alarm {alarm_id}")
    return found[0]


async def _detail(desk: Desk, past: Past, known: Known) -> wire.Detail:
    alarm = known.alarm
    found = Alarm.model_validate_json(known.record)
    lines: dict[str, wire.Entry] = {}
    with contextlib.suppress(
        NoStoreError
    ):  # what the log has is shown; /api/health says that the store is away
        lines = await past.timeline(alarm.alarm_id, alarm.start)
    return wire.Detail(
        alarm=alarm,
        instruction=found.instruction,
        evidence=found.evidence,
        timeline=tuple((lines | desk.alarms.timeline(alarm.alarm_id)).values()),
        rule=desk.shown_rule(alarm.rule),
    )


async def _explained(past: Past, known: Known) -> wire.Explanation:
    found = Alarm.model_validate_json(known.record)
    history: list[AlarmEvent] = []
    with contextlib.suppress(NoStoreError):  # then the story has what the record alone can tell
        history = await past.history(found.alarm_id, found.start)
    problems = derive(found)
    return wire.Explanation(
        derives=not problems,
        problems=tuple(problems),
        story=tuple(
            wire.Sentence(at=None if line.at is None else moment(line.at), part=line.part, text=line.text)
            for line in story(found, history)
        ),
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands(app: FastAPI, orders: Orders) -> None:
    @app.post("/api/commands")
    async def command(ask: wire.Ask) -> wire.Done:
        """Done is what the broker has. 409: nothing is left to do; 503: not known, send it again as it is."""
        try:
            done = await orders.give(ask)
        except RefusedError as refused:
            metrics.COMMANDS.labels(metrics.VERDICTS.get(refused.problem.status, "refused")).inc()
            raise
        metrics.COMMANDS.labels("done").inc()
        return done


async def _refused(_request: Request, error: RefusedError) -> Response:
    return problems.problem(error.problem)


async def _no_store(_request: Request, error: NoStoreError) -> Response:
    return problems.problem(wire.Problem(title="The store does not answer", status=503, detail=str(error)))


# --- about ourselves, and the page ------------------------------------------------------------------------------------


def _about_us(app: FastAPI, desk: Desk) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def of_us(accept: Annotated[str, Header()] = "") -> Response:
        metrics.show(desk)
        encode, kind = choose_encoder(accept)
        return Response(encode(REGISTRY), headers={"Content-Type": kind})

    @app.get("/health", include_in_schema=False)
    async def alive() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/ready", include_in_schema=False)
    async def ready() -> PlainTextResponse:
        why = desk.unready()
        return PlainTextResponse(f"{why or 'ok'}\n", 200 if why is None else 503)


class _Page(StaticFiles):
    """The built page. A browser asks each time whether it is still the same, so that a new one is seen at once."""

    async def check_config(self) -> None:
        """The folder may come later: until then everything but the first page is not there."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path in (".", "index.html") and not (DIST / "index.html").is_file():
            return HTMLResponse(_NOT_BUILT)
        found = await super().get_response(path, scope)
        found.headers["Cache-Control"] = "no-cache"
        return found
