"""Finding places in the feed: a number of events before its end, or a time.

Each statement looks at a bounded number of events, so a search is many short ones.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.cursors import FeedPlace
from app.events.feed import LOOKED_AT, FeedFilter, FeedHead, place_of, rows_of, sql, wanted_sql

MARGIN = timedelta(minutes=2)
"""Longer than a transaction lives between its number and its last event: so much may ts fall along the feed."""

Reading = Callable[[], AbstractAsyncContextManager[AsyncConnection]]
"""Gives a connection for one statement, when it is that reader's turn."""

# The count of those that match, and the earliest event that was looked at.
_COUNT = """
WITH found AS MATERIALIZED (
    SELECT marked.epoch, marked.xid, marked.position, coalesce({wanted}, false) AS is_wanted
    FROM (
        SELECT looked.*, lead(position) OVER (ORDER BY epoch DESC, xid DESC, position DESC) IS NULL AS is_last
        FROM (
            SELECT epoch, xid, position, stream_id, t, agent, phase, data FROM events
            WHERE (epoch, xid, position) < (%(epoch)s::bigint, %(xid)s::text::xid8, %(position)s::bigint)
              AND {no_heads}
            ORDER BY epoch DESC, xid DESC, position DESC LIMIT {looked_at}
        ) AS looked
    ) AS marked LEFT JOIN streams AS s USING (stream_id)
    WHERE {wanted} OR is_last ORDER BY marked.epoch DESC, marked.xid DESC, marked.position DESC LIMIT %(limit)s
)
SELECT count(*) FILTER (WHERE is_wanted) OVER (), epoch, found.xid::text::bigint, position
FROM found ORDER BY epoch, found.xid, position LIMIT 1
"""


async def before_last(reading: Reading, head: FeedHead, only: FeedFilter, count: int) -> FeedPlace:
    """The place before the last `count` events that match; the beginning, if there are no more than that."""
    if count == 0:
        return head.place
    wanted, parameters = wanted_sql(only)
    query = sql(_COUNT, wanted=wanted or "true", looked_at=LOOKED_AT)
    place, remaining = head.bound, count
    while remaining > 0:
        async with reading() as db:
            rows = await rows_of(db, query, parameters | place_of(place) | {"limit": min(remaining, LOOKED_AT)})
        if not rows:
            return FeedPlace()
        ((found, *at),) = rows
        place, remaining = FeedPlace(*at), remaining - found
    return _before(place)


def _before(event: FeedPlace) -> FeedPlace:
    """A place before this event and after all that are before it."""
    return event._replace(position=event.position - 1)


_AT = """
SELECT e.xid::text::bigint, e.ts FROM {bound} CROSS JOIN LATERAL (
    SELECT xid, ts FROM events WHERE {after} AND {complete} AND epoch = %(epoch)s::bigint
    ORDER BY epoch, xid, position LIMIT 1
) AS e
"""
_SINCE = """
SELECT e.* FROM {bound} CROSS JOIN LATERAL (
    SELECT marked.epoch, marked.xid::text::bigint, marked.position, is_since
    FROM (
        SELECT looked.*, lead(position) OVER (ORDER BY epoch, xid, position) IS NULL AS is_last
        FROM (
            SELECT epoch, xid, position, ts >= %(since)s AS is_since FROM events WHERE {after} AND {complete}
            ORDER BY epoch, xid, position LIMIT {looked_at}
        ) AS looked
    ) AS marked WHERE is_since OR is_last ORDER BY marked.epoch, marked.xid, marked.position LIMIT 1
) AS e
"""


async def before_first_since(reading: Reading, head: FeedHead, since: datetime) -> FeedPlace:
    """The place before the first event with this ts or a later one; the end, if there is none.

    Along the feed ts may fall a little, so an event after this place may be a little older. None that is not older
    is before it.
    """
    place = await _safely_before(reading, head, since - MARGIN)
    while True:
        async with reading() as db:
            rows = await rows_of(db, sql(_SINCE, looked_at=LOOKED_AT), place_of(place) | {"since": since})
        if not rows:
            return max(place, FeedPlace(head.epoch))
        place = FeedPlace(*rows[0][:3])
        if rows[0][3]:
            return _before(place)


async def _safely_before(reading: Reading, head: FeedHead, ts: datetime) -> FeedPlace:
    """A place of which it is sure that no event before it is younger than `ts` by MARGIN, not far from the last one.

    Any event that is older than `ts` is such a place: all before it had a transaction's number when it was written.
    """
    async with reading() as db:
        epochs = await rows_of(
            db, "SELECT epoch FROM epochs WHERE epoch <= %(epoch)s ORDER BY epoch DESC", {"epoch": head.epoch}
        )
    for (epoch,) in epochs:
        first = await _at(reading, FeedPlace(epoch))
        if first is None or first[1] >= ts:
            continue
        low, high = first[0], 1 << 63
        while high - low > 1:
            middle = min((low + high) // 2, 2 * low + 1)  # the numbers that were used are the small ones
            found = await _at(reading, FeedPlace(epoch, middle))
            if found is None or found[1] >= ts:
                high = middle
            else:
                low = found[0]
        return FeedPlace(epoch, low)
    return FeedPlace()


async def _at(reading: Reading, place: FeedPlace) -> tuple[int, datetime] | None:
    """The transaction and ts of the next event of this epoch."""
    async with reading() as db:
        rows = await rows_of(db, sql(_AT), place_of(place))
    return None if not rows else (rows[0][0], rows[0][1])
