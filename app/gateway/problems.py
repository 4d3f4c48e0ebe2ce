"""Errors as problem+json (RFC 9457), and the HTTP status of each of our errors."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app import errors
from app.database import DATABASE_AWAY, is_disk_full
from app.gateway.responses import MEDIA_TYPE as EVENT_STREAM
from app.gateway.responses import come_back

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_STATUS: Mapping[type[errors.StellwerkError], int] = {
    errors.BadCursor: 400,
    errors.BadQuery: 400,
    errors.BadRequest: 400,
    errors.AccessDenied: 401,
    errors.MissingScope: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.CursorOutOfRange: 410,
    errors.EventTooLarge: 413,
    errors.TooMuchReported: 413,
    errors.BadInput: 422,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    errors.StellwerkError: 500,
}


_COUNTED = frozenset({401, 403, 404, 429})
"""Who asked for what may not be, or for what may not exist for them, is recorded."""


class Fault(BaseModel):
    """One thing that is wrong."""

    pointer: str = Field(description="JSON pointer to it in the answer; empty: the answer itself.")
    detail: str


class Waiting(BaseModel):
    """The question that a step asks now."""

    id: str = Field(description="Name it as the answer's `question`.")
    offset: int
    question: Any
    answer_schema: Any


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    type: str = Field(examples=["urn:stellwerk:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for.")
    earliest: int | None = Field(default=None, description="With 410 of a stream: the first offset that there is.")
    head: int | None = Field(default=None, description="With 410 of a stream: the last one.")
    cursor: str | None = Field(default=None, description="With 410: the cursor to start again from.")
    allowed: list[str] | None = Field(default=None, description="With `bad-query`: the names that there are.")
    open_question: Waiting | None = Field(default=None, description="With `wrong-question`: the one that waits.")
    errors: list[Fault] | None = Field(default=None, description="With `bad-answer`: what is wrong in it.")
    answer_schema: dict[str, Any] | None = Field(default=None, description="With `bad-answer`: what is wanted.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong and what to do about it",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def problem(
    status: int,
    detail: str,
    *,
    path: str,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> Response:
    title = kind or HTTPStatus(status).phrase
    slug = re.sub(r"(?<=[a-z])(?=[A-Z])|[^a-zA-Z]+", "-", title).lower()
    body = {
        "type": f"urn:stellwerk:problem:{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": _printable(detail),
        "instance": _printable(path),
        **more,
    }
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.StellwerkError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for database_error in DATABASE_AWAY:
        app.add_exception_handler(database_error, _on_database_away)
    app.add_exception_handler(Exception, on_bug)


async def _on_our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.StellwerkError)
    status = next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
    if status in _COUNTED:
        request.app.state.gateway.denials.count(request, status)
    if isinstance(error, errors.Unavailable) and EVENT_STREAM in request.headers.get("accept", ""):
        return come_back(request.app.state.gateway.streams, str(error))
    headers, more = dict[str, str](), dict[str, object]()
    match error:
        case errors.MissingScope():
            pass
        case errors.AccessDenied():
            headers["WWW-Authenticate"] = "Bearer"
        case errors.TooMany():
            headers["Retry-After"] = str(error.retry_after)
        case errors.Unavailable():
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        case errors.CursorOutOfRange():
            known = {"earliest": error.earliest, "head": error.head, "cursor": error.cursor}
            more = {name: value for name, value in known.items() if value is not None}
        case errors.BadQuery():
            more = {"allowed": error.allowed}
        case errors.WrongQuestion():
            more = {"open_question": error.open_question}
        case errors.BadAnswer():
            faults = [{"pointer": pointer, "detail": _printable(said)} for pointer, said in error.faults]
            more = {"errors": faults, "answer_schema": error.schema}
        case _:
            pass
    kind = type(error).__name__
    detail = request.app.state.gateway.backends.secrecy.text(str(error))
    return problem(status, detail, path=request.url.path, kind=kind, headers=headers, **more)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Without pydantic's `input`: what was sent may be large, secret, or no text at all.
    faults = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
    return problem(422, "; ".join([*dict.fromkeys(faults)][:10]), path=request.url.path, kind="InvalidRequest")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: "there is nothing at this address; /openapi.json lists what there is",
        405: f"{request.method} does not work here; the header Allow says what does",
    }
    detail = details.get(error.status_code, str(error.detail))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return problem(error.status_code, detail, path=request.url.path, headers=headers)


def _allowed(request: Request) -> str:
    """Starlette names only the methods of the first route on this path."""
    found = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(found)


async def _on_database_away(request: Request, error: Exception) -> Response:
    logger.warning("postgres is away", path=request.url.path, error=str(error))
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if is_disk_full(error):
        full = errors.DiskFull()
        return problem(503, str(full), path=request.url.path, kind=type(full).__name__, headers=headers)
    detail = "the database does not answer; try again"
    return problem(503, detail, path=request.url.path, kind="Unavailable", headers=headers)


async def on_bug(request: Request, error: Exception) -> Response:
    # Starlette raises it again, and the server logs it.
    detail = "something went wrong in the gateway; its log says what"
    return problem(500, detail, path=request.url.path)


def _printable(text: str) -> str:
    """A lone surrogate, as JSON may smuggle in, cannot be sent back."""
    return text.encode(errors="replace").decode()
