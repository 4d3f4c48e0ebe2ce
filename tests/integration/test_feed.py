"""The feed: what is complete, in order, each event once, whatever stands still, is lost or comes back."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.embedded.valkey import EmbeddedValkey
from app.events import encoding, feed, feed_places
from app.events.append import append as append_items
from app.events.append import create_stream
from app.events.cursors import FeedCursor
from app.events.encoding import Recorded
from app.events.epochs import bump_epoch
from app.events.feed import ALL_STREAMS, FeedFilter, feed_head, feed_lag, read_feed, read_news
from app.events.feed_places import before_first_since, before_last
from app.events.follow import feed_tail, follower
from app.events.follow.follower import Follower
from app.events.follow.reader import ANYONE
from app.events.follow.reader import Reader as MayRead
from app.events.follow.updates import Beat, FeedReset, Frames
from app.events.push import EVERY_STREAM, Push, connect
from app.events.read import Filter
from app.events.types import AnyStreamId, StoredEvent, StreamKind
from tests.following import NO_SERVER, Reader, append, engine_of, new_stream, progress, quick, state_of

NEVER = 3600.0


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with engine_of(database_url) as engine:
        yield engine


class FeedReader:
    """Follows the feed and keeps what came."""

    def __init__(
        self,
        following: Follower,
        after: FeedCursor | None = None,
        only: FeedFilter = ALL_STREAMS,
        *,
        epoch: int = 1,
        reader: MayRead = ANYONE,
    ) -> None:
        self.cursor = after or FeedCursor()
        self.updates = following.feed.follow(self.cursor, only, epoch=epoch, reader=reader)
        self.frames = list[bytes]()

    async def read(self, *, to: int) -> None:
        """Until so many frames have come."""
        while len(self.frames) < to:
            update = await anext(self.updates)
            assert isinstance(update, Frames), update
            self.take(update)

    def take(self, update: Frames) -> None:
        assert isinstance(update.cursor, FeedCursor) and update.cursor > self.cursor
        self.cursor = update.cursor
        self.frames += [frame + b"\n\n" for frame in update.frames.split(b"\n\n")[:-1]]

    @property
    def numbers(self) -> list[int]:
        return [event["details"]["number"] for event in map(event_of, self.frames)]


def event_of(frame: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(frame.split(b"\ndata: ")[1])
    return event


async def all_frames(engine: AsyncEngine, only: FeedFilter = ALL_STREAMS) -> list[bytes]:
    async with engine.connect() as db:
        return (await read_feed(db, FeedCursor(), only, limit=1_000_000)).frames


async def stored(engine: AsyncEngine) -> list[bytes]:
    """The frames as they must arrive, put together here from the rows, not by the code under test."""
    query = (
        'SELECT epoch, xid::text, position, e.stream_id, s.kind, "offset", ts, t, agent, phase, data::text'
        " FROM events e JOIN streams s USING (stream_id) ORDER BY epoch, xid, position"
    )
    async with engine.connect() as db:
        rows = (await db.execute(text(query))).all()
    return [
        f"id: {row[0]}-{row[1]}-{row[2]}\nevent: {row[7].removesuffix('_event')}\n"
        f"data: {Recorded(*row[3:]).wire()}\n\n".encode()
        for row in rows
    ]


async def write(
    db: AsyncConnection, stream_id: AnyStreamId, event: StoredEvent, kind: StreamKind = "session"
) -> list[Recorded]:
    return await append_items(db, [encoding.item(stream_id, event, kind=kind)])


async def test_frames_are_what_the_log_holds(engine: AsyncEngine) -> None:
    first, second = await new_stream(engine), await new_stream(engine)
    await append(engine, first, range(3))
    await append(engine, second, range(2), size=5000)
    await append(engine, first, [3])
    assert await all_frames(engine) == await stored(engine)


@asynccontextmanager
async def standing_still(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that has written an event and does not end; what is committed after it is not complete."""
    stream_id = await new_stream(engine)
    async with engine.connect() as db:
        await write(db, stream_id, progress(0))
        yield db
        await db.rollback()


