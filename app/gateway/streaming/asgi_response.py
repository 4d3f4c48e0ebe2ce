"""Streams on any ASGI server, through sse-starlette's response.

ASGI has no word for a body that is not complete. On uvicorn with h11 it is ended as parting.py does it. On any other
server the response just returns without its last message, and the server closes the connection in its own way.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog
from fastapi import Response
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

from app import metrics
from app.events.cursors import AnyCursor
from app.events.follow.reader import ANYONE, Reader
from app.events.follow.updates import End
from app.gateway.responses import CACHE_CONTROL, STREAM, Encode, RawHeaders, Updates, no_updates
from app.gateway.streaming.frames import away_frame, frames_of, parts_of
from app.gateway.streaming.parting import PARTING_SECONDS, cycle_of, part

logger = structlog.get_logger(__name__)

_STUCK = metrics.cut_readers.labels("stuck")


class AsgiStreams:
    """sse-starlette looks after each stream by itself: it cuts a client that takes nothing for `send_timeout` s."""

    def __init__(self, send_timeout: float) -> None:
        self._send_timeout = send_timeout

    def response(self, first: bytes, updates: Updates, reader: Reader, encode: Encode) -> Response:
        return _EventStream(first, updates, encode, send_timeout=self._send_timeout)

    def away(self, why: str, cursor: AnyCursor | None) -> Response:
        return self.response(away_frame(why, cursor, overloaded=True), no_updates, ANYONE, frames_of)

    def hang_up(self) -> None:
        """sse-starlette sees by itself that its server stops."""

    async def watch(self) -> None:
        await asyncio.Event().wait()


class _EventStream(EventSourceResponse):
    _is_over = False

    def __init__(self, first: bytes, updates: Updates, encode: Encode, *, send_timeout: float) -> None:
        # The follower beats for all streams, so sse-starlette need not ping each of them; and it says farewell when
        # the process stops, unless its client takes nothing meanwhile.
        super().__init__(
            self._frames(first, updates, encode),
            sep="\n",
            ping=0,
            send_timeout=send_timeout,
            shutdown_grace_period=PARTING_SECONDS,
        )
        del self.headers["connection"]  # is none of HTTP/2
        self.headers["cache-control"] = CACHE_CONTROL[1].decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
        else:
            scope[STREAM] = self

    async def run(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        async def send_if_complete(message: Message) -> None:
            if self._is_over or message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)

        self.raw_headers = headers
        cycle = cycle_of(send)
        try:
            await super().__call__(scope, receive, send_if_complete)
        except SendTimeoutError:
            logger.info("a stuck reader was cut")
            _STUCK.inc()
            if cycle is not None:
                cycle.transport.abort()
        if cycle is not None and not self._is_over:
            part(cycle)

    async def _frames(self, first: bytes, updates: Updates, encode: Encode) -> AsyncIterator[bytes]:
        yield first
        async with aclosing(updates()) as following:
            async for update in following:
                for frames in parts_of(encode(update)):
                    yield frames
                self._is_over = isinstance(update, End)
