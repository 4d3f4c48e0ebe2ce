"""Streams as server-sent events: control frames around what `follow` gives."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import assert_never

import orjson
import structlog
from fastapi import Response
from sse_starlette import ServerSentEvent

from app.database import DATABASE_AWAY
from app.events.follow import Batch, Beat, End, Reset
from app.events.live import Take
from app.events.log import AnyStreamId, StreamState, read_page
from app.gateway.open_streams import EventStream
from app.gateway.opening import Opening, Start, place, resolve
from app.gateway.wiring import Gateway

logger = structlog.get_logger(__name__)

RETRY_MS = (500, 2_500)
"""A restarted gateway must not get all its readers back in the same moment."""
OVERLOAD_RETRY_MS = (5_000, 15_000)
HEARTBEAT = b": heartbeat\n\n"
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
    return EventStream(partial(_frames, gateway, opening), gateway.open_streams)


async def _open(gateway: Gateway, stream_id: AnyStreamId, start: Start) -> tuple[Opening, bool]:
    """Where it starts, and whether nothing will ever come from there."""
    if start.since is None and not start.only:
        opening = place(await gateway.states.read(stream_id), start)
        has_more = opening.after < opening.state.head
    else:
        async with gateway.snapshot() as db:
            opening = await resolve(db, stream_id, start)
            has_more = not opening.state.closed or bool(
                await read_page(db, opening.state, after=opening.after, limit=1, only=opening.only)
            )
    return opening, opening.state.closed and opening.reset is None and not has_more


async def _frames(gateway: Gateway, opening: Opening, take: Take) -> AsyncGenerator[bytes, None]:
    yield stream_frame(opening.state, opening.after)
    if opening.reset is not None:
        yield reset_frame(str(opening.reset), opening.state)
    async with aclosing(gateway.follower.follow(opening.state, opening.after, opening.only, take)) as updates:
        async for update in updates:
            match update:
                case Batch(cursor, b""):
                    yield f"id: {cursor}\n\n".encode()
                case Batch():
                    yield update.frames
                case Beat():
                    yield HEARTBEAT
                case Reset():
                    yield reset_frame(update.reason, update.state)
                case End():
                    yield end_frame(update.state)
                case _:
                    assert_never(update)


def stream_frame(state: StreamState, cursor: int) -> bytes:
    """The first on every connection. `retry:` stands inside: some clients dispatch a block of its own."""
    data = {
        "earliest": state.earliest,
        "head": state.head,
        "head_chain": state.head_chain.hex(),
        "status": state.status,
        "epoch": state.epoch,
    }
    return _control_frame("stream", cursor, data, retry=random.randint(*RETRY_MS))  # noqa: S311  # jitter


def reset_frame(reason: str, state: StreamState) -> bytes:
    """Its id makes the client forget the cursor that could not be served."""
    data = {"reason": reason, "earliest": state.earliest, "head": state.head}
    return _control_frame("reset", state.earliest - 1, data)


def end_frame(state: StreamState) -> bytes:
    data = {"head": state.head, "head_chain": state.head_chain.hex(), "status": state.status}
    return _control_frame("end", state.head, data)


def _control_frame(event: str, cursor: int, data: dict[str, object], *, retry: int | None = None) -> bytes:
    text = orjson.dumps(data).decode()
    return ServerSentEvent(text, event=event, id=str(cursor), retry=retry, sep="\n").encode()


def _come_back(why: str) -> Response:
    logger.warning("a reader was sent away for a while", why=why)
    retry = random.randint(*OVERLOAD_RETRY_MS)  # noqa: S311  # jitter
    return Response(f": {why}\nretry: {retry}\n\n", media_type=MEDIA_TYPE)
