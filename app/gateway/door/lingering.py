"""How a connection ends whose client is still sending.

Closed at once, the client's system would get a reset for what is still on its way, and throw away the answer that has
already come. So the gateway ends its own side, and throws away what comes, up to a bound and for a moment.
"""

import asyncio
from typing import Any, Protocol

from app.config import MIB

DRAINED_BYTES = 64 * 1024
"""A body up to this size, which nobody has asked for, is read to its end, and the connection is kept."""
LINGER_BYTES = 8 * MIB
LINGER_SECONDS = 2.0


class Lingers(Protocol):
    def owes_more(self) -> bool:
        """Says whether the client has not yet sent all of its request."""
        ...

    def linger(self) -> None: ...


class LingeringTransport:
    """Stands for a transport where a response is written; only its `close` is another one."""

    def __init__(self, transport: asyncio.Transport, connection: Lingers) -> None:
        self._transport = transport
        self._connection = connection
        self.write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if self._connection.owes_more() and not self._transport.is_closing():
            self._connection.linger()
        else:
            self._transport.close()
