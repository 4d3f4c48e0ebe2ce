"""uvicorn's protocol with bounds, which httptools has not: of heads, of what follows them, of time, of connections.

It knows uvicorn's inside: the cycle of the request that was read last, those that wait behind one another, and when a
response is complete.
"""

import asyncio
import math
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.config import MIB, Settings
from app.gateway.door.connections import Connections, refuse
from app.gateway.door.lingering import DRAINED_BYTES, LINGER_BYTES, LINGER_SECONDS, LingeringTransport
from app.gateway.streaming.untaken import untaken

MAX_RAW_BODY = 16 * MIB
"""With all that stands around its chunks; bodies.py counts what is in them."""
PART_BYTES = 16 * 1024
"""So much is parsed at a time."""
MAX_PIPELINED = 32
"""When so many requests of one connection wait behind one another, no more are parsed: one of 18 bytes becomes 3 KB."""
MAX_HELD_BYTES = MIB


class DoorConfig(uvicorn.Config):
    """uvicorn's configuration, in which protocols find what they share."""

    def __init__(self, app: Any, *, settings: Settings, connections: Connections, **options: Any) -> None:
        super().__init__(app, **options)
        self.settings, self.connections = settings, connections


class _Refused(Exception):
    """Ends the parsing of what a client sends."""


