"""Comparing what was recorded of heads with the streams as they are: what is gone, was taken back or written anew."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.errors import BadCursor
from app.events import read
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import rows_of
from app.events.proof.fault import Fault
from app.events.proof.heads import LOOKED_AT, ORDER, read_until
from app.events.types import HEADS_STREAM

PAGE = 20
"""Events of heads that are compared in one statement: at most as many ranges, of at most LOOKED_AT events each."""

_RANGES = """
SELECT r.i, count(e.stream_id), {order}
FROM unnest(%(after_epochs)s::bigint[], %(after_xids)s::text[], %(after_positions)s::bigint[],
            %(epochs)s::bigint[], %(xids)s::text[], %(positions)s::bigint[])
     WITH ORDINALITY AS r(after_epoch, after_xid, after_position, until_epoch, until_xid, until_position, i)
LEFT JOIN LATERAL (
    SELECT stream_id, "offset", epoch, xid, position FROM events
    WHERE (epoch, xid, position) > (r.after_epoch, r.after_xid::xid8, r.after_position)
      AND (epoch, xid, position) <= (r.until_epoch, r.until_xid::xid8, r.until_position)
    ORDER BY epoch, xid, position LIMIT {at_most}
) AS e ON true
GROUP BY r.i ORDER BY r.i
"""
_HEADS = """
SELECT recorded.id, recorded.head, s.head, s.earliest, encode(e.chain, 'hex'), recorded.chain
FROM unnest(CAST(:ids AS uuid[]), CAST(:heads AS bigint[]), CAST(:chains AS text[])) AS recorded(id, head, chain)
LEFT JOIN streams s ON s.stream_id = recorded.id
LEFT JOIN events e ON e.stream_id = recorded.id AND e."offset" = recorded.head
WHERE s.stream_id IS NULL OR encode(e.chain, 'hex') IS DISTINCT FROM recorded.chain
"""


async def check_heads(engine: AsyncEngine) -> AsyncIterator[Fault]:
    """Compares all that was recorded. That the record itself is whole, its own chain says."""
    place, after, told = FeedPlace(), 0, set[UUID]()
    while True:
        async with transaction(engine) as db:
            found = await read.stream_states(db, [HEADS_STREAM])
            if not found:
                return
            page = await read.read_page(db, found[0], after=after, limit=PAGE)
            recorded = [(event.offset, read.parse(event)) for event in page if event.t == "heads_event"]
            try:
                faults = await _check_page(db, recorded, place, told)
                place = FeedCursor.parse(recorded[-1][1]["until"]).place if recorded else place
            except (AttributeError, BadCursor, KeyError, TypeError, ValueError) as error:
                faults = [Fault(f"heads {after} …", f"is not what records heads: {error!r}", "heads")]
        for fault in faults:
            yield fault
        if not page:
            return
        after = page[-1].offset


async def _check_page(
    db: AsyncConnection, recorded: Sequence[tuple[int, dict[str, Any]]], place: FeedPlace, told: set[UUID]
) -> list[Fault]:
    faults = []
    ranges = [(offset, event) for offset, event in recorded if event["part"] == 1]
    for offset, event in ranges:
        if event["after"] != str(place):
            what = f"goes on after {event['after']}, what was before ended at {place}"
            faults.append(Fault(f"heads {offset}", what, "heads"))
        place = FeedCursor.parse(event["until"]).place
    for (offset, event), (_, count, order) in zip(ranges, await _orders(db, ranges), strict=True):
        if (count, order) != (event["events"], event["order"]):
            between = f"{event['events']} event(s) after {event['after']} up to {event['until']}"
            there = f"at least {count}" if count > LOOKED_AT else str(count)
            what = f"of {between}, {there} are there now: "
            what += "their order was changed" if count == event["events"] else "some were removed, added or moved"
            faults.append(Fault(f"heads {offset}", f"{what} (epoch, xid, position, offset or stream)", "order"))
    heads = [head for _, event in recorded for head in event["heads"]]
    return faults + [fault async for fault in _compare(db, heads, told)]


async def _orders(db: AsyncConnection, ranges: Sequence[tuple[int, dict[str, Any]]]) -> list[tuple[Any, ...]]:
    if not ranges:
        return []
    parameters: dict[str, list[Any]] = {}
    for prefix, name in (("after_", "after"), ("", "until")):
        cursors = [FeedCursor.parse(event[name]).place for _, event in ranges]
        parameters[f"{prefix}epochs"] = [cursor.epoch for cursor in cursors]
        parameters[f"{prefix}xids"] = [str(cursor.xid) for cursor in cursors]
        parameters[f"{prefix}positions"] = [cursor.position for cursor in cursors]
    return await rows_of(db, _RANGES.format(order=ORDER, at_most=LOOKED_AT + 1), parameters)


async def _compare(db: AsyncConnection, heads: Sequence[dict[str, Any]], told: set[UUID]) -> AsyncIterator[Fault]:
    """Tells of each stream once. Raises ValueError for what is no head."""
    recorded_heads = {
        "ids": [UUID(head["stream_id"]) for head in heads],
        "heads": [_offset(head["head"]) for head in heads],
        "chains": [str(head["chain"]) for head in heads],
    }
    rows = await db.execute(text(_HEADS), recorded_heads)
    for stream_id, recorded, head, earliest, link, _ in rows:
        if head is not None and recorded < earliest:
            continue  # pruned: whether that was allowed, the stream's own check tells
        if stream_id in told:
            continue
        told.add(stream_id)
        if head is None:
            what = f"it is gone; it was at offset {recorded}"
        elif head < recorded:
            what = f"it was taken back: its head is {head}, and was {recorded}"
        elif link is None:
            what = f"its event {recorded} is gone"
        else:
            what = f"it was written anew: the chain at offset {recorded} is another one than was recorded"
        yield Fault(f"stream {stream_id}", what, "heads")


def _offset(number: Any) -> int:
    if type(number) is not int or not 0 < number < 1 << 63:
        raise ValueError(f"{number!r} is no offset")
    return number


async def count_unrecorded(db: AsyncConnection, *, at_most: int) -> int:
    """How many events of other streams no recorded head covers; it stops counting at `at_most`."""
    place = await read_until(db) or FeedPlace()
    found = await db.scalar(
        text(
            "SELECT count(*) FROM (SELECT FROM events WHERE (epoch, xid, position) > (:epoch, CAST(:xid AS xid8),"
            " :position) AND t <> 'heads_event' LIMIT :at_most) AS later"
        ),
        {"epoch": place.epoch, "xid": str(place.xid), "position": place.position, "at_most": at_most},
    )
    return int(found or 0)
