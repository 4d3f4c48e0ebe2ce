"""Many readers of a few streams, each a socket, a cursor and a check that nothing is missing."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from app.events.types import StreamId
from tests.acceptance.faults.deployment import TOKEN

EVENT = re.compile(rb'id: (\d+)\nevent: \w+\ndata: \{"offset":\d+,"session_id":"[^"]*","ts":"([^"]*)"[^\n]*\n\n')
"""JSON holds no bare newline, so this matches nothing but whole frames of events."""
SMALL_WINDOW = 4096


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """Reads a stream for as long as it is told to, over as many connections as that takes."""

    stream_id: StreamId
    port: Callable[[], int]
    is_stuck: bool = False
    cursor: int = 0
    connections: int = 0
    has_opened: bool = False
    """Whether the gateway has answered."""
    latencies: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _rest: bytes = b""
    _transport: asyncio.Transport | None = None
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            self._rest = b""
            try:
                sock = socket.socket()
                if self.is_stuck:  # else the kernel would read for it
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", self.port()))
                await loop.create_connection(lambda: self, sock=sock)
                await self._lost.wait()
            except OSError:
                pass
            await asyncio.sleep(0.2)

    def read_on(self) -> None:
        self.is_stuck = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connections += 1
        self._transport = cast("asyncio.Transport", transport)
        if self.is_stuck:  # a turn later: before 3.11.3 Python begins to read after this method, even if it paused
            asyncio.get_running_loop().call_soon(self._transport.pause_reading)
        self._transport.write(
            f"GET /sessions/{self.stream_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {TOKEN}\r\nLast-Event-ID: {self.cursor}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.has_opened = True
        text, end, ts = self._rest + data, 0, None
        for found in EVENT.finditer(text):
            offset, ts, end = int(found[1]), found[2], found.end()
            if offset != self.cursor + 1:
                self.faults.append(f"{offset} came behind {self.cursor}")
            self.cursor = offset
        self._rest = text[end:]
        if ts is not None:
            self.latencies.append(time.time() - datetime.fromisoformat(ts.decode()).timestamp())

    def connection_lost(self, error: Exception | None) -> None:
        self._lost.set()


@asynccontextmanager
async def crowd(clients: list[Client]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients:
            client.leave()


async def caught_up(clients: list[Client], heads: dict[StreamId, int], *, patience: float) -> float:
    """Seconds until all have read up to the heads. Raises TimeoutError."""
    started = time.monotonic()
    async with asyncio.timeout(patience):
        while any(client.cursor < heads[client.stream_id] for client in clients):
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def opened(clients: list[Client], *, patience: float) -> None:
    async with asyncio.timeout(patience):
        while not all(client.has_opened or (client.is_stuck and client.connections) for client in clients):
            await asyncio.sleep(0.02)


def p99(clients: list[Client]) -> float:
    """Of the seconds between an event's `ts` and its arrival; forgets them."""
    latencies = sorted(latency for client in clients for latency in client.latencies)
    for client in clients:
        client.latencies.clear()
    return latencies[int(len(latencies) * 0.99)]
