"""Catching up on a long stream, beside reading its text out of Postgres and framing it in the same Python."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg

from app.database import create_engine
from app.events import arrays, encoding
from app.events.types import StreamId
from tests.benchmarks.appends import EVENTSOURCING
from tests.benchmarks.crowd import Crowd, Load, crowd
from tests.benchmarks.figure import RUNS, Figure, Goal, Measure, Sample, in_turns
from tests.benchmarks.house import House
from tests.benchmarks.peers import python_with, run_peer
from tests.benchmarks.servers.serving import EVENT_BYTES, get
from tests.benchmarks.volume import catching_up
from tests.following import new_stream, progress, state_of

EVENTS = 100_000
FEWER_EVENTS = 10_000
PAGE = 1000
CLIENTS = 500
SECONDS = 3.0
MIB = 1024 * 1024

_PAGE = """
SELECT "offset", ts::text, data::text FROM events
WHERE stream_id = %s AND "offset" > %s ORDER BY "offset" LIMIT %s
"""


async def filled(url: str, events: int) -> StreamId:
    engine = create_engine(url)
    stream_id = await new_stream(engine)
    await engine.dispose()
    items = [encoding.item(stream_id, progress(number, size=EVENT_BYTES)) for number in range(PAGE)]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        for _ in range(events // PAGE):
            await arrays.call_append(db, items)
        await db.execute("VACUUM ANALYZE events")
    return stream_id


def raw_page(db: psycopg.Connection, stream_id: StreamId, after: int) -> bytes:
    rows = db.execute(_PAGE, (stream_id, after, PAGE)).fetchall()
    return "".join(
        f'id: {offset}\nevent: agent\ndata: {{"offset":{offset},"session_id":"{stream_id}","ts":"{ts}",{data[1:]}\n\n'
        for offset, ts, data in rows
    ).encode()


def raw_rate(url: str, stream_id: StreamId) -> float:
    """Events a second of one reader on one connection, page by page, that does nothing with them."""
    with closing(psycopg.connect(url, autocommit=True)) as db:
        started = time.monotonic()
        for after in range(0, EVENTS, PAGE):
            raw_page(db, stream_id, after)
        return EVENTS / (time.monotonic() - started)


def raw_first_page(url: str, stream_id: StreamId) -> float:
    """Milliseconds."""
    with closing(psycopg.connect(url, autocommit=True)) as db:
        db.execute("SELECT 1")
        started = time.monotonic()
        raw_page(db, stream_id, 0)
        return (time.monotonic() - started) * 1000


class Caught:
    """Clients that catch up from the start of a stream through one gateway."""

    def __init__(self, readers: Crowd, gateway: psutil.Popen, port: int) -> None:
        self.load = Load()
        self._readers = readers
        self._gateway = gateway
        self._port = port

    async def all_of(self, stream_id: StreamId, events: int, clients: int = 1) -> float:
        """Seconds from the first connection until everybody has everything."""
        with self.load.measured(self._gateway, self._readers.process):
            started = await self._readers.connect(self._port, [_from_start(stream_id)] * clients)
            _, at = await self._readers.reach(1 + events)
        await self._readers.leave()
        return at - started

    async def for_a_while(self, stream_id: StreamId, clients: int) -> float:
        """Frames a second of all clients together."""
        await self._readers.connect(self._port, [_from_start(stream_id)] * clients)
        await self._readers.reach(2)
        with self.load.measured(self._gateway, self._readers.process):
            before, started = await self._readers.total()
            await asyncio.sleep(SECONDS)
            total, at = await self._readers.total()
        await self._readers.leave()
        return (total - before) / (at - started)

    async def first_event(self, stream_id: StreamId) -> float:
        """Milliseconds from the connection to the first event, which comes behind the greeting."""
        started = await self._readers.connect(self._port, [_from_start(stream_id)])
        _, at = await self._readers.reach(2)
        await self._readers.leave()
        return (at - started) * 1000


def _from_start(stream_id: StreamId) -> str:
    return get(f"/events?session_id={stream_id}&after=0")


def forget_peak(process: psutil.Popen) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak(process: psutil.Popen) -> int:
    """The most bytes that it had resident since `forget_peak`."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


