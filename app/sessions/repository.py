"""The SQL on sessions, steps and workflows. Callers that write hold the stream's lock (events.log.lock_streams)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.events.types import SessionStatus, StepStatus
from app.progress import SessionId
from app.sessions.model import Approval, NewSession, SessionView, StepView

OPEN_STEPS = "status IN ('queued', 'running', 'waiting')"


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
            " workflow, workflow_version, langgraph_version, idempotency_key, request_digest, advance_sent_at)"
            " VALUES (:id, 'created', :task, :input, :path, :repo, :priority, :options, :principal,"
            " :workflow, :version, :langgraph, :key, :digest, clock_timestamp())"
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


# --- steps


@dataclass(frozen=True, slots=True)
class StepRow:
    """What the engine needs of a step."""

    session_id: SessionId
    step: int
    superstep: int
    task_path: str
    agent: str
    queue: str
    status: StepStatus
    attempt: int
    failures: int
    lost: int
    max_attempts: int
    time_limit_ms: int
    input: bytes | None
    lease_token: UUID | None
    node_snapshot: bytes | None
    answer: Any
    update_data: Any
    commit: str | None

    @property
    def time_limit(self) -> timedelta:
        return timedelta(milliseconds=self.time_limit_ms)


_STEP_COLUMNS = (
    "session_id, step, superstep, task_path, agent, queue, status, attempt, failures, lost, max_attempts,"
    " time_limit_ms, input, lease_token, node_snapshot, answer, update_data, commit"
)


async def steps_where(db: AsyncConnection, condition: str, **parameters: Any) -> list[StepRow]:
    """`condition` is one of this project's own texts, never a user's."""
    rows = await db.execute(
        text(f"SELECT {_STEP_COLUMNS} FROM steps WHERE {condition} ORDER BY session_id, step"), parameters
    )
    return [StepRow(*row) for row in rows]


async def steps_of_superstep(db: AsyncConnection, session_id: SessionId, superstep: int) -> list[StepRow]:
    return await steps_where(db, "session_id = :id AND superstep = :superstep", id=session_id, superstep=superstep)


async def open_steps(db: AsyncConnection, session_id: SessionId) -> list[StepRow]:
    return await steps_where(db, f"session_id = :id AND {OPEN_STEPS}", id=session_id)


async def step_row(db: AsyncConnection, session_id: SessionId, step: int) -> StepRow:
    """Raises NotFound."""
    for row in await steps_where(db, "session_id = :id AND step = :step", id=session_id, step=step):
        return row
    raise NotFound(f"session {session_id} has no step {step}")


async def insert_steps(db: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    await db.execute(
        text(
            "INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, max_attempts,"
            " time_limit_ms, input, interrupt_id, sent_at) VALUES (:session_id, :step, :superstep, :task_path,"
            " :agent, :queue, 'queued', :max_attempts, :time_limit_ms, :input, :interrupt_id, clock_timestamp())"
        ),
        rows,
    )


async def claim(
    db: AsyncConnection,
    session_id: SessionId,
    step: int,
    attempt: int,
    *,
    lease_token: UUID,
    lease: timedelta,
    worker: str,
    alone: bool,
) -> StepRow | None:
    """None when another worker was quicker, the step is not due, or it must run alone and this is not `alone`."""
    row = (
        await db.execute(
            text(
                "UPDATE steps SET status = 'running', lease_token = :token, worker = :worker,"
                " lease_until = clock_timestamp() + :lease, started_at = clock_timestamp(), error = NULL"
                " WHERE session_id = :id AND step = :step AND attempt = :attempt AND status = 'queued'"
                " AND available_at <= clock_timestamp() AND (lost > 0) = :alone"
                f" RETURNING {_STEP_COLUMNS}"
            ),
            {
                "id": session_id,
                "step": step,
                "attempt": attempt,
                "token": lease_token,
                "lease": lease,
                "worker": worker,
                "alone": alone,
            },
        )
    ).one_or_none()
    return StepRow(*row) if row else None


async def release(
    db: AsyncConnection,
    session_id: SessionId,
    step: int,
    lease_token: UUID,
    status: StepStatus,
    **columns: Any,
) -> bool:
    """Ends a running attempt, whose lease must still be held; false when it is not."""
    assignments = "".join(f", {name} = :{name}" for name in columns)
    result = await db.execute(
        text(
            "UPDATE steps SET status = :status, lease_token = NULL, lease_until = NULL,"
            f" ended_at = clock_timestamp(){assignments}"
            " WHERE session_id = :id AND step = :number AND lease_token = :token AND status = 'running'"
        ),
        {"id": session_id, "number": step, "token": lease_token, "status": status, **columns},
    )
    return result.rowcount == 1


def renew_leases(connection: psycopg.Connection[Any], leases: Sequence[UUID], lease: timedelta) -> set[UUID]:
    """Renews them and returns those that are lost: cancelled, or given to another worker.

    For the heartbeat's own thread and connection. Takes no stream's lock: it changes nothing but `lease_until`.
    """
    with connection.transaction():
        # SKIP LOCKED: a row that is just being completed must not hold up the others' heartbeat.
        connection.execute(
            "UPDATE steps SET lease_until = clock_timestamp() + %(lease)s FROM ("
            "  SELECT session_id AS s, step AS n FROM steps WHERE lease_token = ANY(%(leases)s)"
            "  AND status = 'running' ORDER BY 1, 2 FOR UPDATE SKIP LOCKED) mine"
            " WHERE session_id = mine.s AND step = mine.n",
            {"lease": lease, "leases": list(leases)},
        )
        held = connection.execute(
            "SELECT lease_token FROM steps WHERE lease_token = ANY(%s) AND status = 'running'", (list(leases),)
        )
        return set(leases) - {row[0] for row in held}


async def requeue(
    db: AsyncConnection,
    row: StepRow,
    *,
    attempt: int,
    failures: int,
    lost: int,
    delay: timedelta,
    **columns: Any,
) -> None:
    """Makes the step's next attempt available after `delay`."""
    assignments = "".join(f", {name} = :{name}" for name in columns)
    await db.execute(
        text(
            "UPDATE steps SET status = 'queued', lease_token = NULL, lease_until = NULL, attempt = :attempt,"
            " failures = :failures, lost = :lost, available_at = clock_timestamp() + :delay, sends = 0,"
            f" sent_at = clock_timestamp(){assignments} WHERE session_id = :id AND step = :step"
        ),
        {
            "id": row.session_id,
            "step": row.step,
            "attempt": attempt,
            "failures": failures,
            "lost": lost,
            "delay": delay,
            **columns,
        },
    )


