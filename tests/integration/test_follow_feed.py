"""Following the feed: each event once and in order, whatever stands still, is lost or comes back."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.embedded.valkey import EmbeddedValkey
from app.events import feed
from app.events.cursors import Cursor, FeedCursor, FeedPlace
from app.events.encoding import Recorded
from app.events.feed import FeedFilter, feed_head, read_feed
from app.events.follow import feed_tail, follower
from app.events.follow.follower import Follower
from app.events.follow.updates import LAPSED, STOPPING, Away, Beat, FeedReset, Frames
from app.events.push import EVERY_STREAM, Push, connect
from app.events.read import Filter
from app.events.seals import SealKeys
from tests.feeding import FeedReader, stored, write
from tests.following import NO_SERVER, Reader, append, engine_of, new_stream, progress, quick, state_of
from tests.roles import bump_epoch

NEVER = 3600.0


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with engine_of(database_url) as engine:
        yield engine


@pytest.mark.parametrize("seed", range(3))
async def test_every_reader_gets_everything_once_and_in_order(engine: AsyncEngine, redis_url: str, seed: int) -> None:
    """Readers that begin anywhere, are cut and come back, while transactions stand still and publishes are lost."""
    chance = random.Random(seed)
    settings = quick(ring_frames=chance.choice([1, 20, 1000]), catch_up_page=chance.choice([3, 1000]))
    async with Follower(engine, redis_url, settings) as following:
        push, streams = Push(redis_url, SealKeys(engine)), [await new_stream(engine) for _ in range(20)]
        numbers, written, done = count(), 0, asyncio.Event()

        async def produce(choice: random.Random) -> None:
            nonlocal written
            for _ in range(25):
                async with transaction(engine) as db:
                    events = list[Recorded]()
                    for stream_id in sorted(choice.sample(streams, 2)):
                        events += await write(db, stream_id, progress(next(numbers)))
                    for _ in range(choice.choice([0, 0, 0, 50])):
                        await asyncio.sleep(0)
                written += 2
                if choice.random() < 0.7:
                    push.publish(events)

        async def consume(choice: random.Random) -> list[bytes]:
            frames, cursor = list[bytes](), FeedPlace()
            while not done.is_set() or len(frames) < written:
                reader = FeedReader(following, cursor)
                async with aclosing(reader.updates):
                    await reader.read(to=min(choice.randint(1, 40), written - len(frames) if done.is_set() else 1))
                frames += reader.frames
                cursor = reader.place
            return frames

        consuming = [asyncio.create_task(consume(random.Random(chance.random()))) for _ in range(4)]
        await asyncio.gather(*(produce(random.Random(chance.random())) for _ in range(4)))
        await append(engine, streams[0], [next(numbers)])
        written += 1
        done.set()
        expected = await stored(engine)
        assert len(expected) == written == 201
        for frames in await asyncio.gather(*consuming):
            assert frames == expected
        await push.close()


async def test_what_becomes_complete_later_comes_without_a_bell(
    engine: AsyncEngine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publish of the second transaction came while the first one stood still; that one's is lost."""
    stream_id, settings = await new_stream(engine), quick(head_poll=NEVER)
    async with Follower(engine, redis_url, settings) as following:
        push = Push(redis_url, SealKeys(engine))
        reader = FeedReader(following)
        push.publish(await append(engine, stream_id, [1]))
        await reader.read(to=1)
        other = await new_stream(engine)
        async with transaction(engine) as db:
            await write(db, other, progress(2))
            push.publish(await append(engine, stream_id, [3]))
            tail = following.feed._tail
            assert tail is not None
            looks, look = 0, tail._look

            async def counted() -> bool:
                nonlocal looks
                looks += 1
                return await look()

            monkeypatch.setattr(tail, "_look", counted)
            while looks < 3:
                await asyncio.sleep(0.01)
            assert reader.numbers == [1]
        await reader.read(to=3)
        assert reader.numbers == [1, 2, 3]
        await push.close()


