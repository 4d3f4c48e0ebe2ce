"""Slow and many readers, a reconnect storm, a big history: what is measured, and what holds at any size.

The bound on a gateway's memory, beside what it needs to run: a ring of `ring_bytes` for each followed stream; for
each reader the batch that is being written and the copies of it that server and transport make (a batch has at
most PAGE_BYTES); for each read from Postgres a page. None depends on the length of a stream, and a reader that
takes nothing holds no more than its batch, until it is cut.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import MIB, Settings
from app.database import create_engine
from app.events.follow.shared_reads import PAGE_BYTES
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import StreamId
from tests.acceptance.faults.crowd import Client, caught_up, crowd, opened, p99
from tests.acceptance.faults.deployment import TOKEN, Deployment, deployed
from tests.acceptance.faults.program import Program
from tests.acceptance.faults.sse import connected
from tests.following import append, new_stream

PAGE = 1000
EVENT_BYTES = 700
"""What each event's message is padded with."""
COPIES = 4
"""Of a batch: joined, framed, in the transport's buffer, and one that the allocator has not given back."""
IDLE_BYTES = 100 * 1024
"""A reader's tasks, buffers and request; measured with 2,000 of them: 75 KB."""
PATIENCE_SECONDS = 120.0
BEHIND = 10_000
"""Events that a stuck reader has asked for: 10 MB, more than the 4 MB that the kernel buffers for a sender."""


@dataclass(frozen=True, slots=True)
class Size:
    """A tenth of the clients does not read."""

    clients: int = 300
    streams: int = 2
    history: int = 10_000
    """Events of each stream before anybody reads it live."""
    live_seconds: float = 3.0
    events_each_second: int = 10
    """Appended to every stream while the clients read."""
    big_history: int = 50_000
    backlog: int = 300


FULL = Size(clients=2000, streams=4, history=100_000, live_seconds=30.0, big_history=1_000_000, backlog=10_000)


@dataclass
class Stage:
    """Two gateways, streams with a history, and somebody who appends to them."""

    deployment: Deployment
    engine: AsyncEngine
    push: Push
    size: Size
    heads: dict[StreamId, int] = field(default_factory=dict)

    async def new_stream(self, events: int) -> StreamId:
        stream_id = await new_stream(self.engine)
        for start in range(0, events, PAGE):
            await append(self.engine, stream_id, range(start, min(start + PAGE, events)), size=EVENT_BYTES)
        self.heads[stream_id] = events
        return stream_id

    async def live(self) -> None:
        """One event after the other in every stream, published as a worker does it."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(1, int(self.size.live_seconds * self.size.events_each_second) + 1):
            for stream_id in self.heads:
                events = await append(self.engine, stream_id, [number], size=EVENT_BYTES)
                self.push.publish(events)
                self.heads[stream_id] = events[-1].offset
            await asyncio.sleep(max(0, started + number / self.size.events_each_second - loop.time()))

    def clients(self, count: int, *, behind: int = 0) -> list[Client]:
        """Spread over the streams, on the first gateway as long as it lives; so many events behind the heads."""
        ids = list(self.heads)
        chosen = [ids[number % len(ids)] for number in range(count)]
        return [Client(id_, self._port, cursor=self.heads[id_] - behind) for id_ in chosen]

    def _port(self) -> int:
        number = 0 if self.deployment.gateways[0].is_running else 1
        return self.deployment.doors[number].target_port

    def bound(self, *, readers: int, stuck: int) -> int:
        """What a gateway's memory may grow by."""
        rings = len(self.heads) * Settings().ring_bytes
        pages = Settings().database_pool_size * COPIES * PAGE_BYTES
        return rings + pages + readers * IDLE_BYTES + stuck * COPIES * PAGE_BYTES + 20 * MIB


@asynccontextmanager
async def staged(size: Size) -> AsyncIterator[Stage]:
    async with deployed(workers=0, gateways=2) as deployment:
        engine = create_engine(deployment.postgres.superuser_url)
        push = Push(deployment.valkey.url, SealKeys(engine))
        stage = Stage(deployment, engine, push, size)
        for _ in range(size.streams):
            await stage.new_stream(size.history)
        try:
            yield stage
        finally:
            await push.close()
            await engine.dispose()


@dataclass
class Memory:
    """How far a program's resident memory rose above what it was."""

    program: Program
    grown: int = 0

    async def watch(self) -> None:
        """Until cancelled."""
        before = self.program.usage[0]
        while True:
            self.grown = max(self.grown, self.program.usage[0] - before)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def memory_of(program: Program) -> AsyncIterator[Memory]:
    memory = Memory(program)
    task = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        task.cancel()


