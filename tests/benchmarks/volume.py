"""Does anything get slower when the table is large? The same work beside 100,000 events and beside many more."""

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine
from app.events import read
from app.events.group_commit import GroupCommit
from app.events.read import Filter, StreamState
from tests.benchmarks.appends import appended_each_second, event
from tests.benchmarks.figure import Figure, Goal, in_turns
from tests.benchmarks.house import House
from tests.following import new_stream, state_of

STREAM_EVENTS = 100_000
"""Of each filled stream, so that reading one is the same work however large the table is."""
EVENTS, FULL_EVENTS = 1_000_000, 10_000_000
STREAMS = 100
PAGE = 1000
FILTERED_PAGES = 50
FILTER = Filter(agent=frozenset({"codesmith"}), phase=frozenset({"decision"}))

# Without the function that appends, which would take ten minutes: nothing here verifies the chain.
FILL = """
INSERT INTO events (stream_id, "offset", epoch, ts, t, agent, phase, step, attempt, data, salt, digest, chain)
SELECT %(id)s, n, 1, now(), 'agent_event', 'codesmith',
       CASE WHEN n %% 50 = 0 THEN 'decision' ELSE 'progress' END, 1, 1,
       format('{"t":"agent_event","agent":"codesmith","msg":"step %%s %%s"}', n, repeat('x', 220))::json,
       sha256(int8send(n)), sha256(int8send(n)), sha256(int8send(n))
FROM generate_series(1, %(count)s) AS n
"""


async def filled(url: str, events: int) -> tuple[AsyncEngine, StreamState]:
    """The database, and one of the streams that are in it now."""
    engine = create_engine(url)
    for _ in range(events // STREAM_EVENTS):
        stream_id = await new_stream(engine)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
            await db.execute(FILL, {"id": stream_id, "count": STREAM_EVENTS})
            await db.execute("UPDATE streams SET head = %s WHERE stream_id = %s", [STREAM_EVENTS, stream_id])
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        await db.execute("VACUUM ANALYZE events")
        await db.execute("CHECKPOINT")
    return engine, await state_of(engine, stream_id)


async def appending(url: str, engine: AsyncEngine) -> float:
    ids = [await new_stream(engine) for _ in range(STREAMS)]
    commit = GroupCommit(url)
    try:
        return await appended_each_second(lambda number: commit.append(event(ids, number)), STREAMS)
    finally:
        await commit.close()


async def catching_up(engine: AsyncEngine, state: StreamState) -> float:
    """Events a second of one whole stream, page by page."""
    started, after = time.monotonic(), 0
    async with engine.connect() as db:
        while page := await read.read_page(db, state, after=after, limit=PAGE):
            after = page[-1].offset
    assert after == STREAM_EVENTS
    return STREAM_EVENTS / (time.monotonic() - started)


async def filtering(engine: AsyncEngine, state: StreamState) -> float:
    """Pages of 20 decisions a second, from all over the stream."""
    started = time.monotonic()
    async with engine.connect() as db:
        for number in range(FILTERED_PAGES):
            after = number * STREAM_EVENTS // (FILTERED_PAGES + 1)
            page = await read.read_page(db, state, after=after, limit=20, only=FILTER)
            assert len(page) == 20
    return FILTERED_PAGES / (time.monotonic() - started)


async def bench(house: House) -> AsyncIterator[Figure]:
    events = FULL_EVENTS if house.is_full else EVENTS
    small_url, large_url = house.new_database(), house.new_database()
    small, state = await filled(small_url, STREAM_EVENTS)
    large, large_state = await filled(large_url, events)
    against, goal = "100,000 events", Goal("≥", 1 / 1.3)
    for what, unit, ours, theirs, meaning in (
        (
            "appends", "events/s",
            lambda: appending(large_url, large), lambda: appending(small_url, small),
            "256 producers, 100 streams",
        ),
        (
            "catch-up", "events/s",
            lambda: catching_up(large, large_state), lambda: catching_up(small, state),
            f"one stream of {STREAM_EVENTS:,} events, page by page",
        ),
        (
            "filtered pages", "pages/s",
            lambda: filtering(large, large_state), lambda: filtering(small, state),
            "20 events by agent and phase, of which every 50th is one",
        ),
    ):  # fmt: skip
        with_many, with_few = await in_turns(ours, theirs)
        yield Figure(f"{what}, {events:,} events in the table", unit, with_many, against, with_few, goal, meaning)
    await asyncio.gather(small.dispose(), large.dispose())
