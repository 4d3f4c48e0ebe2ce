"""The SQL on steps. Callers that write hold the stream's lock (events.append.lock_streams).

claim, complete and the fold's commit (repository.py) are one SQL function each, which takes the lock itself: most of
what a step costs are the round trips between.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import DriverPool, call
from app.errors import LeaseLost, NotFound
from app.events import arrays
from app.events.encoding import Item, Recorded
from app.progress import SessionId
from app.sessions.model import SessionRow, StepRow, columns_of, listed
from app.sessions.transitions import OPEN_STEP, STEP

OPEN_STEPS = f"status IN {listed(OPEN_STEP)}"


async def steps_where(db: AsyncConnection, condition: str, **parameters: Any) -> list[StepRow]:
    """`condition` is one of this project's own texts, never a user's."""
    rows = await db.execute(
        text(f"SELECT {columns_of(StepRow)} FROM steps WHERE {condition} ORDER BY session_id, step"), parameters
    )
    return [StepRow(*row) for row in rows]


async def steps_of_superstep(db: AsyncConnection, session_id: SessionId, superstep: int) -> list[StepRow]:
    return await steps_where(db, "session_id = :id AND superstep = :superstep", id=session_id, superstep=superstep)


async def open_steps(db: AsyncConnection, session_id: SessionId) -> list[StepRow]:
    return await steps_where(db, f"session_id = :id AND {OPEN_STEPS}", id=session_id)


async def unfinished_steps(db: AsyncConnection, session_id: SessionId) -> list[StepRow]:
    """Those of a failed session that have to run again."""
    return await steps_where(db, f"session_id = :id AND status IN {listed(STEP['retry'])}", id=session_id)


async def step_row(db: AsyncConnection, session_id: SessionId, step: int) -> StepRow:
    """Raises NotFound."""
    found = await steps_where(db, "session_id = :id AND step = :step", id=session_id, step=step)
    if not found:
        raise NotFound(f"session {session_id} has no step {step}")
    return found[0]


async def wait(
    db: AsyncConnection,
    row: StepRow,
    *,
    question: str,
    answer_schema: str | None,
    interrupt_id: str,
    node_snapshot: bytes,
) -> bool:
    """Ends a running attempt that asked, whose lease must still be held; false when it is not."""
    result = await db.execute(
        text(
            "UPDATE steps SET status = 'waiting', lease_token = NULL, lease_until = NULL,"
            " ended_at = clock_timestamp(), question = :question, interrupt_id = :interrupt_id,"
            " node_snapshot = :node_snapshot, answer_schema = :answer_schema"
            " WHERE session_id = :id AND step = :step AND lease_token = :token AND status = 'running'"
        ),
        {
            "id": row.session_id,
            "step": row.step,
            "token": row.lease_token,
            "question": question,
            "answer_schema": answer_schema,
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
    delay: timedelta = timedelta(0),
    error: str | None = None,
    answer: str | None = None,
) -> None:
    """Makes the step's next attempt available after `delay`. An `answer` of None leaves the one that is there."""
    await db.execute(
        text(
            "UPDATE steps SET status = 'queued', lease_token = NULL, lease_until = NULL, attempt = :attempt,"
            " failures = :failures, lost = :lost, available_at = clock_timestamp() + :delay, sends = 0,"
            " sent_at = clock_timestamp(), error = :error,"
            " answer = coalesce(CAST(:answer AS json), answer)"
            " WHERE session_id = :id AND step = :step"
        ),
        {
            "id": row.session_id,
            "step": row.step,
            "attempt": attempt,
            "failures": failures,
            "lost": lost,
            "delay": delay,
            "error": error,
            "answer": answer,
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
            # a question without an answer is asked again if the session is retried
            " node_snapshot = CASE WHEN status = 'waiting' THEN NULL ELSE node_snapshot END,"
            f" ended_at = clock_timestamp() WHERE session_id = :id AND {OPEN_STEPS}"
        ),
        {"id": session_id},
    )


