"""Answers to requests for a stream: the stream, or when to come back, or that nothing will ever come."""

from dataclasses import replace
from functools import partial

import structlog
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.database import DATABASE_AWAY
from app.events.honouring import epoch_of
from app.events.read import offset_before, offset_before_last, read_page, stream_state
from app.events.types import AnyStreamId
from app.gateway.access import KeyHolder
from app.gateway.responses import come_back
from app.gateway.streaming.frames import opening_frames
from app.gateway.streaming.manner import Manner
from app.gateway.streaming.start import Opening, Start, place
from app.gateway.wiring import Gateway
from app.principals.model import Principal, check_readable

logger = structlog.get_logger(__name__)

_RESETS = metrics.resets.labels("cursor")
MEDIA_TYPE = "text/event-stream"


async def event_stream(
    gateway: Gateway, principal: Principal, stream_id: AnyStreamId, start: Start, manner: Manner
) -> Response:
    """Raises NotFound, and TooMany where the project may open no further stream.

    To EventSource every status but 200 is final: 204 says that nothing will ever come, unless the client wants to
    read that; and a gateway that cannot serve now says 200, when to come back, and closes.
    """
    if gateway.follower.readers >= gateway.settings.max_readers:
        return come_back(gateway.streams, "too many readers", start.after)
    try:
        opening, is_over = await _open(gateway, principal, stream_id, start)
        if is_over and manner.says_204:
            return Response(status_code=204)
    except DATABASE_AWAY:
        return come_back(gateway.streams, "the database does not answer", start.after)
    # Here, since nothing is waited for from here on until the stream counts: of those that come at once, no more
    # get in than may.
    gateway.access.limits.check_stream(principal)
    if opening.reset is not None:
        _RESETS.inc()
    reader = KeyHolder(gateway.access, principal)
    following = partial(gateway.follower.follow, stays=True) if manner.stays else gateway.follower.follow
    updates = partial(following, opening.state, opening.after, opening.only, reader=reader)
    return gateway.streams.response(opening_frames(opening), updates, reader, manner.encode)


async def _open(gateway: Gateway, principal: Principal, stream_id: AnyStreamId, start: Start) -> tuple[Opening, bool]:
    """Returns where it starts, and whether nothing will ever come from there."""
    state = check_readable(principal, await gateway.follower.states.read(stream_id))
    if start.since is None and not start.only and start.wants_epoch_of(state) is None:
        opening = place(state, start)
        has_more = opening.after < opening.state.head
    else:
        async with gateway.snapshot() as db:
            opening = await resolve(db, principal, stream_id, start)
            has_more = not opening.state.closed or bool(
                await read_page(db, opening.state, after=opening.after, limit=1, only=opening.only)
            )
    return opening, opening.state.closed and opening.reset is None and not has_more


async def resolve(db: AsyncConnection, principal: Principal, stream_id: AnyStreamId, start: Start) -> Opening:
    """Places the start in the stream as `db` sees it. Raises NotFound."""
    state = check_readable(principal, await stream_state(db, stream_id))
    before_since = 0 if start.since is None else await offset_before(db, stream_id, start.since)
    if start.tail is not None and start.only:
        before_last = await offset_before_last(db, state, min(start.tail, state.head), start.only)
        start = replace(start, tail=state.head - before_last)
    offset = start.wants_epoch_of(state)
    written_in = None
    if offset is not None and start.after is not None:
        written_in = await epoch_of(db, stream_id, offset, known=start.after.epoch)
    return place(state, start, before_since=before_since, written_in=written_in)
