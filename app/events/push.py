"""Telling followers at once, over Redis pub/sub, what was appended.

A message is a doorbell that usually brings the news along: ready SSE frames with what a reader needs to place
and filter them, so that no gateway parses JSON. Losing a message costs latency only. All are sealed (seals.py).
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import NamedTuple, Self
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app import metrics
from app.cancelling import asked_to_end
from app.config import PUSH_INLINE_BYTES
from app.database import DATABASE_AWAY
from app.events.cursors import prefix
from app.events.encoding import Recorded
from app.events.seals import SealKeys

logger = structlog.get_logger(__name__)

BUFFER_BYTES = 16 * 1024 * 1024
"""What may wait for a slow Redis; the oldest goes first, since readers fetch it from Postgres."""
RETRY_SECONDS = 0.5
LOG_SECONDS = 30.0
CLOSE_SECONDS = 1.0
SOCKET_SECONDS = 2.0
_CHANNEL = "stellwerk:stream:"
EVERY_STREAM = f"{_CHANNEL}*"
"""The pattern of all streams' channels."""
CANCEL_CHANNEL = "stellwerk:cancelled"
"""Carries the ids of sessions whose attempts were cancelled; workers listen."""
KEYS_CHANNEL = "stellwerk:keys"
"""Says that keys were made or revoked; gateways listen."""


_ID = b"id: "


class Frame(NamedTuple):
    """A ready SSE frame and what readers place and filter it by."""

    offset: int
    t: str
    agent: str | None
    phase: str | None
    data: bytes

    @classmethod
    def of(cls, event: Recorded) -> Self:
        return cls(event.offset, event.t, event.agent, event.phase, event.frame())

    def in_epoch(self, epoch: int) -> "Frame":
        """Puts in the id that the event has in this epoch: publishers do not know it, and write the first one's."""
        life = prefix(epoch)
        return self._replace(data=_ID + life.encode() + self.data.removeprefix(_ID)) if life else self


@dataclass(frozen=True, slots=True)
class Message:
    """`frames` is empty when they were too large to be sent along; `first` … `last` is always told."""

    first: int
    last: int
    frames: tuple[Frame, ...] = ()


def channel_of(stream_id: UUID) -> str:
    return f"{_CHANNEL}{stream_id}"


def encode_message(frames: Sequence[Frame], *, inline_bytes: int) -> bytes:
    """A line of JSON, [first, last, [[offset, t, agent, phase, length], …]], then the frames end to end."""
    header: list[object] = [frames[0].offset, frames[-1].offset]
    if sum(len(f.data) for f in frames) > inline_bytes:
        return orjson.dumps(header)
    header.append([(f.offset, f.t, f.agent, f.phase, len(f.data)) for f in frames])
    return b"".join((orjson.dumps(header), b"\n", *(f.data for f in frames)))


def decode_message(payload: bytes) -> Message:
    """Raises ValueError for what `encode_message` did not write; what a newer one adds at the ends is ignored."""
    header, _, body = payload.partition(b"\n")
    match orjson.loads(header):
        case [int(first), int(last)]:
            return Message(first, last)
        case [int(first), int(last), list(metadata), *_]:
            return Message(first, last, tuple(_slice(body, metadata)))
        case _:
            raise ValueError("this is no message of a stream")


def _slice(body: bytes, metadata: Iterable[object]) -> Iterator[Frame]:
    begin = 0
    for item in metadata:
        match item:
            case [int(offset), str(t), str() | None as agent, str() | None as phase, int(length), *_]:
                yield Frame(offset, t, agent, phase, body[begin : begin + length])
                begin += length
            case _:
                raise ValueError("this is no frame's metadata")
    if begin != len(body):
        raise ValueError("the frames are cut off")


def connect(redis_url: str) -> "Redis":
    """A client that fails fast and tries nothing twice: its callers know better what to do then."""
    return Redis.from_url(
        redis_url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # also spoken by proxies and by servers that know no HELLO
    )


@asynccontextmanager
async def borrowed(redis: "Redis") -> AsyncIterator[AbstractConnection]:
    """A connection for many messages: what redis-py's Pipeline and PubSub do for each takes most of its time.

    It is closed unless all went well: then nothing is left on it.
    """
    connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py decorates it without types
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await redis.connection_pool.release(connection)


class Push:
    """Publishes appended events in the background. Belongs to one event loop, where `publish` is called."""

    def __init__(self, redis_url: str, keys: SealKeys, *, inline_bytes: int = PUSH_INLINE_BYTES) -> None:
        self._redis = connect(redis_url)
        self._keys = keys
        self._inline_bytes = inline_bytes
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        self._dropped = 0
        self._quiet_until = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def publish(self, events: Sequence[Recorded]) -> None:
        """One message for each stream of what one transaction appended. Call it after the commit."""
        for stream_id, of_stream in groupby(sorted(events, key=_place), key=lambda e: e.stream_id):
            frames = [Frame.of(event) for event in of_stream]
            self._put(channel_of(stream_id), encode_message(frames, inline_bytes=self._inline_bytes))
        self._start()

    def cancel(self, session_id: UUID) -> None:
        """Tells workers that the session's attempts have lost their leases; they would see it at a heartbeat."""
        self._put(CANCEL_CHANNEL, str(session_id).encode())
        self._start()

    def ring_keys(self) -> None:
        """Tells gateways that keys were made or revoked; they would see it at their next look."""
        self._put(KEYS_CHANNEL, b"")
        self._start()

    def _start(self) -> None:
        if self._task is None and self._waiting:
            self._task = asyncio.create_task(self._run(), name="push")
        self._wake.set()

    async def close(self) -> None:
        """Sends what waits, if Redis takes it at once, then ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._flush()
        except (RedisError, OSError, TimeoutError, *DATABASE_AWAY) as error:
            logger.warning("push ends with messages unsent", error=str(error))
        await self._redis.aclose()

    def _put(self, channel: str, payload: bytes) -> None:
        if not self._waiting:
            self._waiting_since = perf_counter()
        self._waiting.append((channel, payload))
        self._waiting_bytes += len(payload)
        while self._waiting_bytes > BUFFER_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft()[1])
            self._dropped += 1
            metrics.push_lost.inc()

    async def _run(self) -> None:
        while not asked_to_end():
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
            except (RedisError, OSError, *DATABASE_AWAY) as error:
                self._complain(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _flush(self) -> None:
        while self._waiting:
            key = await self._keys.current()
            messages, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
            since = self._waiting_since
            try:
                async with borrowed(self._redis) as connection, asyncio.timeout(SOCKET_SECONDS):
                    commands = [("PUBLISH", channel, key.seal(channel, payload)) for channel, payload in messages]
                    await connection.send_packed_command(connection.pack_commands(commands))
                    for _ in commands:
                        await connection.read_response(timeout=math.inf)
            except BaseException:  # whatever ended it, Redis has not said that it took them
                self._dropped += len(messages)
                metrics.push_lost.inc(len(messages))
                raise
            metrics.push_lag_seconds.observe(perf_counter() - since)

    def _complain(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            logger.warning("push is down; readers get events later", error=str(error), messages_dropped=self._dropped)
            self._quiet_until, self._dropped = now + LOG_SECONDS, 0


def _place(event: Recorded) -> tuple[UUID, int]:
    return event.stream_id, event.offset
