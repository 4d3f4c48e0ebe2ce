"""Durable appends: many producers, each of which awaits its event before it makes the next.

The raw limit is the same group commit without what makes a log of it: no chain, no digest, no leases, no
repeated calls, only offsets, into a table with the same columns and a primary key. Producers, batches,
connections and process are the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from uuid import UUID

import psycopg

from app.database import create_engine, libpq_url
from app.events import arrays, encoding
from app.events.group_commit import GroupCommit
from app.events.types import StreamId
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample, in_turns
from tests.benchmarks.house import House
from tests.benchmarks.peers import python_with, run_peer
from tests.following import new_stream, progress

PRODUCERS = 256
SECONDS = 4.0
WARM_UP_SECONDS = 1.0
EVENT_BYTES = 180
"""Padding that makes an event's JSON about 300 bytes long."""
DBOS = "dbos==3.4.0"
EVENTSOURCING = ("eventsourcing[postgres]==9.5.6", "psycopg[binary]==3.3.9")
CALLERS, IN_A_CALL = 16, 100

Append = Callable[[int], Awaitable[object]]
"""Appends one event to the stream with that number, and returns when it is durable."""

RAW_TABLES = """
CREATE TABLE raw_streams (stream_id uuid PRIMARY KEY, head bigint NOT NULL DEFAULT 0);
CREATE TABLE raw_events (
    stream_id uuid, "offset" bigint, ts timestamptz NOT NULL DEFAULT clock_timestamp(), t text, agent text,
    phase text, step integer, attempt integer, data json, PRIMARY KEY (stream_id, "offset")
);
"""
RAW_APPEND = """
WITH item AS (
    SELECT u.*, row_number() OVER (PARTITION BY u.stream_id ORDER BY u.i) AS nth
    FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::integer[], %b::integer[])
         WITH ORDINALITY AS u(stream_id, data, t, agent, phase, step, attempt, i)
), moved AS (
    UPDATE raw_streams s SET head = s.head + n.count
    FROM (SELECT stream_id, count(*) FROM item GROUP BY stream_id ORDER BY stream_id) AS n
    WHERE s.stream_id = n.stream_id
    RETURNING s.stream_id, s.head - n.count AS before
)
INSERT INTO raw_events (stream_id, "offset", t, agent, phase, step, attempt, data)
SELECT stream_id, before + nth, t, agent, phase, step, attempt, data::json FROM item JOIN moved USING (stream_id)
RETURNING "offset"
"""


class RawGroupCommit:
    """As app/events/group_commit.py, with nothing but the insert."""

    def __init__(self, url: str, flushers: int) -> None:
        self._url = libpq_url(url)
        self._lines: list[list[tuple[encoding.Item, asyncio.Future[None]]]] = [[] for _ in range(flushers)]
        self._wakes = [asyncio.Event() for _ in range(flushers)]
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(flushers)]

    async def append(self, item: encoding.Item) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number = item.stream_id.int % len(self._lines)
        self._lines[number].append((item, done))
        self._wakes[number].set()
        await done

    async def _run(self, number: int) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as db:
            while True:
                await self._wakes[number].wait()
                self._wakes[number].clear()
                while batch := self._lines[number]:
                    self._lines[number] = []
                    items = [item for item, _ in batch]
                    columns = ("stream_id", "data", "t", "agent", "phase", "step", "attempt")
                    cursor = await db.execute(
                        RAW_APPEND, [[getattr(i, name) for i in items] for name in columns], binary=True
                    )
                    await cursor.fetchall()
                    for _, done in batch:
                        done.set_result(None)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def appended_each_second(append: Append, streams: int) -> float:
    """Events a second that `PRODUCERS` get, each awaiting its event."""
    count = 0

    async def produce(number: int, until: float) -> None:
        nonlocal count
        while time.monotonic() < until:
            await append(number % streams)
            count += 1

    for seconds in (WARM_UP_SECONDS, SECONDS):
        count = 0
        started = time.monotonic()
        await asyncio.gather(*(produce(number, started + seconds) for number in range(PRODUCERS)))
    return count / (time.monotonic() - started)