async def peaks(house: House, readers: Crowd, url: str, long: StreamId, short: StreamId) -> tuple[float, float]:
    """Megabytes that a new gateway grows by, while clients catch up on a long stream, and on a short one."""
    gateway, port = await house.start_gateway(url)
    caught = Caught(readers, gateway, port)
    resting = gateway.memory_info().rss
    forget_peak(gateway)
    await caught.all_of(short, FEWER_EVENTS, CLIENTS)
    of_short = peak(gateway) - resting
    forget_peak(gateway)
    await caught.for_a_while(long, CLIENTS)
    return (peak(gateway) - resting) / MIB, of_short / MIB


async def eventsourcing_of(house: House) -> Measure:
    """Events a second of one aggregate, read by the peer in its own process."""
    python, url = python_with(*EVENTSOURCING), house.new_database(migrated=False)

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(run_peer, python, "eventsourcing_events", *arguments)

    long = (await run("fill", url))["aggregate"]

    async def select() -> float:
        found: float = (await run("select", url, long))["select"]
        return found

    return select


async def bench(house: House) -> AsyncIterator[Figure]:
    url = house.new_database()
    long, short = await filled(url, EVENTS), await filled(url, FEWER_EVENTS)
    gateway, port = await house.start_gateway(url)
    async with crowd() as readers:

        async def raw() -> float:
            return await asyncio.to_thread(raw_rate, url, long)

        async def raw_first() -> float:
            return await asyncio.to_thread(raw_first_page, url, long)

        limit = "raw read, framed in Python"
        alone, together = Caught(readers, gateway, port), Caught(readers, gateway, port)

        async def one() -> float:
            return EVENTS / await alone.all_of(long, EVENTS)

        engine = create_engine(url)
        state = await state_of(engine, long)
        rate, rates, raw_reads, pages, selects = await in_turns(
            one,
            lambda: together.for_a_while(long, CLIENTS),
            raw,
            lambda: catching_up(engine, state),
            await eventsourcing_of(house),
        )
        await engine.dispose()
        what = f"catch-up of {EVENTS:,} events, 1 client"
        meaning = f"from the connection to the last event; our server took {alone.load}"
        yield Figure(what, "frames/s", rate, limit, raw_reads, Goal("≥", 0.7), meaning)
        peer, meaning = "eventsourcing's Postgres recorder", "over HTTP; theirs: one aggregate, in the same process"
        yield Figure(what, "events/s", rate, peer, selects, Goal("≥", 1.0), meaning)
        what, meaning = f"reading {EVENTS:,} events in process", "page by page, without a gateway; theirs at once"
        yield Figure(what, "events/s", pages, peer, selects, Goal("≥", 1.0), meaning)
        meaning = f"all clients' frames while they are at it; our server took {together.load}"
        yield Figure(f"catch-up, {CLIENTS} clients", "frames/s", rates, limit, raw_reads, Goal("≥", 0.7), meaning)
        first, raw_page_ms = await in_turns(lambda: alone.first_event(long), raw_first, runs=7)
        meaning, against = "from the connection to the first event, one client", f"reading {PAGE:,} events"
        yield Figure("catch-up, first byte", "ms", first, against, raw_page_ms, Goal("≤", 3.0), meaning)
        found = [await peaks(house, readers, url, long, short) for _ in range(RUNS)]
        much, little = (Sample(tuple(values)) for values in zip(*found, strict=True))
        meaning = f"what a new gateway grows by at most while {CLIENTS} clients catch up"
        what, against = f"catch-up of {EVENTS:,} events, memory", f"{FEWER_EVENTS:,} events"
        yield Figure(what, "MB", much, against, little, Goal("≤", 1.2), meaning)
