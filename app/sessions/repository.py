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
    Approval,
    SessionRow,
    SessionView,
    StepView,
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


async def list_views(
    db: AsyncConnection,
    *,
    project: str | None,
    before: SessionId | None,
    limit: int,
    status: str | None,
    workflow: str | None,
) -> list[SessionView]:
    """Newest first: session ids are UUIDv7, which sort by time."""
    conditions = {
        "x.project = :project": project,
        "session_id < :before": before,
        "x.status = :status": status,
        "workflow = :workflow": workflow,
    }
    where = " AND ".join([condition for condition, value in conditions.items() if value is not None] or ["true"])
    rows = await db.execute(
        text(f"{_VIEW} WHERE {where} ORDER BY session_id DESC LIMIT :limit"),
        {"project": project, "before": before, "status": status, "workflow": workflow, "limit": limit},
    )
    return [SessionView(*row) for row in rows]


async def list_ids(db: AsyncConnection, *, before: SessionId | None, limit: int) -> list[SessionId]:
    """Newest first; `before` is the last id of the page before."""
    condition = "session_id < :before" if before else "true"
    rows = await db.scalars(
        text(f"SELECT session_id FROM sessions WHERE {condition} ORDER BY session_id DESC LIMIT :limit"),
        {"before": before, "limit": limit},
    )
    return [SessionId(row) for row in rows]


async def step_views(db: AsyncConnection, session_id: SessionId) -> tuple[StepView, ...]:
    """A running step's progress is the pct of its last report."""
    rows = await db.execute(
        text(
            "SELECT step, superstep, agent, queue, status, attempt, failures, lost, worker, error, question,"
            " commit, started_at, ended_at, CASE status WHEN 'succeeded' THEN 1.0 WHEN 'running' THEN ("
            "   SELECT (data ->> 'pct')::float FROM events e WHERE e.stream_id = p.session_id"
            "   AND e.t = 'agent_event' AND e.step = p.step ORDER BY \"offset\" DESC LIMIT 1) END"
            " FROM steps p WHERE session_id = :id ORDER BY step"
        ),
        {"id": session_id},
    )
    return tuple(StepView(*row) for row in rows)


async def waiting_approvals(
    db: AsyncConnection, session_id: SessionId | None, *, project: str | None
) -> list[Approval]:
    rows = await db.execute(
        text(
            "SELECT p.session_id, p.step, p.agent, x.task, p.question, p.ended_at, x.project,"
            " p.answer_schema FROM steps p JOIN sessions x USING (session_id) WHERE p.status = 'waiting'"
            f" AND {OF_PROJECT}"
            + (" AND p.session_id = :id" if session_id else "")
            + " ORDER BY p.ended_at, p.session_id, p.step"
        ),
        {"id": session_id, "project": project},
    )
    return [Approval(*row) for row in rows]


def as_json(value: Any) -> str:
    """JSON columns take text, so that our encoder writes them, not the driver's."""
    return orjson.dumps(value).decode()
