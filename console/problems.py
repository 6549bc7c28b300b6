"""Problems as RFC 9457 has them: what the console answers when something was not done."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Response
from fastapi.encoders import jsonable_encoder

from console import wire

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

MEDIA = "application/problem+json"


def problem(told: wire.Problem) -> Response:
    return Response(told.model_dump_json(), told.status, media_type=MEDIA)


async def of_http(_request: Request, error: HTTPException) -> Response:
    told = wire.Problem(
        title=HTTPStatus(error.status_code).phrase, status=error.status_code, detail=str(error.detail)
    )
    return problem(told)


async def of_validation(_request: Request, error: RequestValidationError) -> Response:
    """Every field at fault, without what was sent."""
    found = [
        {"where": ".".join(map(str, e["loc"])), "what": str(e["msg"])}
        for e in jsonable_encoder(error.errors())
    ]
    detail = "; ".join(f"{e['where']}: {e['what']}" for e in found)
    return problem(wire.Problem(title="Not understood", status=422, detail=detail, errors=tuple(found)))
