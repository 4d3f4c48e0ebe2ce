"""A client of server-sent events, made of a socket and nothing of the project: for counting every byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK = 64 * 1024


@dataclass(slots=True)
class Frame:
    """One block: the fields that it had."""

    id: str = ""
    event: str = ""
    data: bytes = b""


class Refused(Exception):
    """The server answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Cut(ConnectionError):
    """The connection ended in the middle of the body."""


@dataclass(slots=True)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _text: bytearray = field(default_factory=bytearray)

    async def frames(self) -> AsyncIterator[list[Frame]]:
        """What each chunk completes. Ends when the server ends the body; raises Cut when the line breaks."""
        async for chunk in self._chunks():
            self._text += chunk
            *blocks, rest = bytes(self._text).split(b"\n\n")
            self._text[:] = rest
            if frames := [frame for block in blocks if (frame := _parse(block)) is not None]:
                yield frames

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            while size := int(await self.reader.readline() or b"x", 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
        except (ValueError, asyncio.IncompleteReadError) as error:
            raise Cut from error


def _parse(block: bytes) -> Frame | None:
    """None for a block of comments."""
    frame, data, known = Frame(), list[bytes](), False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            frame.id = value.decode()
        elif name == b"event":
            frame.event = value.decode()
        known = known or name in {b"data", b"id", b"event"}
    frame.data = b"\n".join(data)
    return frame if known else None


@asynccontextmanager
async def connected(
    port: int, path: str, *, token: str, after: int | str, receive_buffer: int | None = None
) -> AsyncIterator[Connection]:
    """Raises Refused, and OSError or Cut when there is nobody. `receive_buffer` in bytes makes a small window."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=max(receive_buffer or CHUNK, 16 * 1024))
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {token}\r\nLast-Event-ID: {after}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            raise Refused(status)
        yield Connection(reader, writer)
    except asyncio.IncompleteReadError as error:
        raise Cut from error
    finally:
        writer.transport.abort()
