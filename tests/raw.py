"""A client that writes what no well-behaved one would, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import httpx

from tests.serving import TOKEN, Served

PATIENCE_SECONDS = 15.0
LIKE_A_BYTE_AT_A_TIME = 0.02


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader, self.writer, self._host = reader, writer, host

    def head(self, method: str, path: str, *lines: str, token: str | None = TOKEN, version: str = "1.1") -> bytes:
        shown = [f"Authorization: Bearer {token}"] if token is not None else []
        return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {self._host}", *shown, *lines, "", ""]).encode()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_all(self, parts: Iterable[bytes]) -> int:
        """Sends until the gateway takes no more; returns how many bytes it took, or what lies on the way."""
        sent = 0
        with suppress(ConnectionError):
            for part in parts:
                await self.send(part)
                sent += len(part)
        return sent

    async def drip(self, parts: Iterable[bytes]) -> bytes:
        """Sends one part after the other, slowly, until the gateway ends the connection; returns what it said."""
        answer = asyncio.create_task(self.rest())
        with suppress(ConnectionError):
            for part in parts:
                if answer.done():
                    break
                await self.send(part)
                await asyncio.sleep(LIKE_A_BYTE_AT_A_TIME)
        return await answer

    async def status(self) -> int:
        """The status of the next answer; its body is read, too."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            await self.reader.readexactly(length)
        return int(head.split()[1])

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, which must come."""
        found = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while part := await self.reader.read(65536):
                    found += part
        return found


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Raw]:
    url = httpx.URL(served.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Raw(reader, writer, f"{url.host}:{url.port}")
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
