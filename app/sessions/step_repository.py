"""The SQL on steps. Callers that write hold the stream's lock (events.log.lock_streams)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.events.types import StepStatus
from app.progress import SessionId

OPEN_STEPS = "status IN ('queued', 'running', 'waiting')"


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


async def unfinished_steps(db: AsyncConnection, session_id: SessionId) -> list[StepRow]:
    """Those of a failed session that have to run again."""
    return await steps_where(db, "session_id = :id AND status IN ('failed', 'cancelled')", id=session_id)


async def step_row(db: AsyncConnection, session_id: SessionId, step: int) -> StepRow:
    """Raises NotFound."""
    for row in await steps_where(db, "session_id = :id AND step = :step", id=session_id, step=step):
        return row
    raise NotFound(f"session {session_id} has no step {step}")


async def wait(db: AsyncConnection, row: StepRow, *, question: str, interrupt_id: str, node_snapshot: bytes) -> bool:
    """Ends a running attempt that asked, whose lease must still be held; false when it is not."""
    result = await db.execute(
        text(
            "UPDATE steps SET status = 'waiting', lease_token = NULL, lease_until = NULL,"
            " ended_at = clock_timestamp(), question = :question, interrupt_id = :interrupt_id,"
            " node_snapshot = :node_snapshot"
            " WHERE session_id = :id AND step = :step AND lease_token = :token AND status = 'running'"
        ),
        {
            "id": row.session_id,
            "step": row.step,
            "token": row.lease_token,
            "question": question,
            "interrupt_id": interrupt_id,
            "node_snapshot": node_snapshot,
        },
    )
    return result.rowcount == 1


async def renew_leases(connection: psycopg.AsyncConnection[Any], leases: Sequence[UUID], lease: timedelta) -> set[UUID]:
    """Renews them and returns those that are lost: cancelled, or given to another worker.

    For the heartbeat's own thread and connection. Takes no stream's lock: it changes nothing but `lease_until`.
    """
    async with connection.transaction():
        # SKIP LOCKED: a row that is just being completed must not hold up the others' heartbeat.
        await connection.execute(
            "UPDATE steps SET lease_until = clock_timestamp() + %(lease)s FROM ("
            "  SELECT session_id AS s, step AS n FROM steps WHERE lease_token = ANY(%(leases)s)"
            "  AND status = 'running' ORDER BY 1, 2 FOR UPDATE SKIP LOCKED) mine"
            " WHERE session_id = mine.s AND step = mine.n",
            {"lease": lease, "leases": list(leases)},
        )
        held = await connection.execute(
            "SELECT lease_token FROM steps WHERE lease_token = ANY(%s) AND status = 'running'", (list(leases),)
        )
        return set(leases) - {row[0] async for row in held}


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
            # a question that nobody answered is asked again if the session is retried
            " node_snapshot = CASE WHEN status = 'waiting' THEN NULL ELSE node_snapshot END,"
            f" ended_at = clock_timestamp() WHERE session_id = :id AND {OPEN_STEPS}"
        ),
        {"id": session_id},
    )
