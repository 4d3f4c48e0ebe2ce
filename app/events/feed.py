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


async def read_feed(db: AsyncConnection, after: FeedCursor, *, limit: int) -> list[tuple[FeedCursor, Recorded]]:
    """The next events across all streams, in each stream's offset order, skipping none."""
    rows = await db.execute(
        text(_FEED), {"epoch": after.epoch, "xid": str(after.xid), "position": after.position, "limit": limit}
    )
    return [(FeedCursor(*row[:3]), Recorded(*row[3:])) for row in rows]
