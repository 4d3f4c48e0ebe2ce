"""What others put into Redis: readers get nothing of it, and every listener survives it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.events.follow.follower import Follower
from app.events.follow.subscriptions import Subscriptions
from app.events.follow.updates import Renewed
from app.events.push import CANCEL_CHANNEL, KEYS_CHANNEL, Frame, Push, channel_of, connect, encode_message
from app.events.seals import Published, SealKey, SealKeys
from app.events.types import StreamId
from tests.following import Reader, append, close, engine_of, new_stream, quick, state_of, stored_frames
from tests.roles import bump_epoch

FORGED = Frame(2, "agent_event", "codesmith", "think", b'id: 2\nevent: agent\ndata: {"msg":"forged"}\n\n')


async def subscribed(redis: Redis, channel: str) -> None:
    """Returns when a follower listens there."""
    while not dict(await redis.pubsub_numsub(channel))[channel.encode()]:
        await asyncio.sleep(0.01)


async def key_of(engine: AsyncEngine) -> SealKey:
    return await SealKeys(engine).read()


@asynccontextmanager
async def one_reader(engine: AsyncEngine, redis_url: str) -> AsyncIterator[tuple[StreamId, Reader, Redis]]:
    """A reader that has the one event of its stream and waits for the next; nothing is polled."""
    async with Follower(engine, redis_url, quick(head_poll=3600)) as follower, connect(redis_url) as redis:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, [1])
        reader = Reader(follower, await state_of(engine, stream_id))
        await reader.read(to=1)
        await subscribed(redis, channel_of(stream_id))
        yield stream_id, reader, redis


async def forgeries(engine: AsyncEngine, stream_id: StreamId) -> dict[str, bytes]:
    key, channel = await key_of(engine), channel_of(stream_id)
    message = encode_message([FORGED], inline_bytes=1000)
    return {
        "bare": message,
        "no-mac": bytes(40) + message,
        "guessed-key": SealKey(key.epoch, bytes(32)).seal(channel, message),
        "of-another-stream": key.seal(channel_of(uuid4()), message),
        "of-another-life": SealKey(key.epoch + 1, key.secret).seal(channel, message)[:32]
        + key.seal(channel, message)[32:],
        "a-head-far-away": encode_message([FORGED._replace(offset=10**9)], inline_bytes=0),
        "no-text": b"\xff\xfe\x00",
        "sealed-nonsense": key.seal(channel, b"\xff\xfe"),
        "sealed-but-no-message": key.seal(channel, b'{"first": 2}'),
    }


NAMES = (
    "bare", "no-mac", "guessed-key", "of-another-stream", "of-another-life", "a-head-far-away", "no-text",
    "sealed-nonsense", "sealed-but-no-message",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_a_forged_publish_shows_nothing_and_hides_nothing(database_url: str, redis_url: str, name: str) -> None:
    async with engine_of(database_url) as engine, one_reader(engine, redis_url) as (stream_id, reader, redis):
        message = (await forgeries(engine, stream_id))[name]
        for _ in range(3):
            await redis.publish(channel_of(stream_id), message)
        await append(engine, stream_id, [2])  # without a word: it is seen, since the forgeries give reason to look
        await redis.publish(channel_of(stream_id), message)
        await reader.read(to=2)
        await close(engine, stream_id)
        push = Push(redis_url, SealKeys(engine))
        push.publish(await append(engine, await new_stream(engine), [1]))
        await redis.publish(channel_of(stream_id), message)
        await reader.read_all()
        await push.close()
        assert reader.frames == await stored_frames(engine, stream_id)
        assert b"forged" not in reader.frames


async def test_a_publish_of_another_life_is_not_replayed(database_url: str, redis_url: str) -> None:
    """Recorded before a restore, sent again when the offset is free: then the old event would be the new one."""
    async with engine_of(database_url) as engine, one_reader(engine, redis_url) as (stream_id, reader, redis):
        recorded = (await key_of(engine)).seal(channel_of(stream_id), encode_message([FORGED], inline_bytes=1000))
        await bump_epoch(engine, "restored")
        await redis.publish(channel_of(stream_id), b"look")
        assert isinstance(await reader.next(), Renewed)
        for number in (2, 3):
            await redis.publish(channel_of(stream_id), recorded)
            await append(engine, stream_id, [number])
            await redis.publish(channel_of(stream_id), recorded)
            await reader.read(to=number)
        assert b"forged" not in reader.frames


class Heard:
    """A listener that takes text alone."""

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self.doubts = 0

    def heard(self, news: Published) -> None:
        self.texts.put_nowait(news.payload.decode())

    def doubt(self) -> None:
        self.doubts += 1


@pytest.mark.parametrize("channel", [CANCEL_CHANNEL, KEYS_CHANNEL, "stellwerk:stream:no-uuid"])
async def test_a_listener_survives_every_message(database_url: str, redis_url: str, channel: str) -> None:
    async with engine_of(database_url) as engine, connect(redis_url) as redis:
        keys, listener = SealKeys(engine), Heard()
        key = await keys.read()
        subscriptions = Subscriptions(redis_url, keys)
        subscriptions.add_channel(channel, listener)
        subscriptions.hear_all(lambda: None)
        task = asyncio.create_task(subscriptions.run())
        await subscribed(redis, channel)
        while not listener.doubts:
            await asyncio.sleep(0.01)
        for bad in (b"", b"\xff", b"\x00" * 1_000_000, b"[]", key.seal(channel, b"\xff"), key.seal("other", b"x")):
            await redis.publish(channel, bad)
        await redis.publish(channel, key.seal(channel, b"heard"))
        async with asyncio.timeout(10):
            assert await listener.texts.get() == "heard"
        assert listener.doubts == 1 + 6 and listener.texts.empty()
        task.cancel()
        await asyncio.wait({task})


async def test_the_key_of_a_new_epoch_is_found_without_a_word(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that learnt the key before an operator began a new epoch."""
    monkeypatch.setattr("app.events.seals.READ_EVERY_SECONDS", 0.01)
    async with engine_of(database_url) as engine:
        keys = SealKeys(engine)
        first = await keys.current()
        await bump_epoch(engine, "restored")
        while (second := await keys.current()) == first:
            await asyncio.sleep(0.01)
        assert second.epoch > first.epoch and second.secret != first.secret
        assert len(second.secret) == 32


async def test_without_the_database_the_last_key_holds(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_of(database_url) as engine:
        keys = SealKeys(engine)
        first = await keys.current()
        async with transaction(engine) as db:
            await db.execute(text("SET LOCAL lock_timeout = '5s'"))
            await db.execute(text("LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE"))
            monkeypatch.setattr("app.events.seals.READ_EVERY_SECONDS", 0.0)
            monkeypatch.setattr("app.events.seals.READ_SECONDS", 0.05)
            assert await keys.current() == first
