"""Answers to requests for the feed: server-sent events, or a page of JSON."""

import time
from functools import partial

import orjson
from fastapi import Response

from app import metrics
from app.database import DATABASE_AWAY
from app.errors import CursorOutOfRange
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import FeedFilter, FeedHead, feed_head, read_feed
from app.events.feed_places import Reading, before_first_since, before_last
from app.gateway.access import KeyHolder
from app.gateway.responses import come_back
from app.gateway.streaming.feed_start import FeedOpening, FeedStart, place, visible, why_not
from app.gateway.streaming.frames import feed_reset_frame, feed_stream_frame
from app.gateway.streaming.manner import Manner
from app.gateway.wiring import Gateway
from app.principals.model import Principal

_RESETS = metrics.resets.labels("cursor")
PAGE_SECONDS = 2.0
"""A page of a rare kind ends after this time; its `next` says how far it got."""
PAGE_BYTES = 4 * 1024 * 1024
AT_ONCE = 100
"""A page is read by so many events at a time, so that large ones are noticed."""
_DATA = b"\ndata: "


async def feed_stream(gateway: Gateway, principal: Principal, start: FeedStart, manner: Manner) -> Response:
    """Raises NotFound, MissingScope and TooMany. It never says 204: something may always come."""
    only = visible(principal, start.only)
    if gateway.follower.readers >= gateway.settings.max_readers:
        return come_back(gateway.streams, "too many readers", start.after)
    try:
        opening = await _open(gateway.follower.feed.reading, start, only)
    except DATABASE_AWAY:
        return come_back(gateway.streams, "the database does not answer", start.after)
    gateway.access.limits.check_stream(principal)  # here, as in endpoint.py
    head, after = opening.head, opening.after
    first = feed_stream_frame(head.place, head.epoch, opening.cursor)
    if opening.reset is not None:
        first += feed_reset_frame(opening.reset)
        _RESETS.inc()
    reader = KeyHolder(gateway.access, principal)
    updates = partial(gateway.follower.feed.follow, after, only, epoch=head.epoch, reader=reader)
    return gateway.streams.response(first, updates, reader, manner.encode)


async def feed_page(gateway: Gateway, principal: Principal, start: FeedStart, limit: int) -> Response:
    """The very bytes that streams carry as data. Raises NotFound, MissingScope and CursorOutOfRange."""
    only = visible(principal, start.only)
    reading = gateway.follower.feed.reading
    opening = await _open(reading, start, only)
    if start.after is not None and (reason := why_not(opening.head, start.after)):
        raise CursorOutOfRange(reason, cursor=str(FeedPlace()))  # where a stream would say `reset`, and begin again
    frames, reached, epoch, is_all = await _read(reading, opening.after, only, limit)
    head = reached if is_all else max(reached, (await _head(reading)).place)
    about = {"epoch": epoch, "head": str(head), "next": str(FeedCursor(epoch, reached))}
    events = b",".join(frame[frame.index(_DATA) + len(_DATA) : -2] for frame in frames)
    return Response(b'{"events":[%b],%b' % (events, orjson.dumps(about)[1:]), media_type="application/json")


async def _open(reading: Reading, start: FeedStart, only: FeedFilter) -> FeedOpening:
    head = await _head(reading)
    if start.after is not None:
        return place(head, start.after)
    return FeedOpening(head, await _relative(reading, head, start, only))


async def _relative(reading: Reading, head: FeedHead, start: FeedStart, only: FeedFilter) -> FeedPlace:
    if start.latest:
        return head.place
    if start.tail is not None:
        return await before_last(reading, head, only, start.tail)
    if start.since is not None:
        return await before_first_since(reading, head, start.since)
    return FeedPlace()


async def _read(
    reading: Reading, after: FeedPlace, only: FeedFilter, limit: int
) -> tuple[list[bytes], FeedPlace, int, bool]:
    """Returns frames, how far they reach, the epoch, and whether there is nothing more."""
    frames, ends = list[bytes](), time.monotonic() + PAGE_SECONDS
    while True:
        async with reading() as db:
            found = await read_feed(db, after, only, limit=min(AT_ONCE, limit - len(frames)))
        frames += found.frames
        is_all = found.reached == after
        after = found.reached
        if is_all or len(frames) == limit or sum(map(len, frames)) > PAGE_BYTES or time.monotonic() > ends:
            return frames, after, found.epoch, is_all


async def _head(reading: Reading) -> FeedHead:
    async with reading() as db:
        return await feed_head(db)
