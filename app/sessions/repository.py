"""The SQL on sessions and workflows. Callers that write hold the stream's lock (events.log.lock_streams)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.events.types import SessionStatus
from app.progress import SessionId
from app.sessions.model import Approval, NewSession, SessionView, StepView

ADMISSION_LOCK = 5_906_120_448_261_733
"""Any constant that nothing else in the database takes as an advisory lock."""

# --- workflows


@dataclass(frozen=True, slots=True)
class RegisteredWorkflow:
    name: str
    version: str
    langgraph_version: str
    input_fields: list[str]


async def register_workflows(db: AsyncConnection, registered: Sequence[RegisteredWorkflow]) -> None:
    """Also tells that this worker still serves them (`last_seen`)."""
    for workflow in sorted(registered, key=lambda w: (w.name, w.version)):
        await db.execute(
            text(
                "INSERT INTO workflows AS w (name, version, langgraph_version, input_fields)"
                " VALUES (:name, :version, :langgraph, :fields)"
                " ON CONFLICT (name, version) DO UPDATE SET last_seen = clock_timestamp(),"
                " langgraph_version = excluded.langgraph_version, input_fields = excluded.input_fields"
            ),
            {
                "name": workflow.name,
                "version": workflow.version,
                "langgraph": workflow.langgraph_version,
                "fields": workflow.input_fields,
            },
        )


async def newest_workflow(db: AsyncConnection, name: str) -> RegisteredWorkflow | None:
    """The version for new sessions: of those that a live worker serves, the one registered last."""
    row = (
        await db.execute(
            text(
                "SELECT name, version, langgraph_version, input_fields FROM workflows WHERE name = :name"
                " ORDER BY last_seen > clock_timestamp() - interval '2 minutes' DESC, registered_at DESC LIMIT 1"
            ),
            {"name": name},
        )
    ).one_or_none()
    return RegisteredWorkflow(*row) if row else None


async def workflow_names(db: AsyncConnection) -> list[str]:
    return list(await db.scalars(text("SELECT DISTINCT name FROM workflows ORDER BY name")))


async def is_served(db: AsyncConnection, name: str, version: str) -> bool:
    """Whether a live worker serves this version."""
    return bool(
        await db.scalar(
            text(
                "SELECT EXISTS (SELECT FROM workflows WHERE name = :name AND version = :version"
                " AND last_seen > clock_timestamp() - interval '2 minutes')"
            ),
            {"name": name, "version": version},
        )
    )


# --- sessions


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What the engine needs of a session."""

    session_id: SessionId
    status: SessionStatus
    reason: str | None
    workflow: str
    workflow_version: str
    task: str
    input: Any
    path: str | None
    repo: str | None
    snapshot: bytes | None
    snapshot_version: int
    folded_superstep: int | None
    last_step: int
    base_commit: str | None

    @property
    def next_superstep(self) -> int:
        """The one whose results are folded next; 0 is the graph's start."""
        return 0 if self.folded_superstep is None else self.folded_superstep + 1


_SESSION_ROW = (
    "SELECT session_id, status, reason, workflow, workflow_version, task, input, path, repo, snapshot,"
    " snapshot_version, folded_superstep, last_step, base_commit FROM sessions WHERE session_id = :id"
)


