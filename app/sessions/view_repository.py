"""The SQL behind what clients see: lists of sessions, the steps of one, and the questions that wait."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.cursors import Cursor
from app.progress import SessionId
from app.sessions.lists import SHOWN_CHARACTERS, Approval, ListedSession, OpenQuestion
from app.sessions.model import StepView
from app.sessions.repository import OF_PROJECT


def _cut(column: str) -> str:
    """What a list shows of a long text, and whether that is not all."""
    shown, cut = f"left({column}, {SHOWN_CHARACTERS})", f"length(left({column}, {SHOWN_CHARACTERS + 1}))"
    return f"{shown}, coalesce({cut} > {SHOWN_CHARACTERS}, false)"


_LISTED = (
    f"SELECT session_id, x.status, {_cut('reason')}, {_cut('task')}, workflow, workflow_version, path,"
    r" regexp_replace(repo, '^(https?://)[^/]*@', '\1'),"  # the version before 0011 recorded credentials
    " priority, principal, (SELECT max(epoch) FROM epochs), earliest, head, created_at, ended_at, x.project, continues"
    " FROM sessions x JOIN streams s ON s.stream_id = x.session_id"
)


async def list_sessions(
    db: AsyncConnection,
    *,
    project: str | None,
    before: SessionId | None,
    limit: int,
    statuses: Collection[str],
    workflow: str | None,
) -> list[ListedSession]:
    """Newest first: session ids are UUIDv7, which sort by time."""
    conditions = {
        "x.project = :project": project,
        "session_id < :before": before,
        "x.status = ANY(:statuses)": list(statuses) or None,
        "workflow = :workflow": workflow,
    }
    where = " AND ".join([condition for condition, value in conditions.items() if value is not None] or ["true"])
    rows = await db.execute(
        text(f"{_LISTED} WHERE {where} ORDER BY session_id DESC LIMIT :limit"),
        {"project": project, "before": before, "statuses": list(statuses), "workflow": workflow, "limit": limit},
    )
    return [ListedSession(*row) for row in rows]


# Looked for in the log: it is the step's last approval_event, near the end of a session that waits. A column beside
# the step would be missing where a worker of before runs on in an upgrade.
_ASKED = """LATERAL (
    SELECT e."offset", e.epoch AS written_in, (SELECT max(epoch) FROM epochs) AS epoch FROM events e
    WHERE e.stream_id = p.session_id AND e.t = 'approval_event' AND e.step = p.step AND p.status = 'waiting'
    ORDER BY e."offset" DESC LIMIT 1
) AS asked"""


async def step_views(db: AsyncConnection, session_id: SessionId) -> tuple[StepView, ...]:
    """A running step's progress is the pct of its last report."""
    rows = await db.execute(
        text(
            'SELECT asked.epoch, asked."offset", step, superstep, agent, queue, status, attempt, failures, lost,'
            " worker, error, question, commit, started_at, ended_at,"
            " CASE status WHEN 'succeeded' THEN 1.0 WHEN 'running' THEN ("
            "   SELECT (data ->> 'pct')::float FROM events e WHERE e.stream_id = p.session_id"
            "   AND e.t = 'agent_event' AND e.step = p.step ORDER BY \"offset\" DESC LIMIT 1) END"
            f" FROM steps p LEFT JOIN {_ASKED} ON true WHERE session_id = :id ORDER BY step"
        ),
        {"id": session_id},
    )
    return tuple(StepView(*row, *_ids(epoch, offset)) for epoch, offset, *row in rows)


def _ids(epoch: int | None, offset: int) -> list[str | None]:
    return [None if epoch is None else str(Cursor(epoch, offset))]


async def waiting_approvals(
    db: AsyncConnection, session_id: SessionId | None, *, project: str | None
) -> list[Approval]:
    """Longest first."""
    query = (
        'SELECT asked.epoch, asked."offset", p.session_id, p.step, p.agent, p.question, p.answer_schema,'
        f" {_cut('x.task')}, p.ended_at, x.project"
        f" FROM steps p JOIN sessions x USING (session_id) CROSS JOIN {_ASKED}"
        f" WHERE p.status = 'waiting' AND {OF_PROJECT}"
        + (" AND p.session_id = :id" if session_id else "")
        + " ORDER BY p.ended_at, p.session_id, p.step"
    )
    rows = await db.execute(text(query), {"id": session_id, "project": project})
    return [Approval(str(Cursor(epoch, offset)), offset, *row) for epoch, offset, *row in rows]


async def open_question(
    db: AsyncConnection, session_id: SessionId, step: int, *, project: str | None = None
) -> OpenQuestion | None:
    """What the step asks now; None where nothing waits in the project."""
    query = (
        'SELECT asked."offset", asked.written_in, ARRAY(SELECT epoch FROM epochs ORDER BY epoch), p.question,'
        " p.answer_schema"
        f" FROM steps p JOIN sessions x USING (session_id) CROSS JOIN {_ASKED}"
        f" WHERE session_id = :id AND step = :step AND {OF_PROJECT}"
    )
    row = (await db.execute(text(query), {"id": session_id, "step": step, "project": project})).one_or_none()
    return OpenQuestion(*row) if row else None