async def slow_readers(size: Size) -> list[str]:
    """A tenth of the clients asks for much and reads nothing; the others must not notice."""
    async with staged(size) as stage, memory_of(stage.deployment.gateways[0]) as memory:
        stuck_count = size.clients // 10
        readers = stage.clients(size.clients - stuck_count)
        stuck = stage.clients(stuck_count, behind=BEHIND)
        for client in stuck:
            client.is_stuck = True
        async with crowd(readers):
            await opened(readers, patience=PATIENCE_SECONDS)
            await stage.live()
            await caught_up(readers, stage.heads, patience=PATIENCE_SECONDS)
            undisturbed = p99(readers)
            async with crowd(stuck):
                await opened(stuck, patience=PATIENCE_SECONDS)
                await stage.live()
                await caught_up(readers, stage.heads, patience=PATIENCE_SECONDS)
                disturbed = p99(readers)
                await _cut(stage, size.clients - stuck_count)
                for client in stuck:
                    client.read_on()
                resumed = await caught_up(stuck, stage.heads, patience=PATIENCE_SECONDS)
        faults = [fault for client in readers + stuck for fault in client.faults]
        assert not faults, faults[:5]
        bound = stage.bound(readers=size.clients, stuck=stuck_count)
        assert memory.grown < bound, f"{memory.grown // MIB} MiB, bound {bound // MIB} MiB"
        return [
            f"{size.clients} readers, {stuck_count} of them stuck, streams of {max(stage.heads.values())} events",
            f"p99 of the others: {undisturbed * 1000:.0f} ms undisturbed, {disturbed * 1000:.0f} ms beside the stuck",
            f"the stuck ones were cut, and had caught up {resumed:.1f} s after they read again",
            f"memory grew by {memory.grown // MIB} MiB, bound {bound // MIB} MiB",
        ]


async def _cut(stage: Stage, others: int) -> None:
    """Waits until the gateway has closed the connections of those who take nothing: they do not see it."""
    gateway, port = stage.deployment.gateways[0], stage.deployment.doors[0].target_port
    async with asyncio.timeout(PATIENCE_SECONDS):
        while gateway.connections(port) > others:
            await asyncio.sleep(0.2)


async def reconnect_storm(size: Size) -> list[str]:
    """The gateway of all clients dies; they come to the other one at once."""
    async with staged(size) as stage:
        clients = stage.clients(size.clients)
        first, second = stage.deployment.gateways
        async with crowd(clients), memory_of(second) as memory:
            await opened(clients, patience=PATIENCE_SECONDS)
            await stage.live()
            await caught_up(clients, stage.heads, patience=PATIENCE_SECONDS)
            before = await _transactions(stage)
            for client in clients:
                client.has_opened = False
            await first.kill()
            killed = time.monotonic()
            living = asyncio.create_task(stage.live())
            await opened(clients, patience=PATIENCE_SECONDS)
            heads, answered = dict(stage.heads), time.monotonic() - killed
            caught = answered + await caught_up(clients, heads, patience=PATIENCE_SECONDS)
            await living
            await caught_up(clients, stage.heads, patience=PATIENCE_SECONDS)
            asked = await _transactions(stage) - before
        faults = [fault for client in clients for fault in client.faults]
        assert not faults, faults[:5]
        assert all(client.connections > 1 for client in clients)
        bound = size.clients + 50 * int(size.live_seconds + 10) * size.streams
        assert asked < bound, f"{asked} transactions for {size.clients} clients"
        return [
            f"{size.clients} clients lost their gateway and missed nothing",
            f"all were answered by the other one after {answered:.1f} s, and had caught up after {caught:.1f} s",
            f"Postgres saw {asked} transactions, {asked / size.clients:.1f} for each client",
            f"memory grew by {memory.grown // MIB} MiB",
        ]


async def _transactions(stage: Stage) -> int:
    async with await psycopg.AsyncConnection.connect(stage.deployment.postgres.superuser_url) as db:
        await db.execute("SELECT pg_stat_force_next_flush()")
        cursor = await db.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def big_history(size: Size) -> list[str]:
    """Somebody asks for all of a long stream."""
    async with staged(Size(streams=0)) as stage:
        stream_id = await stage.new_stream(size.big_history)
        port = stage.deployment.doors[0].target_port
        async with memory_of(stage.deployment.gateways[0]) as memory:
            started, first, cursor, count = time.monotonic(), 0.0, 0, 0
            async with connected(port, f"/sessions/{stream_id}/events", token=TOKEN, after=0) as connection:
                async for frames in connection.frames():
                    for frame in frames:
                        if frame.event == "agent":
                            first = first or time.monotonic() - started
                            assert int(frame.id) == cursor + 1
                            cursor, count = cursor + 1, count + 1
                    if cursor == size.big_history:
                        break
            seconds = time.monotonic() - started
        assert memory.grown < 50 * MIB, f"{memory.grown // MIB} MiB"
        return [
            f"{count} events, the first after {first * 1000:.0f} ms, {count / seconds:.0f} events/s",
            f"memory grew by {memory.grown / MIB:.1f} MiB, bound 50 MiB",
        ]
