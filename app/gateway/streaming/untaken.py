"""How much of what was sent a client has not taken yet."""

import asyncio
import sys
import termios
from contextlib import suppress
from fcntl import ioctl


def untaken(transport: asyncio.WriteTransport) -> int:
    """In bytes: ours, and those that the kernel has of them. A slow client takes those long before there is room."""
    kernels = bytearray(4)
    with suppress(OSError):  # it is gone, or this is not Linux
        ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, kernels)
    return transport.get_write_buffer_size() + int.from_bytes(kernels, sys.byteorder)