async def test_a_read_looks_at_nothing_that_waits(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream_id, asked = await new_stream(engine), list[tuple[str, dict[str, Any]]]()

    async def remember(db: AsyncConnection, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        asked.append((query, parameters))
        return await rows_of(db, query, parameters)

    rows_of = feed.rows_of
    monkeypatch.setattr(feed, "rows_of", remember)
    await append(engine, stream_id, range(50))
    async with standing_still(engine), engine.connect() as db:
        for _ in range(3):
            await append(engine, stream_id, range(1000))
        frames = (await read_feed(db, FeedCursor(), limit=1000)).frames
        some = await read_feed(db, FeedCursor(), FeedFilter(Filter(agent=frozenset({"nobody"}))), limit=1000)
        news = await read_news(db, FeedCursor(), limit=1000)
        assert (len(frames), len(some.frames), len(news.frames), news.is_waiting) == (50, 0, 50, True)
        for query, parameters in asked:
            plan = "\n".join(row[0] for row in await rows_of(db, f"EXPLAIN (ANALYZE, COSTS OFF) {query}", parameters))
            assert "Seq Scan on events" not in plan, plan
            index = plan[plan.index("Index Scan using events_position") :]
            assert "rows=50.00 " in index.splitlines()[0] and "Index Cond: ((ROW(epoch, xid" in index, plan
            assert "Rows Removed" not in index.split("Index Scan using streams")[0], plan


async def test_the_lag_is_the_age_of_what_waits(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with engine.connect() as db:
        assert await feed_lag(db) == 0
    async with standing_still(engine):
        async with engine.connect() as db:
            assert await feed_lag(db) == 0
        (event,) = await append(engine, stream_id, [2])
        async with engine.connect() as db:
            await db.execution_options(isolation_level="AUTOCOMMIT")
            before = await db.scalar(text("SELECT clock_timestamp()"))
            lag = await feed_lag(db)
            after = await db.scalar(text("SELECT clock_timestamp()"))
            assert before - event.ts <= timedelta(seconds=lag) <= after - event.ts
    async with engine.connect() as db:
        assert await feed_lag(db) == 0


async def populated(engine: AsyncEngine) -> None:
    """Streams of three projects, two workflows and all kinds, with events of many kinds."""
    chance = random.Random(1)
    shapes: list[StoredEvent] = [
        progress(1, agent="architect"),
        progress(2),
        {"t": "step_event", "step": 1, "agent": "architect", "status": "queued", "attempt": 1},
        {"t": "step_event", "step": 1, "agent": "codesmith", "status": "running", "attempt": 1},
        {"t": "session_event", "status": "running"},
        {"t": "workflow_event", "node": "architect", "delta": {"status": "running"}},
    ]
    for number in range(12):
        kind: StreamKind = "operators" if number % 4 == 0 else "session"
        stream_id = uuid4()
        async with transaction(engine) as db:
            await create_stream(db, stream_id, kind, project=f"p{number // 4}")  # type: ignore[arg-type]  # any id
            if kind == "session":
                created = {"t": "session_event", "status": "created", "task": "a", "workflow": f"w{number % 2}"}
                await write(db, stream_id, created)  # type: ignore[arg-type]  # any id, a shorter event
            for event in chance.choices(shapes, k=10):
                await write(db, stream_id, event, kind)  # type: ignore[arg-type]  # any id


def random_filter(chance: random.Random) -> FeedFilter:
    def some(*names: str) -> frozenset[str]:
        return frozenset(chance.sample(names, chance.choice([0, 0, 0, 1, 2])))

    only = Filter(
        t=some("agent_event", "step_event", "session_event", "workflow_event"),
        agent=some("architect", "codesmith", "nobody"),
        phase=some("progress", "think"),
    )
    return FeedFilter(
        only,
        projects=some("p0", "p1", "p9"),
        workflow=some("w0", "w1"),
        status=some("running", "queued", "created"),
        has_operators=chance.random() < 0.5,
    )


async def test_postgres_and_the_ring_filter_alike(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a statement looks at a few events only, and where it gives a few only."""
    await populated(engine)
    chance, counts = random.Random(2), set[int]()
    async with engine.connect() as db:
        everything = (await read_news(db, FeedCursor(), limit=1000)).frames
        assert [frame.data for frame in everything] == await stored(engine)
        for _ in range(150):
            only = random_filter(chance)
            monkeypatch.setattr(feed, "LOOKED_AT", chance.choice([1, 3, 5000]))
            limit, after, found = chance.choice([1, 2, 1000]), FeedCursor(), list[bytes]()
            while True:
                read = await read_feed(db, after, only, limit=limit)
                assert (read.last is None) == (not read.frames) and len(read.frames) <= limit
                found += read.frames
                if read.reached == after:
                    break
                after = read.reached
            assert found == [frame.data for frame in everything if only.matches(frame)], only
            counts.add(len(found))
    assert len(counts) > 10


async def test_the_last_events_that_match(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    await populated(engine)
    chance = random.Random(3)
    async with engine.connect() as db:
        head = await feed_head(db)
        for _ in range(60):
            only, wanted = random_filter(chance), chance.choice([0, 1, 2, 7, 1000])
            monkeypatch.setattr(feed_places, "LOOKED_AT", chance.choice([1, 5, 5000]))
            expected = await all_frames(engine, only)
            after = await before_last(engine.connect, head, only, wanted)
            read = await read_feed(db, after, only, limit=1000)
            assert read.frames == (expected[-wanted:] if wanted else [])


@pytest.mark.parametrize("looked_at", [1, 7, 5000])
async def test_since_a_time(engine: AsyncEngine, looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions of a quarter of an hour, some of which wrote their event a while after they got their number."""
    monkeypatch.setattr(feed_places, "LOOKED_AT", looked_at)
    chance, begin = random.Random(4), datetime(2026, 1, 1, tzinfo=UTC)
    stream_id = await new_stream(engine)
    for number in range(60):
        await append(engine, stream_id, [number])
    async with transaction(engine) as db:
        for position in range(1, 61):
            ts = begin + timedelta(seconds=15 * position + chance.choice([0, 0, 0, 50]))
            await db.execute(text("UPDATE events SET ts = :ts WHERE position = :p"), {"ts": ts, "p": position})
        times = [row[0] for row in await db.execute(text("SELECT ts FROM events ORDER BY epoch, xid, position"))]
    async with engine.connect() as db:
        head = await feed_head(db)
        for seconds in (-100, 0, 1, 200, 499, 700, 890, 950, 5000):
            since = begin + timedelta(seconds=seconds)
            read = await read_feed(db, await before_first_since(engine.connect, head, since), limit=1000)
            first = next((place for place, ts in enumerate(times) if ts >= since), len(times))
            assert len(read.frames) == len(times) - first


async def test_the_end_of_the_feed_is_an_event(engine: AsyncEngine) -> None:
    """A number of a transaction that wrote nothing may come again after a crash, and must not be in a cursor."""
    async with engine.connect() as db:
        assert (await feed_head(db)).cursor == FeedCursor(1)
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with transaction(engine) as db:
        await db.execute(text("SELECT pg_current_xact_id()"))
    async with engine.connect() as db:
        head = await feed_head(db)
        xid = await db.scalar(text("SELECT xid::text::bigint FROM events"))
    assert head.cursor == head.last == FeedCursor(1, xid, 1) and head.bound > FeedCursor(1, xid + 1)


# --- following


@pytest.mark.parametrize("seed", range(3))
async def test_every_reader_gets_everything_once_and_in_order(engine: AsyncEngine, redis_url: str, seed: int) -> None:
    """Readers that begin anywhere, are cut and come back, while transactions stand still and publishes are lost."""
    chance = random.Random(seed)
    settings = quick(ring_frames=chance.choice([1, 20, 1000]), catch_up_page=chance.choice([3, 1000]))
    async with Follower(engine, redis_url, settings) as following:
        push, streams = Push(redis_url), [await new_stream(engine) for _ in range(20)]
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
            frames, cursor = list[bytes](), FeedCursor()
            while not done.is_set() or len(frames) < written:
                reader = FeedReader(following, cursor)
                async with aclosing(reader.updates):
                    await reader.read(to=min(choice.randint(1, 40), written - len(frames) if done.is_set() else 1))
                frames += reader.frames
                cursor = reader.cursor
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
        push = Push(redis_url)
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
        push = Push(own_valkey.url)
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
        push = Push(redis_url)
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
        while reader.cursor < head.cursor:
            update = await anext(reader.updates)
            assert isinstance(update, Frames) and not update.frames
            reader.take(update)
        assert reader.cursor == head.cursor


async def test_a_new_epoch_is_told_before_its_events(engine: AsyncEngine, redis_url: str) -> None:
    stream_id = await new_stream(engine)
    async with Follower(engine, redis_url, quick()) as following:
        await append(engine, stream_id, [1])
        live, lagging = FeedReader(following), FeedReader(following)
        await live.read(to=1)
        assert await bump_epoch(engine, "failover") == 2
        await append(engine, stream_id, [2])
        for reader in (live, lagging):
            update = await anext(reader.updates)
            while not isinstance(update, FeedReset):
                assert isinstance(update, Frames)
                reader.take(update)
                update = await anext(reader.updates)
            assert (update.epoch, update.cursor) == (2, reader.cursor)
            assert all(b"id: 1-" in frame for frame in reader.frames)
            await reader.read(to=2)
            assert reader.frames == await stored(engine)


async def test_the_cursor_moves_into_the_new_epoch(engine: AsyncEngine, redis_url: str) -> None:
    """Else a reader that comes back would be told of the same epoch again and again, until something is written."""
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with Follower(engine, redis_url, quick()) as following:
        reader = FeedReader(following)
        await reader.read(to=1)
        await bump_epoch(engine, "failover")
        assert isinstance(await anext(reader.updates), FeedReset)
        assert await anext(reader.updates) == Frames(FeedCursor(2), b"")


async def test_a_database_that_lost_what_was_sent_is_read_again(engine: AsyncEngine, redis_url: str) -> None:
    stream_id = await new_stream(engine)
    async with Follower(engine, redis_url, quick()) as following:
        await append(engine, stream_id, [1])
        await bump_epoch(engine, "failover")
        await append(engine, stream_id, [2])
        reader = FeedReader(following, epoch=2)
        await reader.read(to=2)
        async with transaction(engine) as db:  # as an older copy of it has been put in its place
            await db.execute(text("DELETE FROM events WHERE epoch = 2"))
            await db.execute(text("DELETE FROM epochs WHERE epoch = 2"))
        reset = await anext(reader.updates)
        assert isinstance(reset, FeedReset) and reset.cursor == FeedCursor()
        reader.cursor = reset.cursor
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
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, StopAsyncIteration) for end in ends)
        assert key.said == ["came", "came", "left", "left"] and following.readers == 0


async def test_a_reader_that_waits_gets_heartbeats_and_is_hung_up(engine: AsyncEngine, redis_url: str) -> None:
    async with Follower(engine, redis_url, quick(heartbeat=0.05)) as following:
        reader = FeedReader(following)
        while not isinstance(update := await anext(reader.updates), Beat):
            assert update == Frames(FeedCursor(1), b"")
        following.hang_up()
        with pytest.raises(StopAsyncIteration):
            await anext(reader.updates)
