"""Reading the events of a session or of all, live or in pages, and reporting from outside."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.errors import AccessDenied
from app.events.artifacts import get_artifact
from app.events.cursors import Cursor
from app.events.proof import export
from app.events.read import read_page, stream_state
from app.events.types import AnyStreamId
from app.gateway.access import ByPrincipal, ByStep
from app.gateway.inputs import Appended, Body, IdempotencyKey, JsonObject, SessionIdInPath, Text
from app.gateway.streaming.endpoint import MEDIA_TYPE, event_stream, resolve
from app.gateway.streaming.feed import feed_page, feed_stream
from app.gateway.streaming.parameters import AskedStart, StartOfFeed, StartOfReading
from app.gateway.wiring import Gateway, Wired
from app.principals.model import Principal, check_readable
from app.progress import Phase, Report, SessionId
from app.sessions import service

router = APIRouter(tags=["events"])

# What a parser gives for each frame; `data` of an event's frame is one `Event` as JSON.
_FRAME = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The cursor: an offset, or a place in the feed."},
        "event": {"type": "string", "description": "`stream`, `reset`, `end`, or an event's t without `_event`."},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer", "description": "Milliseconds before coming back."},
    },
}
_SSE = {"itemSchema": _FRAME}
_PAGE = {"schema": {"$ref": "#/components/schemas/EventPage"}}
_FEED_PAGE = {"schema": {"$ref": "#/components/schemas/FeedPage"}}
_CLOSED = {"description": "The stream is closed and holds nothing more: do not come back"}


@router.get(
    "/events",
    response_class=Response,
    responses={
        200: {
            "description": "A live stream; of the feed without `Accept: text/event-stream` a page",
            "content": {"text/event-stream": _SSE, "application/json": _FEED_PAGE},
        },
        204: _CLOSED,
    },
)
@router.head("/events", include_in_schema=False)
async def follow_events(
    request: Request,
    gateway: Wired,
    principal: ByPrincipal,
    asked: AskedStart,
    start_of_feed: StartOfFeed,
    session_id: Annotated[SessionId | None, Query(description="Of this session; without it, the feed of all.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a page of the feed.")] = 100,
) -> Response:
    """Follows a session from any offset, or all that one may see: what there is, then what comes."""
    if session_id is not None:
        return await event_stream(gateway, principal, session_id, asked.of_stream())
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return await feed_stream(gateway, principal, start_of_feed())
    return await feed_page(gateway, principal, start_of_feed(), limit)


@router.get(
    "/sessions/{session_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "A page, or with `Accept: text/event-stream` a live stream",
            "content": {"application/json": _PAGE, "text/event-stream": _SSE},
        },
        204: _CLOSED,
    },
)
@router.head("/sessions/{session_id}/events", include_in_schema=False)
async def read_events(
    request: Request,
    gateway: Wired,
    principal: ByPrincipal,
    session_id: SessionIdInPath,
    start: StartOfReading,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The next events after the cursor."""
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return await event_stream(gateway, principal, session_id, start)
    return await _page(gateway, principal, session_id, start, limit)


async def _page(
    gateway: Gateway, principal: Principal, stream_id: AnyStreamId, start: StartOfReading, limit: int
) -> Response:
    """Built from the stored text: a page holds the very bytes that streams carry."""
    async with gateway.snapshot() as db:
        opening = await resolve(db, principal, stream_id, start)
        if opening.reset is not None:
            raise opening.reset
        state = opening.state
        events = await read_page(db, state, after=opening.after, limit=limit, only=opening.only)
    # After the last event of a page that is not full, there is nothing up to the head that matches.
    reached = events[-1].offset if len(events) == limit else max(state.head, opening.after)
    head = {
        "epoch": state.epoch,
        "earliest": state.earliest,
        "head": state.head,
        "head_chain": state.head_chain.hex(),
        "next": str(Cursor(state.epoch, reached)),
        "status": state.status,
        "closed": state.closed,
    }
    joined = ",".join(event.wire() for event in events)
    return Response(f'{{"events":[{joined}],{orjson.dumps(head).decode()[1:]}', media_type="application/json")


class NewReport(Body):
    """The arguments of `report_progress`."""

    progress: Annotated[float, Field(allow_inf_nan=False)]
    message: Annotated[Text, Field(max_length=100_000)]
    total: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.0
    agent: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    phase: Phase | None = None
    details: JsonObject = Field(default_factory=dict)


@router.post("/sessions/{session_id}/events", status_code=201)
async def report(
    gateway: Wired, token: ByStep, session_id: SessionIdInPath, new: NewReport, key: IdempotencyKey = None
) -> Appended:
    """Reports progress from a subprocess of a step, by the step's token, as long as its lease lives."""
    if token.session_id != session_id:
        raise AccessDenied("this token belongs to another session")
    said = Report(
        agent=new.agent or token.agent,
        message=new.message,
        progress=new.progress,
        total=new.total,
        phase=new.phase or "progress",
        details=new.details,
    )
    return Appended(offset=await service.append_report(gateway.backends, token, said, dedupe_key=key))


@router.get(
    "/sessions/{session_id}/artifacts/{digest}",
    response_class=Response,
    responses={200: {"description": "The content", "content": {"*/*": {}}}},
)
async def read_artifact(
    gateway: Wired,
    principal: ByPrincipal,
    session_id: SessionIdInPath,
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 in hexadecimal.")],
) -> Response:
    """A content too large for an event, as an event's `$artifact` names it."""
    async with gateway.engine.connect() as db:
        check_readable(principal, await stream_state(db, session_id))
        artifact = await get_artifact(db, session_id, bytes.fromhex(digest))
    return Response(artifact.content, media_type=artifact.media_type, headers={"Content-Disposition": "attachment"})


@router.get(
    "/sessions/{session_id}/export",
    response_class=Response,
    responses={200: {"description": "JSON lines for `stellwerk verify`", "content": {export.MEDIA_TYPE: {}}}},
)
async def export_session(gateway: Wired, principal: ByPrincipal, session_id: SessionIdInPath) -> Response:
    """All events with digests, salts, chain and artifacts: a file that proves itself."""
    async with gateway.engine.connect() as db:
        state = check_readable(principal, await stream_state(db, session_id))
    name = f'attachment; filename="{session_id}.jsonl"'
    lines = export.export(gateway.engine, state)
    return StreamingResponse(lines, media_type=export.MEDIA_TYPE, headers={"Content-Disposition": name})
