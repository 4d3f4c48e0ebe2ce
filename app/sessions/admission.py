"""Admission: how many sessions run at a time, and whose turn it is."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import transaction
from app.progress import SessionId
from app.sessions import worker_repository
from app.sessions.model import listed
from app.sessions.transitions import SESSION
from app.unit_of_work import Backends

ADMISSION_LOCK = 5_906_120_448_261_733
"""Any constant that nothing else in the database takes as an advisory lock."""


async def admit_sessions(backends: Backends) -> int:
    """Rings for the sessions whose turn it is; returns how many. What is missed here, a maintainer does."""
    async with transaction(backends.engine) as db:
        admitted = await _admit(db, max_active=backends.settings.max_active_sessions)
    for session_id in admitted:
        backends.dispatch.advance_session(session_id)
    return len(admitted)


_SERVED = (
    "EXISTS (SELECT FROM workflows w WHERE (w.name, w.version) = (x.workflow, x.workflow_version)"
    f" AND {worker_repository.LIVES})"
)


async def _admit(db: AsyncConnection, *, max_active: int) -> list[SessionId]:
    """Lets as many sessions begin as there is room for: by priority, then age.

    Those that wait for an answer do not count. One that waits for a worker has its turn only when there is one, and
    counts until it has begun: or all that came while there was none would begin at once.
    """
    # One at a time, or two would fill the same room. Nothing else is locked while it is held.
    await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADMISSION_LOCK})
    rows = await db.scalars(
        text(
            "UPDATE sessions x SET admitted_at = clock_timestamp(), advance_sent_at = clock_timestamp() FROM ("
            "  SELECT session_id FROM sessions x WHERE ended_at IS NULL AND admitted_at IS NULL"
            f" AND status IN {listed(SESSION['fold'])} AND (status <> 'waiting' OR {_SERVED})"
            "  ORDER BY priority DESC, session_id LIMIT greatest(0, :max_active - ("
            "    SELECT count(*) FROM sessions x WHERE ended_at IS NULL AND admitted_at IS NOT NULL"
            "    AND (status IN ('created', 'running')"
            f"        OR status = 'waiting' AND snapshot_version = 0 AND {_SERVED}))) FOR UPDATE SKIP LOCKED) first"
            " WHERE x.session_id = first.session_id RETURNING x.session_id"
        ),
        {"max_active": max_active},
    )
    return [SessionId(row) for row in rows]
