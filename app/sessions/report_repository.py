"""The SQL on what step tokens may append, and have appended."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.sessions.model import StepToken


async def agent_of(db: AsyncConnection, token: StepToken) -> str | None:
    """Whose step the token holds; None: it holds none, or none any more."""
    found: str | None = await db.scalar(
        text(
            "SELECT agent FROM steps WHERE session_id = :id AND step = :step AND attempt = :attempt"
            " AND lease_token = :lease AND status = 'running'"
        ),
        {"id": token.session_id, "step": token.step, "attempt": token.attempt, "lease": token.lease},
    )
    return found


class Counted(NamedTuple):
    """What an attempt has reported by its step token."""

    reports: int
    size: int


async def count_report(db: AsyncConnection, token: StepToken, size: int) -> Counted:
    """Counts an event of so many bytes. The caller holds the stream's lock, and the token its step."""
    counted = await db.execute(
        text(
            "UPDATE steps SET reporting_attempt = attempt,"
            " reports = CASE WHEN reporting_attempt = attempt THEN reports ELSE 0 END + 1,"
            " report_bytes = CASE WHEN reporting_attempt = attempt THEN report_bytes ELSE 0 END + :size"
            " WHERE session_id = :id AND step = :step RETURNING reports, report_bytes"
        ),
        {"id": token.session_id, "step": token.step, "size": size},
    )
    return Counted(*counted.one())
