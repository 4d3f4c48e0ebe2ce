"""Streams on any ASGI server, through sse-starlette's response."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog
from fastapi import Response
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from app import metrics
from app.events.follow.reader import Reader
from app.gateway.responses import Updates
from app.gateway.streaming.frames import frames_of, parts_of

logger = structlog.get_logger(__name__)

_STUCK = metrics.cut_readers.labels("stuck")


class AsgiStreams:
    """sse-starlette looks after each stream by itself: it cuts a client that takes nothing for `send_timeout` s."""

    def __init__(self, send_timeout: float) -> None:
        self._send_timeout = send_timeout

    def response(self, first: bytes, updates: Updates, reader: Reader) -> Response:
        # The follower beats for all streams, so sse-starlette need not ping each of them.
        return _EventStream(_frames(first, updates), sep="\n", ping=0, send_timeout=self._send_timeout)

    async def watch(self) -> None:
        await asyncio.Event().wait()


class _EventStream(EventSourceResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("a stuck reader was cut")
            _STUCK.inc()


async def _frames(first: bytes, updates: Updates) -> AsyncIterator[bytes]:
    yield first
    async with aclosing(updates()) as following:
        async for update in following:
            for part in parts_of(frames_of(update)):
                yield part