class BoundedProtocol(HttpToolsProtocol):
    # More than thirty names in a __dict__, and every idle client would cost 2 KB more.
    __slots__ = (
        *("_address", "_all", "_body_bytes", "_body_since", "_empty", "_head_bytes", "_held", "_in_head"),
        *("_is_deaf", "_is_upgrade", "_lingers_until", "_received", "_settings", "_waiting_bytes"),
    )

    def __init__(
        self,
        config: DoorConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = config.connections
        self._settings = config.settings
        self._address: str | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes: float = 0
        """As the head announces them."""
        self._body_since = 0.0
        self._received = 0
        """Bytes that have come of the head or the body which is being read."""
        self._empty = 0
        """Those of them since the last that belonged to the body itself: chunks may have extensions, and trailers."""
        self._held = b""
        """What has come and is not parsed yet."""
        self._is_deaf = False
        """What still comes is thrown away."""
        self._is_upgrade = False
        """Whether the head that was read last asks for another protocol, of which there is none here."""
        self._lingers_until: float | None = None
        self._waiting_bytes = 0
        """Those of an answer that the client had not taken when that was looked at last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        has_room = self._all.came()
        host = self.client[0] if self.client else ""
        is_proxy = self._all.addresses.is_trusted(host)  # its clients are counted request by request
        address = None if is_proxy else self._all.addresses.limited(host)
        if not self._all.enter(address):
            self._turn_away(b"429 Too Many Requests", b"this address has too many connections open")
            self.transport.close()
            return
        self._address = address
        if has_room:
            self._all.heads[self] = self.loop.time()
        else:
            self._turn_away(b"503 Service Unavailable", b"this gateway has too many connections open")
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.forget(self)
        self._all.leave(self._address)
        self._all.left()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._received += len(data)
            if self._received > LINGER_BYTES:
                self.transport.abort()
        elif self._held:
            self._held += data
            self.flow.pause_reading()
            if len(self._held) > MAX_HELD_BYTES:
                self.transport.abort()
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        for begin in range(0, len(data), PART_BYTES):
            if self._is_deaf or self.transport.is_closing():
                return
            if len(self.pipeline) >= MAX_PIPELINED:
                self._held = data[begin:]
                self.flow.pause_reading()
                return
            self._parse_part(data[begin : begin + PART_BYTES])

    def _parse_part(self, data: bytes) -> None:
        self._received += len(data)
        self._empty += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._is_deaf or self.transport.is_closing():
            return
        if not self._in_head:
            if self._received > MAX_RAW_BODY or self._empty > self._settings.max_head_bytes:
                refuse("large_body")
                self.transport.abort()
        elif self._received > self._settings.max_head_bytes:
            self._refuse_head()
        elif self._is_idle:
            self._all.heads.setdefault(self, self.loop.time())

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            except httptools.HttpParserUpgrade as upgrade:
                (parsed,) = upgrade.args
                data = self._begun_again(data[parsed:]) if self._is_upgrade else b""

    def _begun_again(self, rest: bytes) -> bytes:
        """The request without its `Upgrade`, as RFC 9110 (7.8) has it for a server that takes none, for a new parser.

        The old one takes what follows such a head for the other protocol's, and would read a body as a request.
        """
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*lines, b"", rest])

    def _parse_held(self) -> None:
        held, self._held = self._held, b""
        self._parse(held)
        if not self._held and not self.pipeline:
            self.flow.resume_reading()

    @property
    def _is_idle(self) -> bool:
        """Says whether all that was asked is answered."""
        return self.cycle is None or self.cycle.response_complete

    # What the parser finds.

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer must not become a header of a request that was looked at before it came
        self._count_head(len(name) + len(value))
        super().on_header(name, value)
        if len(name) == 14 and name.lower() == b"content-length":
            self._body_bytes = int(value)  # the parser takes nothing but digits
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            self._body_bytes = math.inf

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._settings.max_head_bytes:
            self._refuse_head()
            raise _Refused

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        is_connect = self.parser.get_method() == b"CONNECT"  # which the parser takes for one, too
        self._is_upgrade = self.parser.should_upgrade() and not is_connect and not self._should_upgrade()
        if self._is_upgrade:
            return
        self._all.heads.pop(self, None)
        self._in_head = False
        self._received = self._empty = 0
        super().on_headers_complete()
        if self._body_bytes:
            self._body_since = self.loop.time()
            self._all.bodies[self] = None
            # A response is to end its connection only when the client has stopped sending.
            self.cycle.transport = cast("asyncio.Transport", LingeringTransport(self.transport, self))

    def on_body(self, body: bytes) -> None:
        self._empty = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        self._in_head = True
        self._received = 0
        self._all.bodies.pop(self, None)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._is_deaf:
            super().send_400_response(msg)

    # How a connection ends.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._held:
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_held)
        # A small body is read to its end, unless its client may not even have begun to send it.
        elif self._is_not_drained and self.owes_more() and not self._is_deaf:
            self.linger()

    @property
    def _is_not_drained(self) -> bool:
        return self._body_bytes > DRAINED_BYTES or self.expect_100_continue

    def owes_more(self) -> bool:
        return not self._in_head and self._is_idle

    def linger(self) -> None:
        self._unset_keepalive_if_required()
        self._is_deaf = True
        self._received = 0
        self._lingers_until = self.loop.time() + LINGER_SECONDS
        self._all.heads.pop(self, None)
        self._all.bodies[self] = None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def is_overdue(self, now: float) -> bool:
        if self._lingers_until is not None:
            return now >= self._lingers_until
        if self.flow.read_paused:
            self._body_since = now  # it is the gateway that is slow
        allowed = self._settings.body_timeout.total_seconds() + self._received / self._settings.body_rate
        return now > self._body_since + allowed

    def pause_writing(self) -> None:
        self._waiting_bytes = untaken(self.transport)
        self._all.full[self] = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._all.full.pop(self, None)
        super().resume_writing()

    def has_taken_some(self) -> bool:
        before, self._waiting_bytes = self._waiting_bytes, untaken(self.transport)
        return self._waiting_bytes < before

    def give_up(self) -> None:
        if self._lingers_until is not None or self.flow.write_paused:
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._in_head:
            if self._received:
                self._turn_away(b"408 Request Timeout", b"the request's head did not come in time")
            self.transport.close()
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self._turn_away(b"408 Request Timeout", b"the request's body did not come in time")
            self.cycle.disconnected = True  # nothing else may answer
            self.cycle.message_event.set()
            self.linger()

    def _refuse_head(self) -> None:
        refuse("large_head")
        if self._is_idle:
            detail = b"a request's head may have %d bytes" % self._settings.max_head_bytes
            self._turn_away(b"431 Request Header Fields Too Large", detail)
            self.linger()
        else:  # what was asked before is answered, and then the connection ends
            self._is_deaf = True
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _turn_away(self, status: bytes, detail: bytes) -> None:
        head = (
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head % (status, len(detail)) + detail)