async def session_row(db: AsyncConnection, session_id: SessionId) -> SessionRow:
    """Raises NotFound."""
    row = (await db.execute(text(_SESSION_ROW), {"id": session_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return SessionRow(*row)


async def insert_session(
    db: AsyncConnection,
    session_id: SessionId,
    new: NewSession,
    workflow: RegisteredWorkflow,
    *,
    graph_input: Any,
    principal: str,
    idempotency_key: str | None,
    request_digest: bytes,
) -> None:
    await db.execute(
        text(
            "INSERT INTO sessions (session_id, status, task, input, path, repo, priority, options, principal,"
            " workflow, workflow_version, langgraph_version, idempotency_key, request_digest)"
            " VALUES (:id, 'created', :task, :input, :path, :repo, :priority, :options, :principal,"
            " :workflow, :version, :langgraph, :key, :digest)"
        ),
        {
            "id": session_id,
            "task": new.task,
            "input": as_json(graph_input),
            "path": new.path,
            "repo": new.repo,
            "priority": new.priority,
            "options": as_json(new.options),
            "principal": principal,
            "workflow": workflow.name,
            "version": workflow.version,
            "langgraph": workflow.langgraph_version,
            "key": idempotency_key,
            "digest": request_digest,
        },
    )


async def admit(db: AsyncConnection, *, max_active: int) -> list[SessionId]:
    """Lets as many sessions begin as there is room for: by priority, then age. Those that wait do not count."""
    # One at a time, or two would fill the same room. Nothing else is locked while it is held.
    await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADMISSION_LOCK})
    rows = await db.scalars(
        text(
            "UPDATE sessions x SET admitted_at = clock_timestamp(), advance_sent_at = clock_timestamp() FROM ("
            "  SELECT session_id FROM sessions WHERE ended_at IS NULL AND admitted_at IS NULL"
            "  ORDER BY priority DESC, session_id LIMIT greatest(0, :max_active - ("
            "    SELECT count(*) FROM sessions WHERE ended_at IS NULL AND admitted_at IS NOT NULL"
            "    AND status IN ('created', 'running'))) FOR UPDATE SKIP LOCKED) first"
            " WHERE x.session_id = first.session_id RETURNING x.session_id"
        ),
        {"max_active": max_active},
    )
    return [SessionId(row) for row in rows]


async def session_by_key(db: AsyncConnection, principal: str, idempotency_key: str) -> tuple[SessionId, bytes] | None:
    row = (
        await db.execute(
            text(
                "SELECT session_id, request_digest FROM sessions"
                " WHERE principal = :principal AND idempotency_key = :key"
            ),
            {"principal": principal, "key": idempotency_key},
        )
    ).one_or_none()
    return (SessionId(row[0]), row[1]) if row else None


async def update_session(db: AsyncConnection, session_id: SessionId, **columns: Any) -> None:
    """Sets the given columns; `ended_at=True` stands for the database's clock."""
    assignments = [
        f"{name} = clock_timestamp()" if value is True else f"{name} = :{name}" for name, value in columns.items()
    ]
    values = {name: value for name, value in columns.items() if value is not True}
    await db.execute(
        text(f"UPDATE sessions SET {', '.join(assignments)} WHERE session_id = :id"),
        {"id": session_id, **values},
    )


_VIEW = (
    "SELECT session_id, x.status, reason, task, workflow, workflow_version, path, repo, priority, principal,"
    " head, created_at, ended_at, result FROM sessions x JOIN streams s ON s.stream_id = x.session_id"
)


async def session_view(db: AsyncConnection, session_id: SessionId) -> SessionView:
    """Without steps. Raises NotFound."""
    row = (await db.execute(text(f"{_VIEW} WHERE session_id = :id"), {"id": session_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return SessionView(*row)


async def list_views(
    db: AsyncConnection,
    *,
    before: SessionId | None,
    limit: int,
    status: str | None,
    workflow: str | None,
) -> list[SessionView]:
    """Newest first: session ids are UUIDv7, which sort by time."""
    conditions = {
        "session_id < :before": before,
        "x.status = :status": status,
        "workflow = :workflow": workflow,
    }
    where = " AND ".join([condition for condition, value in conditions.items() if value is not None] or ["true"])
    rows = await db.execute(
        text(f"{_VIEW} WHERE {where} ORDER BY session_id DESC LIMIT :limit"),
        {"before": before, "status": status, "workflow": workflow, "limit": limit},
    )
    return [SessionView(*row) for row in rows]


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


async def waiting_approvals(db: AsyncConnection, session_id: SessionId | None) -> list[Approval]:
    rows = await db.execute(
        text(
            "SELECT p.session_id, p.step, p.agent, x.task, p.question, p.ended_at"
            " FROM steps p JOIN sessions x USING (session_id) WHERE p.status = 'waiting'"
            + (" AND p.session_id = :id" if session_id else "")
            + " ORDER BY p.ended_at, p.session_id, p.step"
        ),
        {"id": session_id},
    )
    return [Approval(*row) for row in rows]


def as_json(value: Any) -> str:
    """JSON columns take text, so that our encoder writes them, not the driver's."""
    return orjson.dumps(value).decode()
