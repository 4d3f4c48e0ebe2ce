"""Whether a reader's cursor is honoured: what it has read is still what stands there. The rule is pure.

A cursor of an earlier epoch is honoured if its event was written in that epoch or before: then it survived. Also if its
reader's epoch is one that this database had: a cursor of another copy may stand where this one has something else.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.cursors import Cursor
from app.events.read import StreamState
from app.events.types import AnyStreamId


def doubtful_offset(state: StreamState, cursor: Cursor) -> int | None:
    """The offset whose epoch `why_not` has to know, if it has to know one."""
    if cursor.offset == 0 or cursor.epoch >= state.epoch or not state.earliest - 1 <= cursor.offset <= state.head:
        return None
    # The event itself may have expired; the one after it survived only if it did, too.
    return max(cursor.offset, state.earliest)


def why_not(state: StreamState, cursor: Cursor, *, written_in: int | None) -> str | None:
    """Says why the stream cannot go on after the cursor, if it cannot.

    `written_in` is the epoch of the event at `doubtful_offset`; None where none is there, or the cursor's epoch is not
    one of this database.
    """
    earliest = state.earliest - 1
    is_doubtful = doubtful_offset(state, cursor) is not None
    if (cursor.offset and cursor.epoch > state.epoch) or (is_doubtful and (written_in or state.epoch) > cursor.epoch):
        return f"the offset {cursor.offset} of epoch {cursor.epoch} is another event in epoch {state.epoch}"
    if not earliest <= cursor.offset <= state.head:
        return f"offset {cursor.offset} is outside {earliest} … {state.head}"
    return None


async def epoch_of(db: AsyncConnection, stream_id: AnyStreamId, offset: int, *, known: int) -> int | None:
    """The epoch in which the event was written; None where it is not there, or the epoch `known` never was here."""
    found: int | None = await db.scalar(
        text(
            'SELECT epoch FROM events WHERE stream_id = :id AND "offset" = :offset'
            " AND EXISTS (SELECT FROM epochs WHERE epoch = :known)"
        ),
        {"id": stream_id, "offset": offset, "known": known},
    )
    return found
