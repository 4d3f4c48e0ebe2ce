"""The moves of a session (migrations/sql/0001_moves.sql), each in one round trip: claim, complete, commit a fold.

Every step makes these three, and most of what it costs are the round trips between. Each takes the stream's lock
itself, so it may be its transaction's only statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Statements
from app.errors import LeaseLost
from app.events import arrays, encoding
from app.events.encoding import Item
from app.events.types import Recorded, SessionEvent
from app.progress import SessionId
from app.sessions.repository import SessionRow
from app.sessions.step_repository import StepRow

Moving: TypeAlias = Statements | AsyncConnection
"""Where a move is made: as a transaction of its own, or as a part of a larger one."""

_WAITS_FOR = "waiting for an answer"
_WAITS: SessionEvent = {"t": "session_event", "status": "waiting", "reason": _WAITS_FOR}
_GOES_ON: SessionEvent = {"t": "session_event", "status": "running", "reason": None}


def _columns_of(row: type, *, prefix: str) -> str:
    return ", ".join(f"{prefix}.{column.name}" for column in fields(row))


_SESSION_WIDTH = len(fields(SessionRow))
_CLAIM = (
    "SELECT is_new, goes_on, event, first_offset, ts,"
    f" {_columns_of(SessionRow, prefix='(c.session)')}, {_columns_of(StepRow, prefix='(c.step)')}"
    " FROM claim_step(%b, %b, %b, %b, %b, %b, %b::text[], %b::text[], %b, %b, %b::bytea[]) AS c"
)
_COMPLETE = (
    f"SELECT first_offset, c.ts, waits, waits_ts, {_columns_of(StepRow, prefix='s')}"
    " FROM complete_step(%b, %b, %b, %b::text::json, %b, %b, %b, %b, %b, %b, %b::bytea[]) AS c"
    " LEFT JOIN LATERAL unnest(c.owed) AS s ON true"
)
_SETTLE = "SELECT waits, first_offset, ts FROM settle_superstep(%b, %b, %b, %b, %b)"
_COMMIT_FOLD = (
    "SELECT goes_on, first_offset, ts FROM commit_fold(%b, %b, %b, %b, %b, %b,"
    " %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::integer[], %b::bigint[], %b, %b,"
    " %b::text[], %b::text[], %b::text[], %b::text[], %b::integer[], %b::integer[], %b::bytea[])"
)


async def _call(db: Moving, query: LiteralString, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    if isinstance(db, Statements):
        return await db.execute(query, arguments)
    return [tuple(row) for row in await db.exec_driver_sql(query, arguments)]


def _recorded(items: Sequence[Item], first_offset: int, ts: datetime) -> list[Recorded]:
    return [
        arrays.recorded(entry, arrays.Answer("appended", offset, ts, None))
        for offset, entry in enumerate(items, first_offset)
    ]


class Claimed(NamedTuple):
    """`recorded` is empty when the same lease had it already."""

    session: SessionRow
    step: StepRow
    recorded: list[Recorded]


async def claim(
    db: Moving,
    session_id: SessionId,
    step: int,
    attempt: int,
    *,
    lease: UUID,
    lasts: timedelta,
    worker: str,
    served: frozenset[tuple[str, str]],
    alone: bool,
) -> Claimed | None:
    """None when another worker was quicker, the step is not due, or `served` or `alone` do not fit it."""
    goes_on = encoding.item(session_id, _GOES_ON)
    workflows, versions = [name for name, _ in served], [version for _, version in served]
    found = await _call(
        db,
        _CLAIM,
        (session_id, step, attempt, lease, lasts, worker, workflows, versions, alone, goes_on.data, arrays.salts(2)),
    )
    for is_new, has_gone_on, event, first, ts, *columns in found:
        session, step_row = SessionRow(*columns[:_SESSION_WIDTH]), StepRow(*columns[_SESSION_WIDTH:])
        recorded = []
        if is_new:
            recorded = _recorded([goes_on] if has_gone_on else [], first, ts)
            offset = first + len(recorded)
            recorded.append(Recorded(session_id, "session", offset, ts, "step_event", step_row.agent, None, event))
        return Claimed(session, step_row, recorded)
    return None


class Completed(NamedTuple):
    """`owed` are the steps of the superstep, if it is complete now."""

    recorded: list[Recorded]
    owed: tuple[StepRow, ...]


async def complete(db: Moving, row: StepRow, *, update: str, commit: str | None, event: Item) -> Completed:
    """Raises LeaseLost when the lease in `row` is not (any more) its step's."""
    waits = encoding.item(row.session_id, _WAITS)
    found = await _call(
        db,
        _COMPLETE,
        (
            *(row.session_id, row.step, row.lease_token, update, commit, row.agent, row.attempt, event.data),
            *(_WAITS_FOR, waits.data, arrays.salts(2)),
        ),
    )
    if not found:
        raise LeaseLost
    first, ts, has_to_wait, waits_ts = found[0][:4]
    recorded = _recorded([event], first, ts)
    if has_to_wait:
        recorded += _recorded([waits], first + 1, waits_ts)
    return Completed(recorded, tuple(StepRow(*row[4:]) for row in found if row[4] is not None))


async def settle(db: AsyncConnection, row: StepRow) -> list[Recorded]:
    """After an attempt that ended in a question: whether the session waits now. The caller holds the lock."""
    waits = encoding.item(row.session_id, _WAITS)
    found = await _call(db, _SETTLE, (row.session_id, row.superstep, _WAITS_FOR, waits.data, *arrays.salts(1)))
    ((has_to_wait, first, ts),) = found
    return _recorded([waits], first, ts) if has_to_wait else []


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step that a fold found pending. `input` is None when the node reads the state."""

    task_path: str
    agent: str
    queue: str
    interrupt_id: str
    input: bytes | None
    max_attempts: int
    time_limit: timedelta


async def commit_fold(
    db: Moving,
    session: SessionRow,
    *,
    snapshot: bytes,
    base_commit: str | None,
    steps: Sequence[NewStep],
    events: Sequence[Item],
) -> list[Recorded] | None:
    """Goes on from `session` as it was folded; None when it is not as it was, or has ended.

    The new steps are numbered from `session.last_step` + 1.
    """
    goes_on = encoding.item(session.session_id, _GOES_ON)
    found = await _call(
        db,
        _COMMIT_FOLD,
        (
            *(session.session_id, session.snapshot_version, snapshot, session.next_superstep, base_commit),
            session.last_step + 1,
            [step.task_path for step in steps],
            [step.agent for step in steps],
            [step.queue for step in steps],
            [step.interrupt_id for step in steps],
            [step.input for step in steps],
            [step.max_attempts for step in steps],
            [step.time_limit // timedelta(milliseconds=1) for step in steps],
            *(goes_on.data, *arrays.salts(1)),
            *arrays.columns(events),
        ),
    )
    for has_gone_on, first, ts in found:
        return _recorded([goes_on, *events] if has_gone_on else events, first or 0, ts)
    return None
