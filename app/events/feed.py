"""The feed: the events of all streams in one order, for readers of many streams."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.cursors import FeedCursor
from app.events.encoding import Recorded

# Events of transactions below the oldest running one are complete: nothing can appear before them any more.
_FEED = """
SELECT epoch, xid::text::bigint, position, e.stream_id, s.kind, "offset", ts, t, agent, phase, data::text
FROM events e JOIN streams s USING (stream_id)
WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (epoch, xid, position) > (:epoch, CAST(CAST(:xid AS text) AS xid8), :position)
ORDER BY epoch, xid, position LIMIT :limit
"""


# By the index events_position: of what has not become readable yet, the oldest stands first.
_LAG = """
SELECT extract(epoch FROM clock_timestamp() - ts)::float8 FROM events
WHERE epoch = (SELECT max(epoch) FROM epochs) AND xid >= pg_snapshot_xmin(pg_current_snapshot())
ORDER BY epoch, xid, position LIMIT 1
"""


async def feed_lag(db: AsyncConnection) -> float:
    """How many seconds the oldest committed event has waited for older transactions to end; 0 when none waits."""
    return max(0.0, float(await db.scalar(text(_LAG)) or 0.0))


async def read_feed(db: AsyncConnection, after: FeedCursor, *, limit: int) -> list[tuple[FeedCursor, Recorded]]:
    """The next events across all streams, in each stream's offset order, skipping none."""
    rows = await db.execute(
        text(_FEED), {"epoch": after.epoch, "xid": str(after.xid), "position": after.position, "limit": limit}
    )
    return [(FeedCursor(*row[:3]), Recorded(*row[3:])) for row in rows]
