"""Seals on what is published: Redis passes messages on, and is not believed.

A seal is a MAC over the channel, the epoch and the payload, by a key that stands in the database beside the epoch. What
does not carry it is not taken for news, only for a reason to look into Postgres. A key lives as long as its epoch, so
what was published in another life of the offsets proves nothing in this one.
"""

import asyncio
import hashlib
import hmac
import struct
from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cancelling import asked_to_end
from app.database import DATABASE_AWAY
from app.errors import describe

logger = structlog.get_logger(__name__)

AWAY = (*DATABASE_AWAY, TimeoutError)

READ_EVERY_SECONDS = 10.0
"""So long after an operator began a new epoch a process may still seal by the key of the last one."""
READ_SECONDS = 5.0
PAUSE_SECONDS = 1.0
"""Between two reads, whatever comes: a flood of forgeries costs one small query a second."""
_MAC_BYTES = 32
_EPOCH = struct.Struct("!q")
_HEAD_BYTES = _MAC_BYTES + _EPOCH.size


class BrokenSeal(ValueError):
    """This was not published by a process that has the database's key."""


@dataclass(frozen=True, slots=True)
class SealKey:
    """The key of one epoch."""

    epoch: int
    secret: bytes

    def seal(self, channel: str, payload: bytes) -> bytes:
        signed = _EPOCH.pack(self.epoch) + payload
        return self._mac(channel.encode(), signed) + signed

    def opened(self, channel: bytes, message: bytes) -> bytes:
        """Returns the payload. Raises BrokenSeal."""
        signed = message[_MAC_BYTES:]
        if len(message) < _HEAD_BYTES or not hmac.compare_digest(self._mac(channel, signed), message[:_MAC_BYTES]):
            raise BrokenSeal
        return signed[_EPOCH.size :]

    def _mac(self, channel: bytes, signed: bytes) -> bytes:
        return hmac.digest(self.secret, b"%d:%b%b" % (len(channel), channel, signed), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Published:
    """What came with a seal that fits."""

    epoch: int
    payload: bytes


class SealKeys:
    """The key of the current epoch, read again now and then. Belongs to one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = asyncio.get_running_loop().time
        self._reading: asyncio.Task[SealKey] | None = None
        self._read_at = float("-inf")
        self._doubted = asyncio.Event()
        self.known: SealKey | None = None
        """The key as it was last read."""

    async def current(self) -> SealKey:
        """Returns a key that was read a moment ago, or the last one while the database is away.

        Raises what the database raises where there is none yet.
        """
        if self.known is None or self._clock() >= self._read_at + READ_EVERY_SECONDS:
            try:
                return await self.read()
            except AWAY:
                if self.known is None:
                    raise
        return self.known

    async def read(self) -> SealKey:
        """Reads it, together with all who ask for it now. Raises what the database raises."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="seal-key")
            self._reading.add_done_callback(self._on_read)
        return await asyncio.shield(self._reading)

    def opened(self, channel: bytes, message: bytes) -> Published:
        """Raises BrokenSeal, also where the key of a new epoch has yet to be read."""
        if self.known is None:
            raise BrokenSeal
        return Published(self.known.epoch, self.known.opened(channel, message))

    def doubt(self) -> None:
        """A seal did not fit: perhaps there is a new key."""
        self._doubted.set()

    def expect(self, epoch: int) -> None:
        """The current epoch is this one: what is sealed by the key of an earlier one is not taken for news."""
        if self.known is None or self.known.epoch != epoch:
            self._read_at = float("-inf")
            self.doubt()

    async def run(self) -> None:
        """Keeps the key fresh until cancelled."""
        while not asked_to_end():
            self._doubted.clear()
            try:
                await self.read()
            except AWAY as error:
                logger.debug("the key of seals waits for the database", error=describe(error))
            await asyncio.sleep(PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY_SECONDS):
                    await self._doubted.wait()

    async def _read(self) -> SealKey:
        async with asyncio.timeout(READ_SECONDS), self._engine.connect() as db:
            found = await db.execute(text("SELECT epoch, seal_key FROM epochs ORDER BY epoch DESC LIMIT 1"))
            epoch, secret = found.one()
        self.known, self._read_at = SealKey(int(epoch), bytes(secret)), self._clock()
        return self.known

    def _on_read(self, task: "asyncio.Task[SealKey]") -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # seen, even if the one that asked has left