async def ours_and_raw(house: House, streams: int) -> list[Sample]:
    url = house.new_database()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(RAW_TABLES)
    engine = create_engine(url)
    ids = [await new_stream(engine) for _ in range(streams)]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO raw_streams (stream_id) SELECT unnest(%s::uuid[])", [list[UUID](ids)])
    await engine.dispose()

    async def ours() -> float:
        commit = GroupCommit(url)
        try:
            return await appended_each_second(lambda n: commit.append(event(ids, n)), streams)
        finally:
            await commit.close()

    async def raw() -> float:
        commit = RawGroupCommit(url, flushers=2)
        try:
            return await appended_each_second(lambda n: commit.append(event(ids, n)), streams)
        finally:
            await commit.close()

    return await in_turns(ours, raw)


async def appended_in_calls(house: House) -> float:
    """Events a second, many a call, from callers with a stream and a connection each."""
    url = house.new_database()
    engine = create_engine(url)
    ids = [await new_stream(engine) for _ in range(CALLERS)]
    await engine.dispose()

    async def produce(stream_id: StreamId, until: float) -> int:
        count = 0
        items = [encoding.item(stream_id, progress(number, size=EVENT_BYTES)) for number in range(IN_A_CALL)]
        async with await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True) as db:
            while time.monotonic() < until:
                count += len(await arrays.call_append(db, items))
        return count

    started = time.monotonic()
    counts = await asyncio.gather(*(produce(stream_id, started + SECONDS) for stream_id in ids))
    return sum(counts) / (time.monotonic() - started)


async def beside_eventsourcing(house: House, one_a_call: Sample) -> AsyncIterator[Figure]:
    python = python_with(*EVENTSOURCING)
    ours, theirs = list[float](), list[dict[str, float]]()
    for _ in range(RUNS):
        ours.append(await appended_in_calls(house))
        url = house.new_database(migrated=False)
        theirs.append(await asyncio.to_thread(run_peer, python, "eventsourcing_events", "append", url))
    single, batches = (Sample(tuple(rates[name] for rates in theirs)) for name in ("single", "batches"))
    peer = "eventsourcing's Postgres recorder"
    meaning = f"{PRODUCERS} producers await each event; theirs: {CALLERS} threads, each event a call"
    yield Figure("appends, 100 streams", "events/s", one_a_call, peer, single, Goal("≥", 1.0), meaning)
    meaning = f"{CALLERS} callers with a connection and a stream each; theirs: {CALLERS} threads with an aggregate each"
    what = f"appends, {IN_A_CALL} events a call"
    yield Figure(what, "events/s", Sample(tuple(ours)), peer, batches, Goal("≥", 1.0), meaning)


def event(ids: Sequence[StreamId], number: int) -> encoding.Item:
    return encoding.item(ids[number], progress(number, size=EVENT_BYTES))


async def bench(house: House) -> AsyncIterator[Figure]:
    meaning = f"{PRODUCERS} producers await each event until it is durable"
    many, raw_many = await ours_and_raw(house, 100)
    limit = "group commit without chain and digest"
    yield Figure("appends, 100 streams", "events/s", many, limit, raw_many, Goal("≥", 0.8), meaning)
    one, raw_one = await ours_and_raw(house, 1)
    yield Figure("appends, one hot stream", "events/s", one, limit, raw_one, Goal("≥", 0.7), meaning)
    python = python_with(DBOS)
    rates = [
        (await asyncio.to_thread(run_peer, python, "dbos_streams", house.new_database(migrated=False)))["rate"]
        for _ in range(RUNS)
    ]
    yield Figure(
        "appends, 100 streams", "events/s", many, "DBOS write_stream", Sample(tuple(rates)), Goal("≥", 50.0), meaning
    )
    async for figure in beside_eventsourcing(house, many):
        yield figure
