"""A client of bare sockets: it sees every byte of an answer, and how the answer ended."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests.serving import TOKEN, Served


@dataclass(frozen=True, slots=True)
class Ended:
    """What came after the head, when the server had closed with FIN (or the body was complete)."""

    body: bytes
    is_complete: bool

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def last(self) -> dict[str, str]:
        """The fields of the last whole block."""
        return fields(blocks(self.body)[-1])


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""
    status: int = 0

    async def read_head(self) -> str:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(self.head.split(" ", 2)[1])
        return self.head

    async def until(self, text: bytes) -> bytes:
        """The bytes as they come, chunks and all, up to this text."""
        return await self.reader.readuntil(text)

    async def end(self, before: bytes = b"") -> Ended:
        """The rest, after what was read `before`. A reset of the connection raises ConnectionResetError."""
        raw = before + await self.reader.read()
        return dechunked(raw) if "transfer-encoding: chunked" in self.head.lower() else Ended(raw, False)


@asynccontextmanager
async def wire(
    served: Served,
    path: str,
    *headers: str,
    token: str = f"Bearer {TOKEN}",
    version: str = "1.1",
    receive_buffer: int | None = None,
) -> AsyncIterator[Wire]:
    """A request for this path, sent."""
    url = httpx.URL(served.url)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, (url.host, url.port))
    # What the kernel has is not read in advance: the limit is a small one where the buffer is.
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 1 << 24)
    try:
        writer.write(request(path, *headers, token=token, version=version))
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(path: str, *headers: str, token: str = f"Bearer {TOKEN}", version: str = "1.1") -> bytes:
    lines = ["Host: localhost", "Accept: text/event-stream", f"Authorization: {token}", *headers]
    return "\r\n".join([f"GET {path} HTTP/{version}", *lines, "", ""]).encode()


def dechunked(raw: bytes) -> Ended:
    body = b""
    while found := re.match(rb"([0-9a-f]+)\r\n", raw):
        size = int(found[1], 16)
        if size == 0:
            return Ended(body, True)
        body += raw[found.end() : found.end() + size]
        raw = raw[found.end() + size + 2 :]
    return Ended(body, False)


def blocks(body: bytes) -> list[bytes]:
    """The whole blocks, without their comments."""
    found = body.split(b"\n\n")[:-1]
    return [b"\n".join(line for line in block.split(b"\n") if not line.startswith(b":")) for block in found]


def fields(block: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.decode().split("\n"))


async def until_cut(events: AsyncIterator[ServerSentEvent]) -> list[ServerSentEvent]:
    """The frames that come before the body ends without being complete, which it must."""
    found = list[ServerSentEvent]()
    with pytest.raises(httpx.RemoteProtocolError):
        async for event in events:
            found.append(event)  # what came before the error counts
    return found
