"""What an agent waits for: `await report_progress()` in a running worker, and appends beside a large fold."""

import asyncio
import gc
import random
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from sqlalchemy import text

from app.database import transaction
from app.events import encoding
from app.events.group_commit import GroupCommit
from app.events.types import StreamId
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import service
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample, in_turns, percentile
from tests.benchmarks.house import House
from tests.benchmarks.working import Client, Local, client_of, working
from tests.following import new_stream, progress
from workers.process.runtime import SWITCH_SECONDS

AT_ONCE = 10
REPORTS = 100
COMMITS = 300
STREAMS = 100
EACH_SECONDS = 0.2
"""Between a stream's events: 500 a second from all of them, as busy agents would."""
WIDTH = 500


async def report_latencies(client: Client) -> list[float]:
    """Milliseconds of each, of steps that run at the same time."""
    session_id = await client.run("reports", width=AT_ONCE, reports=REPORTS)
    view = await service.get_session(client.backends, session_id, principal=OWNER)
    return [1000 * seconds for seconds in view.result["seconds"]]


def commit_latencies(url: str) -> list[float]:
    """Milliseconds that one row costs, a transaction each, on one connection."""
    took = []
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE IF NOT EXISTS rows (number integer, data text)")
        for number in range(COMMITS):
            started = time.perf_counter()
            db.execute("INSERT INTO rows VALUES (%s, %s)", (number, "x" * 300))
            took.append(time.perf_counter() - started)
    return [1000 * seconds for seconds in took]


async def reports(house: House) -> AsyncIterator[Figure]:
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    url = house.new_database(migrated=False)
    async with working(house) as client:
        await report_latencies(client)
        for _ in range(RUNS):
            ours.append(await report_latencies(client))
            bare.append(await asyncio.to_thread(commit_latencies, url))
    for name, share, limit in (("p50", 0.5, 3.0), ("p99", 0.99, 20.0)):
        yield Figure(
            f"await report_progress(), {name}",
            "ms",
            Sample(tuple(percentile(run, share) for run in ours)),
            "a bare row's commit",
            Sample(tuple(percentile(run, share) for run in bare)),
            Goal("≤", limit, unit="ms"),
            f"{AT_ONCE} steps at once, each report awaited before the next; one worker process",
        )


@dataclass(frozen=True, slots=True)
class Folding:
    """A worker's own parts in this process: the group commit of its streams, and the fold beside it."""

    url: str
    client: Client
    local: Local
    streams: list[StreamId]

    async def ready(self) -> SessionId:
        """A session all of whose steps have succeeded, and wait for their fold."""
        session_id = await self.client.create("wide", width=WIDTH, reports=0)
        await self.local.advancer.advance_session(session_id)
        async with transaction(self.client.backends.engine) as db:
            done = "UPDATE steps SET status = 'succeeded', update_data = :update WHERE session_id = :id"
            await db.execute(text(done), {"id": session_id, "update": '{"seconds": [0.0]}'})
        return session_id

    async def beside(self) -> float:
        """p99 of the appends in milliseconds, while the fold runs."""
        session_id = await self.ready()
        return await self._appending(self.local.advancer.advance_session(session_id))

    async def alone(self) -> float:
        return await self._appending(asyncio.sleep(2.0))

    async def _appending(self, work: Coroutine[Any, Any, None]) -> float:
        commit = GroupCommit(self.url)
        latencies: list[float] = []
        producers = [asyncio.create_task(produce(commit, stream, latencies)) for stream in self.streams]
        await asyncio.sleep(1.0)  # connected, and spread over time
        latencies.clear()
        await work
        for producer in producers:
            producer.cancel()
        await asyncio.gather(*producers, return_exceptions=True)
        await commit.close()
        return 1000 * percentile(latencies, 0.99)


async def produce(commit: GroupCommit, stream: StreamId, latencies: list[float]) -> None:
    await asyncio.sleep(random.uniform(0, EACH_SECONDS))
    for number in count():
        started = time.perf_counter()
        await commit.append(encoding.item(stream, progress(number)))
        latencies.append(time.perf_counter() - started)
        await asyncio.sleep(EACH_SECONDS)


async def beside_a_fold(house: House) -> Figure:
    url = house.new_database()
    async with client_of(house, url) as client:
        streams = [await new_stream(client.backends.engine) for _ in range(STREAMS)]
        folding = Folding(url, client, Local(client, "wide"), streams)
        await folding.local.register()
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)  # as in a worker,
        gc.freeze()  # which does not look at what it imported again, either
        try:
            await folding.beside()
            ours, alone = await in_turns(folding.beside, folding.alone)
        finally:
            gc.unfreeze()
            sys.setswitchinterval(usual)
    return Figure(
        f"appends of {STREAMS} streams beside a fold, p99",
        "ms",
        ours,
        "without it",
        alone,
        Goal("≤", 2.0),
        f"500 events a second; one session of the same process folds a superstep of {WIDTH} steps",
    )


async def bench(house: House) -> AsyncIterator[Figure]:
    async for figure in reports(house):
        yield figure
    yield await beside_a_fold(house)