async def test_without_redis_postgres_is_enough(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    async with Follower(engine, NO_SERVER, quick()) as following:
        reader = FeedReader(following)
        for numbers in (range(3), range(3, 6)):
            await append(engine, stream_id, numbers)
            await reader.read(to=numbers.stop)
        assert reader.frames == await stored(engine)


async def test_a_confirmation_is_a_bell(engine: AsyncEngine, own_valkey: EmbeddedValkey) -> None:
    """What was published while Redis was away comes with the new subscription, not with a poll."""
    stream_id = await new_stream(engine)
    async with Follower(engine, own_valkey.url, quick(head_poll=NEVER)) as following:
        push = Push(own_valkey.url, SealKeys(engine))
        reader = FeedReader(following)
        push.publish(await append(engine, stream_id, [1]))
        await reader.read(to=1)
        await asyncio.to_thread(own_valkey.stop)
        await append(engine, stream_id, [2])
        await asyncio.to_thread(own_valkey.start)
        await reader.read(to=2)
        await push.close()


async def test_it_listens_to_all_streams_only_while_there_are_readers(
    engine: AsyncEngine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LINGER_SECONDS", 0.05)
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with Follower(engine, redis_url, quick()) as following, connect(redis_url) as redis:

        async def until(patterns: int) -> None:
            while await redis.pubsub_numpat() != patterns:
                await asyncio.sleep(0.01)

        assert EVERY_STREAM.endswith("*") and await redis.pubsub_numpat() == 0
        for _ in range(2):
            reader = FeedReader(following)
            async with aclosing(reader.updates):
                await reader.read(to=1)
                assert following.readers == 1
                await until(1)
            assert following.readers == 0
            await until(0)


async def test_readers_at_the_same_place_share_what_is_read(
    engine: AsyncEngine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    async def counted(*arguments: Any, **options: Any) -> feed.FeedRead:
        nonlocal reads
        reads += 1
        return await read_feed(*arguments, **options)

    monkeypatch.setattr(feed_tail, "read_feed", counted)
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(60))
    only = FeedFilter(Filter(agent=frozenset({"codesmith"})))
    async with Follower(engine, redis_url, quick()) as following:
        push = Push(redis_url, SealKeys(engine))
        readers = [FeedReader(following, only=only) for _ in range(30)]
        await asyncio.gather(*(reader.read(to=60) for reader in readers))
        assert reads < 10
        reads = 0
        push.publish(await append(engine, stream_id, range(5)))
        await asyncio.gather(*(reader.read(to=65) for reader in readers))
        assert reads < 10
        await push.close()


async def test_a_filter_moves_the_cursor(engine: AsyncEngine, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many events that do not match, a bounded number in each statement."""
    monkeypatch.setattr(feed, "LOOKED_AT", 10)
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(500), agent="research")
    await append(engine, stream_id, [500], agent="architect")
    await append(engine, stream_id, range(100), agent="research")
    only = FeedFilter(Filter(agent=frozenset({"architect"})))
    async with Follower(engine, redis_url, quick(id_every=0)) as following:
        reader = FeedReader(following, only=only)
        await reader.read(to=1)
        assert reader.numbers == [500] and reader.frames == (await stored(engine))[500:501]
        async with engine.connect() as db:
            head = await feed_head(db)
        while reader.place < head.place:
            update = await anext(reader.updates)
            assert isinstance(update, Frames) and not update.frames
            reader.take(update)
        assert reader.place == head.place


async def test_a_new_epoch_is_told_before_its_events(engine: AsyncEngine, redis_url: str) -> None:
    stream_id = await new_stream(engine)
    async with Follower(engine, redis_url, quick()) as following:
        await append(engine, stream_id, [1])
        live, lagging = FeedReader(following), FeedReader(following)
        await live.read(to=1)
        epoch = await bump_epoch(engine, "failover")
        await append(engine, stream_id, [2])
        for reader in (live, lagging):
            update = await anext(reader.updates)
            while not isinstance(update, FeedReset):
                assert isinstance(update, Frames)
                reader.take(update)
                update = await anext(reader.updates)
            assert (update.epoch, update.cursor) == (epoch, FeedCursor(epoch, reader.place))
            assert all(b"id: 1-" in frame for frame in reader.frames)
            told = len(reader.frames)
            await reader.read(to=2)
            there = await stored(engine)  # what came before has ids that do not know of the new epoch
            before = [frame.replace(f"{epoch}.".encode(), b"") for frame in there[:told]]
            assert reader.frames == before + there[told:]


async def test_the_cursor_moves_into_the_new_epoch(engine: AsyncEngine, redis_url: str) -> None:
    """Else a reader that comes back would be told of the same epoch again and again, until something is written."""
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with Follower(engine, redis_url, quick()) as following:
        reader = FeedReader(following)
        await reader.read(to=1)
        epoch = await bump_epoch(engine, "failover")
        assert isinstance(await anext(reader.updates), FeedReset)
        assert await anext(reader.updates) == Frames(FeedCursor(epoch, FeedPlace(epoch)), b"")


async def test_a_database_that_lost_what_was_sent_is_read_again(engine: AsyncEngine, redis_url: str) -> None:
    stream_id = await new_stream(engine)
    async with Follower(engine, redis_url, quick()) as following:
        await append(engine, stream_id, [1])
        epoch = await bump_epoch(engine, "failover")
        await append(engine, stream_id, [2])
        reader = FeedReader(following, epoch=epoch)
        await reader.read(to=2)
        async with transaction(engine) as db:  # as an older copy of it has been put in its place
            await db.execute(text("DELETE FROM events WHERE epoch > 1"))
            await db.execute(text("DELETE FROM epochs WHERE epoch > 1"))
        reset = await anext(reader.updates)
        assert isinstance(reset, FeedReset) and reset.cursor.place == FeedPlace()
        reader.place = reset.cursor.place
        await reader.read(to=3)
        assert reader.frames[2:] == await stored(engine)


async def test_a_reader_that_may_not_go_on_is_let_go(engine: AsyncEngine, redis_url: str) -> None:
    class Key:
        said, is_good = list[str](), True

        def may_go_on(self) -> bool:
            return self.is_good

        def came(self) -> None:
            self.said.append("came")

        def left(self) -> None:
            self.said.append("left")

    key, stream_id = Key(), await new_stream(engine)
    await append(engine, stream_id, [1])
    async with Follower(engine, redis_url, quick(heartbeat=NEVER, head_poll=NEVER)) as following:
        of_all = FeedReader(following, reader=key)
        of_one = Reader(following, await state_of(engine, stream_id))
        of_one.updates = following.follow(await state_of(engine, stream_id), 0, reader=key)
        await of_all.read(to=1)
        await of_one.read(to=1)
        assert key.said == ["came", "came"]
        waiting = [asyncio.create_task(anext(updates)) for updates in (of_all.updates, of_one.updates)]
        await asyncio.sleep(0)
        key.is_good = False
        following.look_again()
        assert await asyncio.gather(*waiting) == [Away(LAPSED, FeedCursor(1, of_all.place)), Away(LAPSED, Cursor(1, 1))]
        for updates in (of_all.updates, of_one.updates):
            assert [update async for update in updates] == []
        assert key.said == ["came", "came", "left", "left"] and following.readers == 0


async def test_a_reader_that_waits_gets_heartbeats_and_is_hung_up(engine: AsyncEngine, redis_url: str) -> None:
    async with Follower(engine, redis_url, quick(heartbeat=0.05)) as following:
        reader = FeedReader(following)
        while not isinstance(update := await anext(reader.updates), Beat):
            assert update == Frames(FeedCursor(1, FeedPlace(1)), b"")
        following.hang_up()
        assert await anext(reader.updates) in [
            Away(STOPPING, cursor) for cursor in (FeedCursor(1, FeedPlace()), FeedCursor(1, FeedPlace(1)))
        ]
        with pytest.raises(StopAsyncIteration):
            await anext(reader.updates)
