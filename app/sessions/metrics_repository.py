"""The SQL that counts sessions and steps for Prometheus. Ages are in seconds by the database's clock."""

from typing import Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.types import SessionStatus, StepStatus
from app.sessions.model import listed
from app.sessions.transitions import SESSION


class SessionCount(NamedTuple):
    """How many sessions of a project have a status."""

    project: str
    status: SessionStatus
    number: int


class OldestSession(NamedTuple):
    """The session of a project that has waited longest: since it was created for its turn, since it asked for answers.

    One waits for its turn until it has begun, also where only a worker is missing that serves it.
    """

    project: str
    waits_for: Literal["turn", "answer"]
    seconds: float


class StepCount(NamedTuple):
    """How many open steps are alike; `oldest` tells how long the first of them has been claimable, or has asked."""

    project: str
    status: StepStatus
    agent: str
    queue: str
    number: int
    oldest: float | None


async def count_sessions(db: AsyncConnection) -> list[SessionCount]:
    """By the index sessions_status alone, without a look at the rows."""
    rows = await db.execute(text("SELECT project, status, count(*) FROM sessions GROUP BY project, status"))
    return [SessionCount(*row) for row in rows]


def _age(since: str) -> str:
    return f"greatest(0, extract(epoch FROM clock_timestamp() - {since}))::float8"


# Two parts, by the indexes sessions_backlog and sessions_open: one condition would use neither.
_OLDEST = f"""
SELECT project, 'turn', {_age("min(created_at)")} FROM (
    SELECT project, created_at FROM sessions WHERE ended_at IS NULL AND admitted_at IS NULL
    UNION ALL
    SELECT project, created_at FROM sessions
    WHERE ended_at IS NULL AND admitted_at IS NOT NULL AND status = 'created'
) AS waiting GROUP BY project
UNION ALL
SELECT x.project, 'answer', {_age("min(p.ended_at)")} FROM steps p JOIN sessions x USING (session_id)
WHERE p.status = 'waiting' AND x.status = 'waiting' GROUP BY x.project
"""


async def oldest_sessions(db: AsyncConnection) -> list[OldestSession]:
    rows = await db.execute(text(_OLDEST))
    return [OldestSession(*row) for row in rows]


# Each status has a partial index of its own, which a condition on several of them would not use.
_STEPS = " UNION ALL ".join(
    f"SELECT x.project, p.status, p.agent, p.queue, count(*), {_age(oldest)}"
    f" FROM steps p JOIN sessions x USING (session_id) WHERE p.status = '{status}' GROUP BY 1, 2, 3, 4"
    for status, oldest in {
        "queued": "min(p.available_at) FILTER ("
        f"WHERE p.available_at <= clock_timestamp() AND x.status IN {listed(SESSION['claim'])})",
        "running": "NULL::timestamptz",
        "waiting": "min(p.ended_at)",
    }.items()
)


async def count_open_steps(db: AsyncConnection) -> list[StepCount]:
    rows = await db.execute(text(_STEPS))
    return [StepCount(*row) for row in rows]
