"""One Redis connection that listens to the channels of all followed streams, and comes back by itself."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.events.cancelling import asked_to_end
from app.events.push import Message, channel_of, connect, decode_message, stream_of
from app.events.types import StreamId

logger = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 3 * BEAT_SECONDS
"""Without an own heartbeat for this long the connection is taken for dead, whatever the socket says."""
RECONNECT_SECONDS = 0.5
LOG_SECONDS = 30.0


class Subscriptions:
    """Which channels are wanted is kept here, so that a new connection subscribes to all of them again.

    `on_message` gets what was published, or None for something that could not be read; `on_confirmed` is
    called for every confirmation of a subscription: from then on nothing is missed, so what was published
    before it is to be read from Postgres.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        on_message: Callable[[StreamId, Message | None], None],
        on_confirmed: Callable[[StreamId], None],
    ) -> None:
        self._redis = connect(redis_url)
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._beat_channel = f"stellwerk:beat:{uuid4()}"
        self._last_beat = 0.0
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self._quiet_until = 0.0

    def add(self, stream_id: StreamId) -> None:
        self._wanted.add(channel_of(stream_id))
        self._changed.set()

    def remove(self, stream_id: StreamId) -> None:
        self._wanted.discard(channel_of(stream_id))
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled. While Redis is down, `on_confirmed` is not called; nobody waits for it."""
        try:
            while not asked_to_end():
                try:
                    # A task of its own: before Python 3.13 a failed TaskGroup leaves its task marked cancelled.
                    await asyncio.create_task(self._listen())
                except* (RedisError, OSError) as errors:
                    self._complain(errors.exceptions[0])
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await self._redis.aclose()

    async def _listen(self) -> None:
        """One connection's life. Ends with an error, or when cancelled."""
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(self._beat_channel)
            self._last_beat = asyncio.get_running_loop().time()
            if asked_to_end():
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(pubsub))
                tasks.create_task(self._subscribe(pubsub))
                tasks.create_task(self._beat())

    async def _receive(self, pubsub: PubSub) -> None:
        while not asked_to_end():
            message = await pubsub.get_message(timeout=None)
            if message is None:
                continue
            channel = message["channel"].decode()
            if channel == self._beat_channel:
                self._last_beat = asyncio.get_running_loop().time()
            elif message["type"] == "subscribe":
                self._on_confirmed(stream_of(channel))
            elif message["type"] == "message":
                self._on_message(stream_of(channel), _decode(message["data"]))

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Keeps what is subscribed equal to what is wanted."""
        subscribed: set[str] = set()
        self._changed.set()
        while not asked_to_end():
            await self._changed.wait()
            self._changed.clear()
            if new := self._wanted - subscribed:
                await pubsub.subscribe(*new)
            if old := subscribed - self._wanted:
                await pubsub.unsubscribe(*old)
            subscribed = (subscribed | new) - old

    async def _beat(self) -> None:
        # A half-open connection gives no error to those who only listen.
        while not asked_to_end():
            await self._redis.publish(self._beat_channel, b"")
            await asyncio.sleep(BEAT_SECONDS)
            if asyncio.get_running_loop().time() - self._last_beat > SILENCE_SECONDS:
                raise RedisConnectionError("no heartbeat came back")

    def _complain(self, error: BaseException) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            logger.warning("redis is away; followers read Postgres", error=str(error))
            self._quiet_until = now + LOG_SECONDS


def _decode(payload: bytes) -> Message | None:
    try:
        return decode_message(payload)
    except ValueError as error:
        logger.warning("unreadable message", error=str(error))
        return None