_SESSION_WIDTH = len(fields(SessionRow))
_CLAIM = (
    "SELECT is_new, goes_on, first_offset, ts, (c.step).started_at - (c.step).available_at,"
    f" {columns_of(SessionRow, prefix='(c.session).')}, {columns_of(StepRow, prefix='(c.step).')}"
    " FROM claim_step(%b, %b, %b, %b, %b, %b, %b::text[], %b::text[], %b, %b, %b, %b, %b::bytea[]) AS c"
)


class Claimed(NamedTuple):
    """What a claim got. `recorded` is empty when the same lease had the step already."""

    session: SessionRow
    step: StepRow
    waited: timedelta
    """How long the step had been available."""
    recorded: list[Recorded]


async def claim(
    pool: DriverPool,
    session_id: SessionId,
    step: int,
    attempt: int,
    *,
    lease: UUID,
    lasts: timedelta,
    worker: str,
    served: frozenset[tuple[str, str]],
    alone: bool,
    running: Item,
    goes_on: Item,
) -> Claimed | None:
    """Gives a due step to a worker for the time that the lease `lasts`, and appends `running` (after `goes_on`, if
    the session waited). None when another worker was quicker, the step is not due, or `served` or `alone` do not fit.
    """
    workflows, versions = [name for name, _ in served], [version for _, version in served]
    found = await pool.execute(
        _CLAIM,
        (
            *(session_id, step, attempt, lease, lasts, worker, workflows, versions, alone),
            *(running.agent, running.data, goes_on.data, arrays.salts(2)),
        ),
    )
    if not found:
        return None
    is_new, has_gone_on, first, ts, waited, *columns = found[0]
    events = [goes_on, running] if has_gone_on else [running]
    return Claimed(
        SessionRow(*columns[:_SESSION_WIDTH]),
        StepRow(*columns[_SESSION_WIDTH:]),
        waited,
        arrays.numbered(events, first, ts) if is_new else [],
    )


_COMPLETE = (
    f"SELECT first_offset, c.ts, waits, waits_ts, {columns_of(StepRow, prefix='s.')}"
    " FROM complete_step(%b, %b, %b, %b::text::json, %b, %b, %b, %b, %b, %b, %b::bytea[]) AS c"
    " LEFT JOIN LATERAL unnest(c.owed) AS s ON true"
)


class Completed(NamedTuple):
    """What completing a step wrote. `owed` are the steps of its superstep, if that is complete now."""

    recorded: list[Recorded]
    owed: tuple[StepRow, ...]


async def complete(
    db: DriverPool | AsyncConnection,
    row: StepRow,
    *,
    update: str,
    commit: str | None,
    succeeded: Item,
    waits: Item,
    waits_for: str,
) -> Completed:
    """Appends `succeeded`; where only answers are waited for now, the session waits for that, and says `waits`.

    Raises LeaseLost when the lease in `row` is not (any more) its step's.
    """
    found = await call(
        db,
        _COMPLETE,
        (
            *(row.session_id, row.step, row.lease_token, update, commit, row.agent, row.attempt, succeeded.data),
            *(waits_for, waits.data, arrays.salts(2)),
        ),
    )
    if not found:
        raise LeaseLost
    first, ts, has_to_wait, waits_ts = found[0][:4]
    recorded = arrays.numbered([succeeded], first, ts)
    if has_to_wait:
        recorded += arrays.numbered([waits], first + 1, waits_ts)
    return Completed(recorded, tuple(StepRow(*row[4:]) for row in found if row[4] is not None))


async def settle(db: AsyncConnection, row: StepRow, *, waits: Item, waits_for: str) -> list[Recorded]:
    """Says `waits`, after an attempt that ended in a question, if nothing of the superstep runs any more."""
    query = "SELECT waits, first_offset, ts FROM settle_superstep(%b, %b, %b, %b, %b)"
    arguments = (row.session_id, row.superstep, waits_for, waits.data, *arrays.salts(1))
    ((has_to_wait, first, ts),) = await call(db, query, arguments)
    return arrays.numbered([waits], first, ts) if has_to_wait else []
