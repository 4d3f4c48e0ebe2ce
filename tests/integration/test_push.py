"""Publishing what was appended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection

from app.embedded.valkey import EmbeddedValkey
from app.events import push as push_module
from app.events.encoding import Recorded
from app.events.follow.subscriptions import Subscriptions
from app.events.push import CANCEL_CHANNEL, Frame, Message, Push, channel_of, connect, decode_message
from app.events.seals import Published, SealKeys
from app.events.types import StreamId
from app.progress import SessionId
from tests.following import NO_SERVER, engine_of


def recorded(stream_id: StreamId, offset: int, size: int = 10) -> Recorded:
    data = f'{{"t":"agent_event","msg":"{"x" * size}"}}'
    return Recorded(stream_id, "session", offset, datetime.now(UTC), "agent_event", "codesmith", "think", data)


@asynccontextmanager
async def listening(redis_url: str, *channels: str) -> AsyncIterator[PubSub]:
    async with connect(redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(*channels)
        for _ in channels:
            confirmation = await pubsub.get_message(timeout=5)
            assert confirmation is not None and confirmation["type"] == "subscribe"
        yield pubsub


@pytest.fixture
async def seal_keys(database_url: str) -> AsyncIterator[SealKeys]:
    async with engine_of(database_url) as engine:
        keys = SealKeys(engine)
        await keys.read()
        yield keys


async def payload(pubsub: PubSub, keys: SealKeys) -> bytes:
    message = await pubsub.get_message(timeout=5)
    assert message is not None
    return keys.opened(message["channel"], message["data"]).payload


async def test_one_message_for_each_stream_of_an_append(redis_url: str, seal_keys: SealKeys) -> None:
    one, two = StreamId(uuid4()), StreamId(uuid4())
    events = [recorded(one, 1), recorded(two, 7), recorded(one, 2), recorded(two, 8)]
    async with listening(redis_url, channel_of(one), channel_of(two)) as pubsub:
        push = Push(redis_url, seal_keys)
        push.publish(events)
        messages = [decode_message(await payload(pubsub, seal_keys)) for _ in range(2)]
        assert sorted(messages, key=lambda m: m.first) == [
            Message(1, 2, (Frame.of(events[0]), Frame.of(events[2]))),
            Message(7, 8, (Frame.of(events[1]), Frame.of(events[3]))),
        ]
        push.publish([])
        push.publish([recorded(one, 3)])
        assert decode_message(await payload(pubsub, seal_keys)).first == 3
        await push.close()


async def test_large_appends_name_only_their_offsets(redis_url: str, seal_keys: SealKeys) -> None:
    stream_id = StreamId(uuid4())
    async with listening(redis_url, channel_of(stream_id)) as pubsub:
        push = Push(redis_url, seal_keys, inline_bytes=1000)
        push.publish([recorded(stream_id, 1, size=500), recorded(stream_id, 2, size=500)])
        assert decode_message(await payload(pubsub, seal_keys)) == Message(1, 2)
        await push.close()


async def test_closing_sends_what_waits(redis_url: str, seal_keys: SealKeys) -> None:
    stream_id, session_id = StreamId(uuid4()), SessionId(uuid4())
    async with listening(redis_url, channel_of(stream_id), CANCEL_CHANNEL) as pubsub:
        push = Push(redis_url, seal_keys)
        push.publish([recorded(stream_id, 1)])
        push.cancel(session_id)
        await push.close()
        assert decode_message(await payload(pubsub, seal_keys)).first == 1
        assert await payload(pubsub, seal_keys) == str(session_id).encode()


async def test_without_redis_it_drops_and_says_so_once(
    seal_keys: SealKeys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(push_module, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(push_module, "BUFFER_BYTES", 10_000)
    push = Push(NO_SERVER, seal_keys)
    stream_id = StreamId(uuid4())
    for offset in range(1, 200):
        push.publish([recorded(stream_id, offset, size=500)])
        assert push._waiting_bytes <= 10_000
        if offset % 20 == 0:
            async with asyncio.timeout(5):
                while push._waiting:
                    await asyncio.sleep(0.001)
    await push.close()
    assert capsys.readouterr().out.count("push is down") == 1


async def test_it_comes_back_with_redis(
    own_valkey: EmbeddedValkey, seal_keys: SealKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "RETRY_SECONDS", 0.01)
    stream_id = StreamId(uuid4())
    push = Push(own_valkey.url, seal_keys)
    push.publish([recorded(stream_id, 1)])
    await asyncio.to_thread(own_valkey.stop)
    push.publish([recorded(stream_id, 2)])
    while push._waiting:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(own_valkey.start)
    async with listening(own_valkey.url, channel_of(stream_id)) as pubsub:
        push.publish([recorded(stream_id, 3)])
        assert decode_message(await payload(pubsub, seal_keys)).last == 3
    await push.close()


class Heard:
    """A listener that says when it may have missed something."""

    def __init__(self) -> None:
        self.doubts = asyncio.Event()

    def heard(self, news: Published) -> None: ...

    def doubt(self) -> None:
        self.doubts.set()


async def test_a_connection_that_closes_while_it_is_written_to_is_made_again(
    redis_url: str, seal_keys: SealKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that reads closes it under the hands of the one that subscribes, and redis-py fails oddly."""
    send, closed = AbstractConnection.send_command, 0

    async def close_first(connection: AbstractConnection, *command: Any, **options: Any) -> None:
        nonlocal closed
        if b"channel" in command and not closed:
            closed += 1
            raise AttributeError("'NoneType' object has no attribute 'writelines'")
        await send(connection, *command, **options)

    monkeypatch.setattr(AbstractConnection, "send_command", close_first)
    subscriptions, listener = Subscriptions(redis_url, seal_keys), Heard()
    subscriptions.add_channel("channel", listener)
    task = asyncio.create_task(subscriptions.run())
    async with asyncio.timeout(10):
        await listener.doubts.wait()
    assert closed == 1
    task.cancel()
    await asyncio.wait({task})
