"""A proxy between a client and a gateway that does to answers what networks do."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import httpx

PART_BYTES = 100
"""How much passes at a time: frames come in pieces."""
_BLANK_LINE = b"\n\n"


@dataclass(frozen=True, slots=True)
class Cut:
    """Ends a stream after the frame with this id, and after what follows it up to the end of `through`."""

    after: str
    through: bytes = b""
    how: Literal["fin", "reset", "clean"] = "fin"
    """`clean` ends the body as if it were whole, as a proxy does whose gateway is gone."""
    is_last: bool = False
    """Nothing answers any more, until the test says where the next gateway is."""

    def passes(self, body: bytes) -> tuple[int, bool]:
        """How much of the body so far, and whether that is all that ever will."""
        begin = body.find(f"id: {self.after}\n".encode())
        end = body.find(_BLANK_LINE, begin) + len(_BLANK_LINE) if begin >= 0 else 0
        if end < len(_BLANK_LINE):
            return len(body), False
        found = body.find(self.through, end)
        return (end, False) if found < 0 else (found + len(self.through), True)


@dataclass(frozen=True, slots=True)
class Lose:
    """The gateway gets the request, the client no answer."""


@dataclass(frozen=True, slots=True)
class Say:
    """Answers instead of the gateway."""

    status: int
    body: bytes = b""


Fault = Cut | Lose | Say


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    came_at: float


class CuttingProxy:
    """Meets each request with the next fault of its plan; those that come later pass."""

    def __init__(self, plan: Iterable[Fault | None]) -> None:
        self.plan = list(plan)
        """None: the request passes."""
        self.upstream: str | None = None
        """The gateway's address. While there is none, connections end without an answer."""
        self.url = ""
        self.requests: list[Request] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The gateway or the client may leave in the middle.
        with suppress(httpx.TransportError, ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, target, time.monotonic()))
        if self.upstream is None:
            return
        fault = self.plan.pop(0) if self.plan else None
        if isinstance(fault, Say):
            writer.write(_head(fault.status, "text/event-stream") + _chunk(fault.body) + _chunk(b""))
            return
        passed = {name: headers[name] for name in headers.keys() - {"host", "connection", "content-length"}}
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False) as client,
            client.stream(method, self.upstream + target, headers=passed, content=content) as answer,
        ):
            if not isinstance(fault, Lose) and await _is_cut(answer, writer, fault) and fault and fault.is_last:
                self.upstream = None


@asynccontextmanager
async def cutting_proxy(*plan: Fault | None) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(plan)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


async def _is_cut(answer: httpx.Response, writer: asyncio.StreamWriter, cut: Cut | None) -> bool:
    """Passes the answer on; whether it came to the cut."""
    writer.write(_head(answer.status_code, answer.headers.get("content-type", "")))
    if answer.status_code == 204:
        return False
    body, passed = b"", 0
    async for part in answer.aiter_raw():
        body += part
        end, is_cut = cut.passes(body) if cut else (len(body), False)
        for begin in range(passed, end, PART_BYTES):
            writer.write(_chunk(body[begin : min(begin + PART_BYTES, end)]))
            await writer.drain()
        passed = max(passed, end)
        if cut and is_cut:
            _end(writer, cut)
            return True
    writer.write(_chunk(b""))
    return False


def _end(writer: asyncio.StreamWriter, cut: Cut) -> None:
    if cut.how == "clean":
        writer.write(_chunk(b""))
    elif cut.how == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


def _head(status: int, content_type: str) -> bytes:
    framing = "" if status == 204 else f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    return f"HTTP/1.1 {status} As Told\r\nConnection: close\r\n{framing}\r\n".encode()


def _chunk(part: bytes) -> bytes:
    """As HTTP's chunked encoding has it; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(part), part)
