"""Streams on uvicorn with httptools: a client costs the task of its request, and one timer looks after all of them.

This is the one place that knows uvicorn's inside: the response cycle behind `send`, its transport, and the two fields
that tell it that the head is gone. What runs elsewhere goes through asgi_response.py.
"""

import asyncio
from contextlib import aclosing

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from app import metrics
from app.cancelling import asked_to_end
from app.events.follow.reader import Reader
from app.gateway.responses import RawHeaders, Updates
from app.gateway.streaming.frames import PART_BYTES, frames_of, parts_of

logger = structlog.get_logger(__name__)


STREAM = "stellwerk.stream"
"""Where in the scope a stream waits until the middleware runs it."""
WATCH_SECONDS = 1.0
_STUCK = metrics.cut_readers.labels("stuck")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]
"""The same list for all streams, which live long."""


class UvicornStreams:
    """Cuts clients that take nothing for `send_timeout` seconds, and ends streams of those that have left."""

    def __init__(self, send_timeout: float) -> None:
        self._send_timeout = send_timeout
        self._open = set[EventStream]()
        self._chunk = b"", b""
        self.clock = asyncio.get_running_loop().time
        self.add = self._open.add
        self.discard = self._open.discard

    def response(self, first: bytes, updates: Updates, reader: Reader) -> Response:
        return EventStream(first, updates, reader, self)

    def chunk_of(self, frames: bytes) -> bytes:
        """Encoded once for all streams that send the same one after the other."""
        if frames is not self._chunk[0]:
            self._chunk = frames, chunk(frames)
        return self._chunk[1]

    async def watch(self) -> None:
        """Looks after all streams until cancelled."""
        while not asked_to_end():
            await asyncio.sleep(min(WATCH_SECONDS, self._send_timeout / 2))
            for stream in list(self._open):
                stream.look_after(stuck_since=self.clock() - self._send_timeout)


class EventStream(Response):
    """Frames as they come, on uvicorn.

    sse-starlette would run five tasks for each client, set a timer for each frame and check what it is made of.
    """

    def __init__(self, first: bytes, updates: Updates, reader: Reader, streams: UvicornStreams) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = _HEADERS
        self._first = first
        self._updates = updates
        self._reader = reader
        self._streams = streams
        self._sending_since: float | None = None
        self._has_left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only takes its place: what answered the request, layer upon layer, is to be gone while the stream lasts."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            scope[STREAM] = self

    async def run(self, send: Send, headers: RawHeaders) -> None:
        """Sends until there are no more frames, or the client has left."""
        response = send.__self__  # type: ignore[attr-defined]  # uvicorn's, by httptools
        self._transport = response.transport
        self._transport.set_write_buffer_limits(PART_BYTES)
        self._task = asyncio.current_task()
        self._streams.add(self)
        try:
            # Head and first frames in one write. uvicorn is told that the head is gone, and how the rest is encoded.
            response.response_started = response.chunked_encoding = True
            self._transport.write(_head([*response.default_headers, *headers]) + chunk(self._first))
            following = self._updates(take=self._take)
            del self._first, self._updates  # a stream lives long
            async with aclosing(following) as updates:
                async for update in updates:
                    self._sending_since = self._streams.clock()
                    for part in parts_of(frames_of(update)):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                    self._sending_since = None
                    if self._transport.is_closing():
                        return
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not self._has_left:
                raise
        finally:
            self._streams.discard(self)

    def _take(self, frames: bytes) -> bool:
        """Writes past this stream's sleeping task, unless the client has not yet taken what came before."""
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            return False
        self._transport.write(self._streams.chunk_of(frames))
        return True

    def look_after(self, *, stuck_since: float) -> None:
        if self._transport.is_closing():
            self._has_left = True
            if self._task is not None:
                self._task.cancel()
        elif self._sending_since is not None and self._sending_since < stuck_since:
            logger.info("a stuck reader was cut")
            _STUCK.inc()
            self._transport.abort()  # closing it politely would wait for ever for the client to take the rest
        elif self._sending_since is not None and not self._reader.may_go_on():
            logger.info("a slow reader was cut: its key is no longer in force")
            self._transport.abort()


def chunk(frames: bytes) -> bytes:
    """Wraps frames as HTTP's chunked encoding has it."""
    return b"%x\r\n%b\r\n" % (len(frames), frames)


def _head(headers: RawHeaders) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"HTTP/1.1 200 OK\r\n" + lines + b"transfer-encoding: chunked\r\n\r\n"
