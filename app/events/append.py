"""Appending within a larger transaction, and the locks of streams.

Everything that is written goes through the SQL function append_events, either here or gathered with what other
producers of this process append (`group_commit.GroupCommit`).
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.arrays import APPEND, Answer, arguments, recorded
from app.events.encoding import Item, Recorded
from app.events.types import DEFAULT_PROJECT, AnyStreamId, StreamKind


async def _append(db: AsyncConnection, items: Sequence[Item]) -> list[Answer]:
    # Through SQLAlchemy: past it, the driver's own errors would reach callers that know only SQLAlchemy's.
    rows = await db.exec_driver_sql(APPEND, arguments(items, None, None))
    answers = [Answer(*tuple(row)) for row in rows]
    for answer in answers:
        if error := answer.error():
            raise error
    return answers


async def append(db: AsyncConnection, items: Sequence[Item]) -> list[Recorded]:
    """Appends within the caller's transaction; returns what is new.

    Raises the first refusal, which rolls all of it back.
    """
    answers = await _append(db, items)
    return [
        recorded(entry, answer) for entry, answer in zip(items, answers, strict=True) if answer.status == "appended"
    ]


async def append_once(db: AsyncConnection, entry: Item) -> tuple[Recorded, bool]:
    """The event, and whether it is new: a dedupe_key that stands in the stream gives the first one."""
    (answer,) = await _append(db, [entry])
    return recorded(entry, answer), answer.status == "appended"


async def lock_streams(db: AsyncConnection, *stream_ids: AnyStreamId) -> None:
    """Must be the transaction's first statement that touches these streams or their sessions' steps."""
    await db.execute(
        text(
            "SELECT pg_advisory_xact_lock(k) FROM (SELECT DISTINCT stream_lock_key(s) AS k"
            " FROM unnest(CAST(:ids AS uuid[])) AS s ORDER BY k) AS sorted"
        ),
        {"ids": list(stream_ids)},
    )


async def create_stream(
    db: AsyncConnection, stream_id: AnyStreamId, kind: StreamKind, *, project: str = DEFAULT_PROJECT
) -> None:
    """A project has one operators' stream; a second one is not made, and is no error."""
    await db.execute(
        text("SELECT create_stream(:id, :kind, :project)"), {"id": stream_id, "kind": kind, "project": project}
    )


async def reopen(db: AsyncConnection, stream_id: AnyStreamId) -> None:
    """Lets a failed session's stream take events again; the next one in this transaction says what it is now."""
    await db.execute(text("SELECT reopen_stream(:id)"), {"id": stream_id})
