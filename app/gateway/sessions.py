"""Sessions: create, list, look, cancel, retry, and take the result."""

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.config import Settings
from app.errors import BadPath
from app.events.types import SessionStatus, StreamId
from app.gateway.callers import ToOperate, ToRead, ToSubmit
from app.gateway.inputs import (
    Body,
    IdempotencyKey,
    ProjectInQuery,
    Reason,
    RequestId,
    SessionIdInPath,
    Text,
)
from app.gateway.session_request import SessionRequest
from app.gateway.streaming.filters import session_statuses_of
from app.gateway.streaming.parameters import SessionStatuses
from app.gateway.wiring import Wired
from app.principals.model import Once
from app.progress import SessionId
from app.sessions import control, service
from app.sessions.lists import ListedSession
from app.sessions.model import SessionView

router = APIRouter(prefix="/sessions", tags=["sessions"])


class CreatedSession(BaseModel):
    session_id: SessionId
    status: SessionStatus
    epoch: int = Field(description="The life of the database's offsets, to which `head` belongs.")
    head: int
    events: str = Field(description="Where its events are read.")


class SessionPage(BaseModel):
    sessions: list[ListedSession]
    next: SessionId | None = Field(description="Pass it as `before` for the next page; null at the end.")


class Asked(Body):
    reason: Reason = None


@router.post("", status_code=201, responses={200: {"description": "Repeated key", "model": CreatedSession}})
async def create_session(
    gateway: Wired,
    principal: ToSubmit,
    new: SessionRequest,
    response: Response,
    request_id: RequestId,
    key: IdempotencyKey = None,
) -> CreatedSession:
    """Starts a workflow on a task."""
    if new.path is not None:
        await asyncio.to_thread(check_path, new.path, gateway.settings)
    view, is_new = await service.create_session(
        gateway.backends,
        new.asked(),
        principal=principal,
        project=new.project,
        idempotency_key=key,
        request_id=request_id,
    )
    response.status_code = 201 if is_new else 200
    events = f"/sessions/{view.session_id}/events"
    response.headers["Location"] = f"/sessions/{view.session_id}"
    return CreatedSession(
        session_id=view.session_id, status=view.status, epoch=view.epoch, head=view.head, events=events
    )


@router.get("")
async def list_sessions(
    gateway: Wired,
    principal: ToRead,
    before: Annotated[SessionId | None, Query(description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    status: SessionStatuses = None,
    workflow: Annotated[Text | None, Query(max_length=200)] = None,
    project: ProjectInQuery = None,
) -> SessionPage:
    """Newest first, without steps and results, and with no more of a task than its beginning."""
    found = await service.list_sessions(
        gateway.backends,
        principal=principal,
        project=project,
        before=before,
        limit=limit,
        statuses=session_statuses_of(status or ()),
        workflow=workflow,
    )
    return SessionPage(sessions=found, next=found[-1].session_id if len(found) == limit else None)


@router.get("/{session_id}")
async def get_session(gateway: Wired, principal: ToRead, session_id: SessionIdInPath) -> SessionView:
    """One session with its steps."""
    return await service.get_session(gateway.backends, session_id, principal=principal)


@router.post("/{session_id}/cancel")
async def cancel_session(
    gateway: Wired,
    principal: ToOperate,
    session_id: SessionIdInPath,
    request_id: RequestId,
    new: Asked | None = None,
    key: IdempotencyKey = None,
) -> SessionView:
    """Ends it, and its open steps with it."""
    reason = new.reason if new else None
    once = Once.of(key, "cancel", str(session_id), reason)
    return await control.cancel_session(
        gateway.backends, session_id, principal=principal, reason=reason, request_id=request_id, once=once
    )


@router.post("/{session_id}/retry")
async def retry_session(
    gateway: Wired,
    principal: ToOperate,
    session_id: SessionIdInPath,
    request_id: RequestId,
    new: Asked | None = None,
    key: IdempotencyKey = None,
) -> SessionView:
    """Takes a failed session up from its failed step, in the same log."""
    reason = new.reason if new else None
    once = Once.of(key, "retry", str(session_id), reason)
    return await control.retry_session(
        gateway.backends, session_id, principal=principal, reason=reason, request_id=request_id, once=once
    )


class NewTicket(Body):
    expires_in: Annotated[int, Field(strict=True, ge=1, le=24 * 3600, description="Seconds, at most a day.")] = (
        24 * 3600
    )
    reason: Reason = None


class Granted(BaseModel):
    ticket: str
    expires_at: datetime
    events: str = Field(description="The stream's address with the ticket in it, for EventSource.")


@router.post("/{session_id}/tickets", status_code=201)
async def create_ticket(
    gateway: Wired,
    principal: ToRead,
    session_id: SessionIdInPath,
    request_id: RequestId,
    asked: NewTicket | None = None,
) -> Granted:
    """Lets a browser's EventSource read this one stream; the ticket ends with the key that asked for it."""
    asked = asked or NewTicket()
    expires = int(time.time()) + asked.expires_in
    expires_at = datetime.fromtimestamp(expires, UTC)
    await control.grant_ticket(
        gateway.backends,
        session_id,
        principal=principal,
        expires_at=expires_at,
        reason=asked.reason,
        request_id=request_id,
    )
    ticket = gateway.access.ticket_for(principal, StreamId(session_id), expires=expires)
    return Granted(ticket=ticket, expires_at=expires_at, events=f"/sessions/{session_id}/events?ticket={ticket}")


@router.get(
    "/{session_id}/patch",
    response_class=Response,
    responses={
        200: {"description": "A patch for `git apply`", "content": {"text/x-diff": {"schema": {"type": "string"}}}},
        204: {"description": "Nothing was changed"},
    },
)
async def read_patch(gateway: Wired, principal: ToRead, session_id: SessionIdInPath) -> Response:
    """What the session changed."""
    patch = await service.read_patch(gateway.backends, session_id, principal=principal)
    if patch is None:
        return Response(status_code=204)
    return Response(patch, media_type="text/x-diff")


def check_path(path: str, settings: Settings) -> None:
    """Raises BadPath unless `path`, its links resolved, lies below an allowed directory.

    The worker, which may see other links, checks again.
    """
    if settings.paths is None and settings.on_loopback:
        return
    if not settings.paths:
        raise BadPath("this gateway takes no paths; name directories in STELLWERK_PATHS, or give a repo")
    resolved = os.path.realpath(path)
    if not any(_is_below(resolved, os.path.realpath(allowed)) for allowed in settings.paths):
        allowed = ", ".join(map(str, settings.paths))
        raise BadPath(f"the path must lie below {allowed} (STELLWERK_PATHS)")


def _is_below(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory
