"""Reading the feed: what is complete and matches, in order, by short statements along an index."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.events import feed, feed_places
from app.events.append import create_stream
from app.events.cursors import FeedPlace
from app.events.feed import FeedFilter, feed_head, feed_lag, read_feed, read_news
from app.events.feed_places import before_first_since, before_last
from app.events.read import Filter
from app.events.types import StoredEvent, StreamKind
from tests.feeding import all_frames, stored, write
from tests.following import append, engine_of, new_stream, progress


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with engine_of(database_url) as engine:
        yield engine


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
        frames = (await read_feed(db, FeedPlace(), limit=1000)).frames
        some = await read_feed(db, FeedPlace(), FeedFilter(Filter(agent=frozenset({"nobody"}))), limit=1000)
        news = await read_news(db, FeedPlace(), limit=1000)
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
        everything = (await read_news(db, FeedPlace(), limit=1000)).frames
        assert [frame.data for frame in everything] == await stored(engine)
        for _ in range(150):
            only = random_filter(chance)
            monkeypatch.setattr(feed, "LOOKED_AT", chance.choice([1, 3, 5000]))
            limit, after, found = chance.choice([1, 2, 1000]), FeedPlace(), list[bytes]()
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
        assert (await feed_head(db)).place == FeedPlace(1)
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with transaction(engine) as db:
        await db.execute(text("SELECT pg_current_xact_id()"))
    async with engine.connect() as db:
        head = await feed_head(db)
        xid = await db.scalar(text("SELECT xid::text::bigint FROM events"))
    assert head.place == head.last == FeedPlace(1, xid, 1) and head.bound > FeedPlace(1, xid + 1)
