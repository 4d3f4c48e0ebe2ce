"""The SQL that finds what is owed. It picks without the stream's lock; each candidate is rechecked under it."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.progress import SessionId
from app.sessions.model import StepRow, listed
from app.sessions.step_repository import OPEN_STEPS, steps_where
from app.sessions.transitions import SESSION


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
    found = await steps_where(db, condition, id=session_id, step=step)
    return found[0] if found else None


class DueStep(NamedTuple):
    """What a ring for a step names."""

    session_id: SessionId
    step: int
    attempt: int
    queue: str
    agent: str


Served = Collection[tuple[str, str]]
"""(workflow, version) pairs that a worker serves."""

_SERVED = (
    "(x.workflow, x.workflow_version) IN (SELECT * FROM unnest(CAST(:workflows AS text[]), CAST(:versions AS text[])))"
)


def _served(served: Served) -> dict[str, list[str]]:
    return {"workflows": [name for name, _ in served], "versions": [version for _, version in served]}


async def take_unclaimed(
    db: AsyncConnection, *, served: Served, ring_again_after: timedelta, limit: int
) -> list[DueStep]:
    """Due steps that no worker claimed for long, marked as sent again; the wait doubles with every ring."""
    rows = await db.execute(
        text(
            "UPDATE steps p SET sent_at = clock_timestamp(), sends = sends + 1 FROM ("
            "  SELECT q.session_id, q.step FROM steps q JOIN sessions x USING (session_id)"
            "  WHERE q.status = 'queued' AND q.available_at <= clock_timestamp()"
            f"  AND x.status IN {listed(SESSION['claim'])}"
            "  AND greatest(q.sent_at, q.available_at - :wait) + :wait * (2 ^ least(q.sends, 5)) < clock_timestamp()"
            f"  AND {_SERVED} ORDER BY q.available_at LIMIT :limit FOR UPDATE OF q SKIP LOCKED) due"
            " WHERE p.session_id = due.session_id AND p.step = due.step"
            " RETURNING p.session_id, p.step, p.attempt, p.queue, p.agent"
        ),
        {"wait": ring_again_after, "limit": limit, **_served(served)},
    )
    return [DueStep(*row) for row in rows]


async def take_unadvanced(
    db: AsyncConnection, *, served: Served, ring_again_after: timedelta, limit: int
) -> list[SessionId]:
    """Sessions that nothing moves: no step is open, and they have not ended. Marked as sent again."""
    rows = await db.scalars(
        text(
            "UPDATE sessions y SET advance_sent_at = clock_timestamp() FROM ("
            "  SELECT session_id FROM sessions x WHERE ended_at IS NULL AND admitted_at IS NOT NULL"
            f"  AND status IN {listed(SESSION['fold'])}"
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
