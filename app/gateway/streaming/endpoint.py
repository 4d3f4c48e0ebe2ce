"""Answers to who asks for a stream: the stream, or when to come back, or that nothing will ever come."""

import random
from functools import partial

import structlog
from fastapi import Response

from app.database import DATABASE_AWAY
from app.events.read import read_page
from app.events.types import AnyStreamId
from app.gateway.streaming.frames import opening_frames
from app.gateway.streaming.start import Opening, Start, place, resolve
from app.gateway.streaming.uvicorn_response import EventStream
from app.gateway.wiring import Gateway

logger = structlog.get_logger(__name__)

OVERLOAD_RETRY_MS = (5_000, 15_000)
MEDIA_TYPE = "text/event-stream"


async def event_stream(gateway: Gateway, stream_id: AnyStreamId, start: Start) -> Response:
    """Raises NotFound.

    To EventSource every status but 200 is final: 204 says that nothing will ever come, and a gateway that
    cannot serve now says 200, when to come back, and closes.
    """
    if gateway.follower.readers >= gateway.settings.max_readers:
        return _come_back("too many readers")
    try:
        opening, is_over = await _open(gateway, stream_id, start)
        if is_over:
            return Response(status_code=204)
    except DATABASE_AWAY:
        return _come_back("the database does not answer")
    updates = partial(gateway.follower.follow, opening.state, opening.after, opening.only)
    return EventStream(opening_frames(opening), updates, gateway.open_streams)


async def _open(gateway: Gateway, stream_id: AnyStreamId, start: Start) -> tuple[Opening, bool]:
    """Where it starts, and whether nothing will ever come from there."""
    if start.since is None and not start.only:
        opening = place(await gateway.follower.states.read(stream_id), start)
        has_more = opening.after < opening.state.head
    else:
        async with gateway.snapshot() as db:
            opening = await resolve(db, stream_id, start)
            has_more = not opening.state.closed or bool(
                await read_page(db, opening.state, after=opening.after, limit=1, only=opening.only)
            )
    return opening, opening.state.closed and opening.reset is None and not has_more


def _come_back(why: str) -> Response:
    logger.warning("a reader was sent away for a while", why=why)
    retry = random.randint(*OVERLOAD_RETRY_MS)  # noqa: S311  # jitter
    return Response(f": {why}\nretry: {retry}\n\n", media_type=MEDIA_TYPE)
