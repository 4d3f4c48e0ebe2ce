"""The process in which attempts run alone, as its worker sees it: by what it says."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass, field

READY, ALIVE, DONE = b"ready", b"alive", b"done"
"""Lines that it says: once with its number, while its event loop goes round, and after each attempt."""
ALIVE_EVERY_SECONDS = 1.0
SILENT_SECONDS = 5.0
"""After which an event loop that says nothing is held up: by a thread that keeps the interpreter to itself, say."""


@dataclass
class LoneProcess:
    process: Process
    _number: int = 0
    _last_sign: float = field(default_factory=time.monotonic)

    async def is_ready(self) -> bool:
        """Waits until it can be given something; False if it ends instead."""
        assert self.process.stdout is not None
        word, _, number = (await self.process.stdout.readline()).strip().partition(b" ")
        if word != READY:
            return False
        self._number = int(number)
        return True

    def give(self, line: str) -> None:
        assert self.process.stdin is not None
        self._last_sign = time.monotonic()
        self.process.stdin.write(f"{line}\n".encode())

    async def is_done(self) -> bool:
        """Waits for the end of what it was given; False if the process ended instead."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self._last_sign = time.monotonic()
            if line.strip() == DONE:
                return True
        return False

    async def falls_silent(self) -> None:
        """Returns when it has said nothing for a while, as it did perhaps already."""
        while (left := self._last_sign + SILENT_SECONDS - time.monotonic()) > 0:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(left)

    def kill(self) -> None:
        """What holds the interpreter hears no gentler signal. Its guardian ends what it started, and then itself."""
        with suppress(ProcessLookupError):
            os.kill(self._number, signal.SIGKILL)
