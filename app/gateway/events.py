"""Reading the events of a session or of all, live or in pages, and reporting from outside."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.errors import AccessDenied
from app.events.artifacts import get_artifact
from app.events.cursors import Cursor
from app.events.proof import export
from app.events.read import stream_state
from app.gateway.callers import ByStep, ToFollow, ToRead
from app.gateway.inputs import Appended, Body, IdempotencyKey, JsonObject, Number, SessionIdInPath, Text
from app.gateway.query import refuse_parameters, wants_stream
from app.gateway.streaming.endpoint import event_stream
from app.gateway.streaming.feed import feed_page, feed_stream
from app.gateway.streaming.pages import (
    FEED_RESPONSES,
    OF_PAGES,
    OF_STREAMS,
    ONE,
    ONLY_STREAMS,
    RESPONSES,
    one_event,
    stream_or_page,
)
from app.gateway.streaming.parameters import AskedManner, AskedPage, AskedStart, IdInPath, Limit, StartOfFeed
from app.gateway.wiring import Wired
from app.principals.model import check_readable
from app.progress import Phase, Report, SessionId
from app.sessions import reports

router = APIRouter(tags=["events"])

Ticket = Annotated[str | None, Query(description="From `POST /sessions/{session_id}/tickets`.", max_length=200)]


@router.get(
    "/events",
    response_class=Response,
    responses=FEED_RESPONSES,
)
@router.head("/events", include_in_schema=False)
async def follow_events(
    request: Request,
    gateway: Wired,
    principal: ToFollow,
    asked: AskedStart,
    start_of_feed: StartOfFeed,
    manner: AskedManner,
    session_id: Annotated[SessionId | None, Query(description="Of this session; without it, the feed of all.")] = None,
    limit: Limit = 100,
    ticket: Ticket = None,
) -> Response:
    """Follows a session from any offset, or all that one may see: what there is, then what comes."""
    if session_id is not None:
        refuse_parameters(request, "project", "workflow", "status", because="filters the feed; leave session_id out")
        refuse_parameters(request, "limit", because=OF_PAGES)
        return await event_stream(gateway, principal, session_id, asked.of_stream(), manner)
    refuse_parameters(request, "epoch", because="is of a session's stream; cursors of the feed have their epoch")
    if wants_stream(request):
        return await feed_stream(gateway, principal, start_of_feed(), manner)
    refuse_parameters(request, *OF_STREAMS, because=ONLY_STREAMS)
    return await feed_page(gateway, principal, start_of_feed(), limit)


@router.get(
    "/sessions/{session_id}/events",
    response_class=Response,
    responses=RESPONSES,
)
@router.head("/sessions/{session_id}/events", include_in_schema=False)
async def read_events(
    request: Request,
    gateway: Wired,
    principal: ToFollow,
    session_id: SessionIdInPath,
    asked: AskedPage,
    manner: AskedManner,
    ticket: Ticket = None,
) -> Response:
    """The next events after a cursor, or the last ones before one."""
    return await stream_or_page(request, gateway, principal, session_id, asked, manner)


@router.get("/sessions/{session_id}/events/{offset}", response_class=Response, responses=ONE)
async def read_event(gateway: Wired, principal: ToRead, session_id: SessionIdInPath, offset: IdInPath) -> Response:
    """One event, by the id that the stream gives it."""
    return await one_event(gateway, principal, session_id, Cursor.parse(offset, what="the event's id"))


class NewReport(Body):
    """The arguments of `report_progress`."""

    progress: Annotated[Number, Field(allow_inf_nan=False)]
    message: Annotated[Text, Field(max_length=100_000)]
    total: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = 1.0
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
    return Appended(offset=await reports.append_report(gateway.backends, token, said, dedupe_key=key))


@router.get(
    "/sessions/{session_id}/artifacts/{digest}",
    response_class=Response,
    responses={200: {"description": "The content", "content": {"*/*": {}}}},
)
async def read_artifact(
    gateway: Wired,
    principal: ToRead,
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
async def export_session(gateway: Wired, principal: ToRead, session_id: SessionIdInPath) -> Response:
    """All events with digests, salts, chain and artifacts: a file that proves itself."""
    async with gateway.engine.connect() as db:
        state = check_readable(principal, await stream_state(db, session_id))
    name = f'attachment; filename="{session_id}.jsonl"'
    lines = gateway.access.while_it_holds(principal, export.export(gateway.engine, state))
    return StreamingResponse(lines, media_type=export.MEDIA_TYPE, headers={"Content-Disposition": name})
