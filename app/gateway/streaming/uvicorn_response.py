"""Streams on uvicorn with httptools: a client costs the task of its request, and one timer looks after all of them.

This and parting.py are the places that know uvicorn's inside: here the response cycle behind `send`, its transport,
and the fields that tell it that the head is gone, and how the rest is encoded. What runs elsewhere goes through
asgi_response.py.
"""

import asyncio
import sys
from contextlib import aclosing

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app import metrics
from app.cancelling import asked_to_end
from app.events.cursors import AnyCursor
from app.events.follow.live import Take
from app.events.follow.reader import ANYONE, Reader
from app.events.follow.updates import LAPSED, STOPPING, Away, End, Update
from app.gateway.responses import CACHE_CONTROL, STREAM, Encode, RawHeaders, Updates, no_updates
from app.gateway.streaming.frames import PART_BYTES, away_frame, frames_of, last_id_in, parts_of
from app.gateway.streaming.parting import part
from app.gateway.streaming.untaken import untaken

logger = structlog.get_logger(__name__)


WATCH_SECONDS = 1.0
_STUCK = metrics.cut_readers.labels("stuck")
_LAST_CHUNK = b"0\r\n\r\n"
_WITHOUT_BOUND = sys.maxsize
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    CACHE_CONTROL,
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

    def response(self, first: bytes, updates: Updates, reader: Reader, encode: Encode) -> Response:
        return EventStream(first, updates, reader, encode, self)

    def chunk_of(self, frames: bytes) -> bytes:
        """Encoded once for all streams that send the same one after the other."""
        if frames is not self._chunk[0]:
            self._chunk = frames, chunk(frames)
        return self._chunk[1]

    def away(self, why: str, cursor: AnyCursor | None) -> Response:
        return self.response(away_frame(why, cursor, overloaded=True), no_updates, ANYONE, frames_of)

    def hang_up(self) -> None:
        """Sends those away that are in the middle of taking something; the others are told where they wait."""
        for stream in list(self._open):
            if stream.is_sending:
                stream.send_away(STOPPING)

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

    _away: str | None = None
    """Why the client is sent away, if that comes from here."""
    _has_lapsed = False
    _untaken = 0
    _sent = b""
    """What went out last of what is being sent."""
    _last_id: str | None = None
    """What went out before it: where a client stands that is sent away, if nothing passed its sleeping task."""

    def __init__(self, first: bytes, updates: Updates, reader: Reader, encode: Encode, streams: UvicornStreams) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = _HEADERS
        self._first = first
        self._updates = updates
        self._reader = reader
        self._encode = encode
        self._streams = streams
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only takes its place: what answered the request, layer upon layer, is to be gone while the stream lasts."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            scope[STREAM] = self

    async def run(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        """Sends until there are no more frames, or the client has left or is sent away."""
        response: RequestResponseCycle = send.__self__  # type: ignore[attr-defined]  # uvicorn's, by httptools
        self._transport = response.transport
        self._transport.set_write_buffer_limits(PART_BYTES)
        self._task = asyncio.current_task()
        self._streams.add(self)
        is_old = scope["http_version"] == "1.0"
        last: Update | None = None
        try:
            # Head and first frames in one write. uvicorn is told that the head is gone, and how the rest is encoded.
            response.response_started, response.chunked_encoding = True, not is_old
            response.expected_content_length = _WITHOUT_BOUND if is_old else 0
            self._transport.write(_head([*response.default_headers, *headers], self._first, is_chunked=not is_old))
            last = await self._send_updates(send, None if is_old else self._take)
        except asyncio.CancelledError:
            if self._away is not None:
                last = Away(self._away, last_id_in(self._sent) or self._last_id)
            elif not self._transport.is_closing():
                raise
        finally:
            self._streams.discard(self)
        if isinstance(last, End) and response.keep_alive and not is_old:
            await send({"type": "http.response.body", "body": b""})
        elif isinstance(last, End):
            part(response, b"" if is_old else _LAST_CHUNK)
        else:
            farewell = b"" if last is None else self._encode(last)
            part(response, chunk(farewell) if farewell and not is_old else farewell)

    async def _send_updates(self, send: Send, take: Take | None) -> Update | None:
        """Returns the last one, which says how the stream ends, where that is known; `Away` is not sent here."""
        encode = self._encode
        following = self._updates(take=take)
        self._last_id = last_id_in(self._first)
        del self._first, self._updates  # a stream lives long
        update: Update | None = None
        async with aclosing(following) as updates:
            async for update in updates:
                if isinstance(update, Away) or self._transport.is_closing():
                    break
                self._sending_since = self._streams.clock()
                for part_ in parts_of(encode(update)):
                    await send({"type": "http.response.body", "body": part_, "more_body": True})
                    self._sent = part_
                self._sending_since = None
                self._last_id, self._sent = last_id_in(self._sent) or self._last_id, b""
        return update if isinstance(update, Away | End) else None

    def _take(self, frames: bytes) -> bool:
        """Writes past this stream's sleeping task, unless the client has not yet taken what came before."""
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            return False
        self._transport.write(self._streams.chunk_of(frames))
        self._last_id = None
        return True

    @property
    def is_sending(self) -> bool:
        return self._sending_since is not None

    def look_after(self, *, stuck_since: float) -> None:
        if self._transport.is_closing():
            if self._task is not None:
                self._task.cancel()
        elif not self._reader.may_go_on():
            # One that waits for news is told there, with its cursor: this is for those that were not.
            if self._has_lapsed or self.is_sending:
                logger.info("a reader is sent away: its key is no longer in force")
                self.send_away(LAPSED)
            self._has_lapsed = True
        elif self._sending_since is None:
            pass
        elif self._untaken != (waiting := untaken(self._transport)):
            self._untaken, self._sending_since = waiting, self._streams.clock()
        elif self._sending_since < stuck_since:
            logger.info("a stuck reader was cut")
            _STUCK.inc()
            self._transport.abort()  # closing it politely would wait for ever for the client to take the rest

    def send_away(self, reason: str) -> None:
        """Sends nothing more but that. Where its task waits, it stands between two frames."""
        if self._away is None and self._task is not None:
            self._away = reason
            self._task.cancel()


def chunk(frames: bytes) -> bytes:
    """Wraps frames as HTTP's chunked encoding has it."""
    return b"%x\r\n%b\r\n" % (len(frames), frames)


def _head(headers: RawHeaders, first: bytes, *, is_chunked: bool) -> bytes:
    """The head and the first frames. A client of HTTP/1.0 gets no chunks: the end of the connection ends the body."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if is_chunked:
        lines, first = lines + b"transfer-encoding: chunked\r\n", chunk(first)
    return b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + first
