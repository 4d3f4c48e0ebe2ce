"""One Redis connection that listens to the channels of all followed streams, and comes back by itself."""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app import metrics
from app.cancelling import asked_to_end
from app.events.push import EVERY_STREAM, borrowed, channel_of, connect
from app.events.seals import BrokenSeal, Published, SealKeys
from app.events.types import StreamId

logger = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 3 * BEAT_SECONDS
"""Without an own heartbeat for this long the connection is taken for dead, whatever the socket says."""
RECONNECT_SECONDS = 0.5
LOG_SECONDS = 30.0


class Listener(Protocol):
    """What wants to hear what is published on a channel."""

    def heard(self, news: Published) -> None:
        """Takes what was published. Raises ValueError for what it cannot read."""
        ...

    def doubt(self) -> None:
        """Takes it that something may have been missed: a message that cannot be believed, or a confirmation.

        After a confirmation nothing is missed, so what was published before is to be read.
        """
        ...


class Subscriptions:
    """Which channels are wanted is kept here, so that a new connection subscribes to all of them again."""

    def __init__(self, redis_url: str, keys: SealKeys) -> None:
        self._redis = connect(redis_url)
        self._keys = keys
        self._beat_channel = f"stellwerk:beat:{uuid4()}".encode()
        self._last_beat = 0.0
        self._beat_sent = 0.0
        self.round_trip: float | None = None
        """How many seconds the last heartbeat took through Redis and back; None while Redis is away."""
        self._wanted: dict[bytes, Listener] = {}
        self._bell: Callable[[], None] | None = None
        self._changed = asyncio.Event()
        self._quiet_until: dict[str, float] = {}

    def add(self, stream_id: StreamId, listener: Listener) -> None:
        self.add_channel(channel_of(stream_id), listener)

    def add_channel(self, channel: str, listener: Listener) -> None:
        self._wanted[channel.encode()] = listener
        self._changed.set()

    def remove(self, stream_id: StreamId) -> None:
        self._wanted.pop(channel_of(stream_id).encode(), None)
        self._changed.set()

    def hear_all(self, bell: Callable[[], None] | None) -> None:
        """Calls `bell` whenever something is published of any stream, and when nothing of it is missed from now on."""
        self._bell = bell
        self._changed.set()

    async def run(self) -> None:
        """Listens until cancelled. While Redis is down nothing is confirmed, and no reader waits for it."""
        try:
            while not asked_to_end():
                try:
                    # A task of its own: before Python 3.13 a failed TaskGroup leaves its task marked cancelled.
                    await asyncio.create_task(self._listen())
                except* (RedisError, OSError) as errors:
                    self.round_trip = None
                    self._complain("redis is away; followers read Postgres", str(errors.exceptions[0]))
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await self._redis.aclose()

    async def _listen(self) -> None:
        """One connection's life. Ends with an error, or when cancelled."""
        async with borrowed(self._redis) as connection:
            await connection.send_command("SUBSCRIBE", self._beat_channel)
            self._last_beat = asyncio.get_running_loop().time()
            if asked_to_end():
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(connection))
                tasks.create_task(self._subscribe(connection))
                tasks.create_task(self._beat())

    async def _receive(self, connection: AbstractConnection) -> None:
        # redis-py's PubSub takes five times as long for a message, and reconnects without a word.
        while not asked_to_end():
            kind, channel, *_, content = await connection.read_response(timeout=math.inf)
            if kind in {b"pmessage", b"psubscribe"}:
                if self._bell is not None:
                    self._bell()
            elif channel == self._beat_channel:
                self._came_back(kind)
            elif (listener := self._wanted.get(channel)) is None:
                continue
            elif kind == b"subscribe":
                listener.doubt()
            elif kind == b"message":
                self._hand_over(listener, channel, content)

    def _hand_over(self, listener: Listener, channel: bytes, content: bytes) -> None:
        """Survives every message, for all listeners hang on this one task."""
        try:
            listener.heard(self._keys.opened(channel, content))
        except ValueError as error:  # BrokenSeal is one
            metrics.unbelieved.inc()
            self._complain("a message cannot be believed; what it is about is read from Postgres", repr(error))
            if isinstance(error, BrokenSeal):
                self._keys.doubt()
            listener.doubt()

    def _came_back(self, kind: bytes) -> None:
        self._last_beat = asyncio.get_running_loop().time()
        if kind == b"message":
            self.round_trip = self._last_beat - self._beat_sent

    async def _subscribe(self, connection: AbstractConnection) -> None:
        """Keeps what is subscribed equal to what is wanted."""
        subscribed, hears_all = set[bytes](), False
        self._changed.set()
        while not asked_to_end():
            await self._changed.wait()
            self._changed.clear()
            if new := self._wanted.keys() - subscribed:
                await _send(connection, "SUBSCRIBE", *new)
            if old := subscribed - self._wanted.keys():
                await _send(connection, "UNSUBSCRIBE", *old)
            subscribed = (subscribed | new) - old
            if hears_all != (self._bell is not None):
                hears_all = not hears_all
                await _send(connection, "PSUBSCRIBE" if hears_all else "PUNSUBSCRIBE", EVERY_STREAM)

    async def _beat(self) -> None:
        # A half-open connection gives no error to those who only listen.
        while not asked_to_end():
            self._beat_sent = asyncio.get_running_loop().time()
            await self._redis.publish(self._beat_channel, b"")
            await asyncio.sleep(BEAT_SECONDS)
            if asyncio.get_running_loop().time() - self._last_beat > SILENCE_SECONDS:
                raise RedisConnectionError("no heartbeat came back")

    def _complain(self, what: str, error: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(what, 0.0):
            logger.warning(what, error=error)
            self._quiet_until[what] = now + LOG_SECONDS


async def _send(connection: AbstractConnection, command: str, *names: bytes | str) -> None:
    try:
        await connection.send_command(command, *names)
    except AttributeError as error:  # redis-py's, when the task that reads has just closed the connection
        raise RedisConnectionError("the connection was closed meanwhile") from error