async def fail(db: AsyncConnection, session_id: SessionId, step: int, error: str) -> None:
    await db.execute(
        text(
            "UPDATE steps SET status = 'failed', lease_token = NULL, lease_until = NULL, error = :error,"
            " failures = failures + 1, ended_at = clock_timestamp() WHERE session_id = :id AND step = :step"
        ),
        {"id": session_id, "step": step, "error": error},
    )


async def cancel_open_steps(db: AsyncConnection, session_id: SessionId) -> None:
    await db.execute(
        text(
            "UPDATE steps SET status = 'cancelled', lease_token = NULL, lease_until = NULL,"
            f" ended_at = clock_timestamp() WHERE session_id = :id AND {OPEN_STEPS}"
        ),
        {"id": session_id},
    )


# --- what is owed (the rescuer picks without the stream's lock; each candidate is rechecked under it)


async def expired_leases(db: AsyncConnection, *, limit: int) -> list[StepRow]:
    return await steps_where(
        db,
        "status = 'running' AND (session_id, step) IN (SELECT session_id, step FROM steps"
        " WHERE status = 'running' AND lease_until < clock_timestamp() ORDER BY lease_until LIMIT :limit)",
        limit=limit,
    )


async def expired_lease(db: AsyncConnection, session_id: SessionId, step: int) -> StepRow | None:
    """The step, if it runs on a lease that has expired by the database's clock."""
    condition = "session_id = :id AND step = :step AND status = 'running' AND lease_until < clock_timestamp()"
    for row in await steps_where(db, condition, id=session_id, step=step):
        return row
    return None


