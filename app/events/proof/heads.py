"""Recording heads: what of all streams moved since the last time, as events of a stream of its own.

Whoever keeps one chain of this stream keeps the heads of all that it names, also of those that are deleted later. It is
derived from the feed, a range of complete events at a time, and binds what a stream's own chain does not: in which
order the events of all streams were written.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.events import append, encoding, feed
from app.events.cursors import FeedCursor, FeedPlace
from app.events.types import HEADS_STREAM, Head, HeadsEvent

LOOKED_AT = 20_000
"""Events of one range: some 60 ms of one statement, and as many heads at most."""
HEAD_BYTES = 160
"""More than one head takes in an event's JSON."""

ORDER = """encode(sha256(coalesce(string_agg(
    uuid_send(stream_id) || int8send("offset") || int8send(epoch::bigint) || xid8send(xid) || int8send(position),
    ''::bytea ORDER BY epoch, xid, position), ''::bytea)), 'hex')"""
"""Of events of a range: how their order is bound."""

_MOVED = """
WITH looked AS MATERIALIZED (
    SELECT e.* FROM {bound} CROSS JOIN LATERAL (
        SELECT stream_id, "offset", epoch, xid, position, chain FROM events
        WHERE {after} AND {complete} ORDER BY epoch, xid, position LIMIT %(limit)s
    ) AS e
), heads AS (
    SELECT DISTINCT ON (stream_id) stream_id, "offset", chain FROM looked
    WHERE stream_id <> %(heads)s ORDER BY stream_id, "offset" DESC
), last AS (
    SELECT epoch, xid::text::bigint AS xid, position FROM looked ORDER BY epoch DESC, looked.xid DESC, position DESC
    LIMIT 1
)
SELECT (SELECT count(*) FROM looked), (SELECT {order} FROM looked), last.epoch, last.xid, last.position,
       ARRAY(SELECT json_build_object('stream_id', stream_id, 'head', "offset", 'chain', encode(chain, 'hex'))::text
             FROM heads ORDER BY stream_id)
FROM last
"""


class Moved(NamedTuple):
    """A range of the feed: how many events it has, their order, and the heads of the streams that moved in it."""

    after: FeedPlace
    until: FeedPlace
    events: int
    order: str
    heads: list[Head]


async def record_heads(
    engine: AsyncEngine,
    project: str,
    *,
    max_bytes: int,
    at_most: int,
    not_within: timedelta = timedelta(0),
) -> int:
    """Records what has moved, about `at_most` events of it; returns how many heads. One caller at a time.

    Writes nothing where nothing moved, or where it has within the time `not_within`. Readers of the stream, which are
    few, find it without being told.
    """
    recorded = looked = 0
    async with transaction(engine) as db:
        place = await _begin(db, project, not_within)
    while place is not None and looked < at_most:
        async with transaction(engine) as db:
            moved = await _read_moved(db, place)
        if moved is None or (not moved.heads and moved.events < LOOKED_AT):
            break  # its own events alone are no reason for another one
        async with transaction(engine) as db:
            await append.lock_streams(db, HEADS_STREAM)
            events = heads_events(moved, per_event=max(1, (max_bytes - 1024) // HEAD_BYTES))
            await append.append(db, [encoding.item(HEADS_STREAM, e, kind="heads", max_bytes=max_bytes) for e in events])
        recorded, looked, place = recorded + len(moved.heads), looked + moved.events, moved.until
    return recorded


async def _begin(db: AsyncConnection, project: str, not_within: timedelta) -> FeedPlace | None:
    """The place up to which heads are recorded, or None where that is not long ago; makes the stream the first time."""
    row = (
        await db.execute(
            text("SELECT clock_timestamp() - last_ts < :within FROM streams WHERE stream_id = :id"),
            {"id": HEADS_STREAM, "within": not_within},
        )
    ).one_or_none()
    if row is None:
        # Committed before anything is written to it: its lock has to be taken before the first write.
        await append.create_stream(db, HEADS_STREAM, "heads", project=project)
        return FeedPlace()
    return None if row[0] else await read_until(db) or FeedPlace()


async def read_until(db: AsyncConnection) -> FeedPlace | None:
    """The place of the feed up to which heads are recorded; None where none were."""
    found = await db.scalar(
        text(
            "SELECT data ->> 'until' FROM events WHERE stream_id = :id AND t = 'heads_event'"
            ' ORDER BY "offset" DESC LIMIT 1'
        ),
        {"id": HEADS_STREAM},
    )
    return None if found is None else FeedCursor.parse(found).place


async def _read_moved(db: AsyncConnection, after: FeedPlace) -> Moved | None:
    """None where nothing is complete after the place."""
    parameters: dict[str, Any] = feed.place_of(after) | {"heads": HEADS_STREAM, "limit": LOOKED_AT}
    rows = await feed.rows_of(db, feed.sql(_MOVED, order=ORDER), parameters)
    if not rows:
        return None
    ((count, order, *until, heads),) = rows
    return Moved(after, FeedPlace(*until), count, order, [orjson.loads(head) for head in heads])


def heads_events(moved: Moved, *, per_event: int) -> list[HeadsEvent]:
    """One event, or several parts where there are many heads."""
    pieces = list(_pieces(moved.heads, per_event)) or [[]]
    return [
        {
            "t": "heads_event",
            "after": str(moved.after),
            "until": str(moved.until),
            "events": moved.events,
            "order": moved.order,
            "part": number,
            "parts": len(pieces),
            "heads": list(piece),
        }
        for number, piece in enumerate(pieces, 1)
    ]


def _pieces(heads: Sequence[Head], size: int) -> Iterator[Sequence[Head]]:
    for first in range(0, len(heads), size):
        yield heads[first : first + size]
