"""A line between a client and what serves it that is cut at any byte, and remembers what it carried."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

BUFFER = 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """Ends a connection after so many bytes from the server, or in front of a text."""

    after: int = 1 << 40
    before: bytes = b"\0"
    how: Literal["fin", "reset"] = "fin"


class Line:
    """Meets each connection with the next cut of its plan; later ones stay."""

    def __init__(self, target_port: int, plan: Iterable[Cut]) -> None:
        self.target_port = target_port
        self.plan = list(plan)
        self.port = 0
        self.carried: list[bytearray] = []
        """What the server said over each connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            server, to_server = await asyncio.open_connection("127.0.0.1", self.target_port)
            up = asyncio.create_task(_pass_up(reader, to_server))
            try:
                await self._pass_down(server, writer)
            finally:
                up.cancel()
                to_server.close()
        writer.close()

    async def _pass_down(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried, passed = bytearray(), 0
        self.carried.append(carried)
        cut = self.plan.pop(0) if self.plan else Cut()
        while part := await server.read(BUFFER):
            carried += part
            found = carried.find(cut.before)
            end = min(len(carried), cut.after, found if found >= 0 else len(carried))
            writer.write(bytes(carried[passed:end]))
            await writer.drain()
            if end < len(carried):
                if cut.how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                return
            passed = end


async def _pass_up(reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(BUFFER):
            to_server.write(part)
            await to_server.drain()
        to_server.close()  # the client is gone


@asynccontextmanager
async def line_to(port: int, *plan: Cut) -> AsyncIterator[Line]:
    line = Line(port, plan)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