Served = Collection[tuple[str, str]]
"""(workflow, version) pairs that a worker serves."""

_SERVED = (
    "(x.workflow, x.workflow_version) IN (SELECT * FROM unnest(CAST(:workflows AS text[]), CAST(:versions AS text[])))"
)


def _served(served: Served) -> dict[str, list[str]]:
    return {"workflows": [name for name, _ in served], "versions": [version for _, version in served]}


async def take_unclaimed(
    db: AsyncConnection, *, served: Served, ring_again_after: timedelta, limit: int
) -> list[tuple[SessionId, int, int, str]]:
    """Due steps that nobody claimed for long, marked as sent again; the wait doubles with every ring."""
    rows = await db.execute(
        text(
            "UPDATE steps p SET sent_at = clock_timestamp(), sends = sends + 1 FROM ("
            "  SELECT q.session_id, q.step FROM steps q JOIN sessions x USING (session_id)"
            "  WHERE q.status = 'queued' AND q.available_at <= clock_timestamp()"
            "  AND greatest(q.sent_at, q.available_at - :wait) + :wait * (2 ^ least(q.sends, 5)) < clock_timestamp()"
            f"  AND {_SERVED} ORDER BY q.available_at LIMIT :limit FOR UPDATE OF q SKIP LOCKED) due"
            " WHERE p.session_id = due.session_id AND p.step = due.step"
            " RETURNING p.session_id, p.step, p.attempt, p.queue"
        ),
        {"wait": ring_again_after, "limit": limit, **_served(served)},
    )
    return [(SessionId(row[0]), row[1], row[2], row[3]) for row in rows]


async def take_unadvanced(
    db: AsyncConnection, *, served: Served, ring_again_after: timedelta, limit: int
) -> list[SessionId]:
    """Sessions that nothing moves: no step is open, and they have not ended. Marked as sent again."""
    rows = await db.scalars(
        text(
            "UPDATE sessions y SET advance_sent_at = clock_timestamp() FROM ("
            "  SELECT session_id FROM sessions x WHERE ended_at IS NULL AND status <> 'paused'"
            "  AND coalesce(advance_sent_at, 'epoch') + :wait < clock_timestamp()"
            f"  AND NOT EXISTS (SELECT FROM steps p WHERE p.session_id = x.session_id AND p.{OPEN_STEPS})"
            f"  AND {_SERVED} ORDER BY advance_sent_at LIMIT :limit FOR UPDATE SKIP LOCKED) owed"
            " WHERE y.session_id = owed.session_id RETURNING y.session_id"
        ),
        {"wait": ring_again_after, "limit": limit, **_served(served)},
    )
    return [SessionId(row) for row in rows]


async def wake_waiting(db: AsyncConnection, *, served: Served) -> None:
    """A worker with these versions has come: sessions that waited for it are due at once."""
    parameters = _served(served)
    await db.execute(
        text(
            "UPDATE steps q SET sends = 0, sent_at = 'epoch' FROM sessions x WHERE q.session_id = x.session_id"
            f" AND q.status = 'queued' AND x.status = 'waiting' AND {_SERVED}"
        ),
        parameters,
    )
    await db.execute(
        text(
            "UPDATE sessions x SET advance_sent_at = 'epoch'"
            f" WHERE ended_at IS NULL AND status = 'waiting' AND {_SERVED}"
        ),
        parameters,
    )


async def database_now(db: AsyncConnection) -> datetime:
    now = await db.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


def as_json(value: Any) -> str:
    """JSON columns take text, so that our encoder writes them, not the driver's."""
    return orjson.dumps(value).decode()
