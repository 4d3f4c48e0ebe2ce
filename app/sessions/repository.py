"""The SQL on sessions. Callers that write hold the stream's lock (events.append.lock_streams)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import DriverPool, call
from app.errors import NotFound
from app.events import arrays
from app.events.encoding import Item, Recorded
from app.events.types import AnyStreamId, SessionStatus
from app.progress import SessionId
from app.sessions.model import (
    Advance,
    SessionRow,
    SessionView,
    columns_of,
)

_SESSION_ROW = f"SELECT {columns_of(SessionRow)} FROM sessions WHERE session_id = :id"


async def session_row(db: AsyncConnection, session_id: SessionId) -> SessionRow:
    """Raises NotFound."""
    row = (await db.execute(text(_SESSION_ROW), {"id": session_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return SessionRow(*row)


async def status_of(db: AsyncConnection, session_id: AnyStreamId) -> SessionStatus | None:
    """None where there is no such session."""
    found: SessionStatus | None = await db.scalar(
        text("SELECT status FROM sessions WHERE session_id = :id"), {"id": session_id}
    )
    return found


async def status_and_project(db: AsyncConnection, session_id: AnyStreamId) -> tuple[SessionStatus, str] | None:
    """None where there is no such session."""
    row = (
        await db.execute(text("SELECT status, project FROM sessions WHERE session_id = :id"), {"id": session_id})
    ).one_or_none()
    return (row[0], row[1]) if row else None


async def set_status(db: AsyncConnection, session_id: SessionId, status: SessionStatus, reason: str | None) -> None:
    """Sets a status that is not terminal."""
    await db.execute(
        text("UPDATE sessions SET status = :status, reason = :reason, ended_at = NULL WHERE session_id = :id"),
        {"id": session_id, "status": status, "reason": reason},
    )


async def give_up_turn(db: AsyncConnection, session_id: SessionId) -> None:
    await db.execute(text("UPDATE sessions SET admitted_at = NULL WHERE session_id = :id"), {"id": session_id})


async def set_ended(
    db: AsyncConnection,
    session_id: SessionId,
    status: SessionStatus,
    reason: str | None,
    result: Any,
    final_state: bytes | None,
    ended_at: datetime,
) -> None:
    await db.execute(
        text(
            "UPDATE sessions SET status = :status, reason = :reason, result = :result, final_state = :state,"
            " repo_credentials = CASE WHEN :status = 'failed' THEN repo_credentials END,"  # it may be retried
            " ended_at = :ended_at WHERE session_id = :id"
        ),
        {
            "id": session_id,
            "status": status,
            "reason": reason,
            "result": None if result is None else as_json(result),
            "state": final_state,
            "ended_at": ended_at,
        },
    )


async def set_snapshot(db: AsyncConnection, session_id: SessionId, snapshot: bytes) -> None:
    await db.execute(
        text("UPDATE sessions SET snapshot = :snapshot WHERE session_id = :id"),
        {"id": session_id, "snapshot": snapshot},
    )


_COMMIT_FOLD = (
    "SELECT goes_on, first_offset, ts FROM commit_fold(%b, %b, %b, %b, %b, %b,"
    " %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::integer[], %b::bigint[], %b, %b,"
    " %b::text[], %b::text[], %b::text[], %b::text[], %b::integer[], %b::integer[], %b::bytea[])"
)


async def commit_fold(
    db: DriverPool | AsyncConnection,
    session: SessionRow,
    advance: Advance,
    *,
    goes_on: Item,
    events: Sequence[Item],
) -> list[Recorded] | None:
    """Goes on from `session` as it was folded; None when it is not as it was, has ended or is paused.

    The SQL function takes the stream's lock itself. The new steps are numbered from `session.last_step` + 1;
    `goes_on` is appended first if the session did not run.
    """
    steps = advance.steps
    found = await call(
        db,
        _COMMIT_FOLD,
        (
            *(session.session_id, session.snapshot_version, advance.snapshot, session.next_superstep),
            *(advance.base_commit, session.last_step + 1),
            [step.task_path for step in steps],
            [step.agent for step in steps],
            [step.queue for step in steps],
            [None] * len(steps),  # a question has an id once the node has asked it
            [step.input for step in steps],
            [step.max_attempts for step in steps],
            [step.time_limit // timedelta(milliseconds=1) for step in steps],
            *(goes_on.data, *arrays.salts(1)),
            *arrays.columns(events),
        ),
    )
    for has_gone_on, first, ts in found:
        return arrays.numbered([goes_on, *events] if has_gone_on else events, first or 0, ts)
    return None


OF_PROJECT = "(CAST(:project AS text) IS NULL OR x.project = :project)"
_VIEW = (
    "SELECT session_id, x.status, reason, task, workflow, workflow_version, path,"
    r" regexp_replace(repo, '^(https?://)[^/]*@', '\1'),"  # the version before 0011 recorded credentials
    " priority, principal,"
    " (SELECT max(epoch) FROM epochs), earliest, head, created_at, ended_at, result, x.project, continues"
    " FROM sessions x JOIN streams s ON s.stream_id = x.session_id"
)


async def session_view(db: AsyncConnection, session_id: SessionId, *, project: str | None = None) -> SessionView:
    """Returns the session without its steps. Raises NotFound, also for one of another project than `project`."""
    query = f"{_VIEW} WHERE session_id = :id AND {OF_PROJECT}"
    row = (await db.execute(text(query), {"id": session_id, "project": project})).one_or_none()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return SessionView(*row)


async def list_ids(db: AsyncConnection, *, before: SessionId | None, limit: int) -> list[SessionId]:
    """Newest first; `before` is the last id of the page before."""
    condition = "session_id < :before" if before else "true"
    rows = await db.scalars(
        text(f"SELECT session_id FROM sessions WHERE {condition} ORDER BY session_id DESC LIMIT :limit"),
        {"before": before, "limit": limit},
    )
    return [SessionId(row) for row in rows]


def as_json(value: Any) -> str:
    """JSON columns take text, so that our encoder writes them, not the driver's."""
    return orjson.dumps(value).decode()
