"""The end of a response that is not complete: FIN without the last chunk, so that its client knows, and comes back.

Never RST, which destroys what a client has not read yet. Linux sends one when a socket is closed while bytes of a
request (a pipelined one, say) lie unread in it. So they are read away until the client has closed, too.
"""

import asyncio
from typing import Protocol

from starlette.types import Send

PARTING_SECONDS = 4.0
"""What a client has not taken by then it does not get from here. Less than a server waits when it is stopped."""


class Cycle(Protocol):
    """What both of uvicorn's response cycles have, the one by httptools and the one by h11."""

    transport: asyncio.Transport
    disconnected: bool


def cycle_of(send: Send) -> Cycle | None:
    """uvicorn's response cycle behind the server's own `send`; None on any other server."""
    cycle = getattr(send, "__self__", None)
    return cycle if hasattr(cycle, "transport") and hasattr(cycle, "disconnected") else None


def part(cycle: Cycle, farewell: bytes = b"") -> None:
    """Sends the farewell and what is still to be sent before it, and closes; uvicorn has no more to do with it."""
    cycle.disconnected = True  # else it would complain of a response that is not complete, and close by itself
    transport = cycle.transport
    if transport.is_closing():
        return
    transport.write(farewell)
    transport.set_protocol(_Parting(transport))
    transport.resume_reading()
    if not transport.can_write_eof():  # TLS
        transport.close()
        return
    try:
        transport.write_eof()
    except OSError:  # the client was faster
        transport.abort()


class _Parting(asyncio.Protocol):
    """Takes what the client still says, and forgets it. Its end closes the connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._server = transport.get_protocol()
        self._deadline = asyncio.get_running_loop().call_later(PARTING_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._server.connection_lost(exc)
