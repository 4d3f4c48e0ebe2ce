"""A TCP proxy whose connections can be cut, delayed, throttled and black-holed without touching the servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

CHUNK = 64 * 1024
GONE = (ConnectionError, TimeoutError, OSError)


class Proxy:
    """Listens on a port of its own for as long as its `async with` lasts, whatever happens behind it."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay_seconds = 0.0
        """Every chunk arrives this much later."""
        self.bytes_per_second = 0
        """0: as fast as it goes."""
        self.refuses = False
        self._passes = asyncio.Event()
        self._passes.set()
        self._forgotten: list[asyncio.Event] = []
        self._server: asyncio.Server | None = None
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.refuses = True
        self.cut()
        for passes in (self._passes, *self._forgotten):
            passes.set()
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks, timeout=0.1)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def cut(self) -> None:
        """Both ends of all connections see a reset, at whatever point of a dialogue they are."""
        for pair in self._connections:
            for writer in pair:
                writer.transport.abort()

    def vanish(self) -> None:
        """The clients go; the servers are not told, and nobody takes what they send."""
        self.swallow(True)
        for client, _ in self._connections:
            client.transport.abort()

    def swallow(self, swallows: bool) -> None:
        """A black hole: connections stay open, new ones are accepted, and nothing arrives."""
        if swallows:
            self._passes.clear()
        else:
            self._passes.set()

    def forget(self) -> None:
        """The connections that there are stay open for ever and carry nothing any more; new ones work."""
        self._forgotten.append(self._passes)
        self._passes.clear()
        self._passes = asyncio.Event()
        self._passes.set()

    @asynccontextmanager
    async def swallowing(self) -> AsyncIterator[None]:
        self.swallow(True)
        try:
            yield
        finally:
            self.swallow(False)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            upstream, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target_port, limit=CHUNK)
        except GONE:
            writer.transport.abort()
            return
        pair = (writer, upstream_writer)
        self._connections.add(pair)
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream, writer))
        except GONE:
            pass
        finally:
            self._connections.discard(pair)
            for end in pair:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passes = self._passes
        while chunk := await reader.read(CHUNK):
            await passes.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if self.bytes_per_second:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
            writer.write(chunk)
            await writer.drain()
        await passes.wait()
        if writer.can_write_eof():
            writer.write_eof()
