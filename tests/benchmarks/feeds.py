"""The feed of all streams beside one stream: how long an event takes to a client, and how fast it catches up."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from itertools import chain

import psutil
import psycopg

from app.events import arrays, encoding
from app.events.types import StreamId
from tests.benchmarks.crowd import Crowd, Load, crowd
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample, in_turns, percentile
from tests.benchmarks.histories import EVENTS, filled
from tests.benchmarks.house import House
from tests.benchmarks.relays import Delays, delays, halfway
from tests.benchmarks.servers.serving import EVENT_BYTES, gateway, get
from tests.following import progress

STREAMS = 10_000
AT_ONCE = 50
ONE = "one stream"
_NEW_STREAMS = (
    "INSERT INTO streams (stream_id, kind, head_chain) SELECT id, 'session', sha256(uuid_send(id))"
    " FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) AS new RETURNING stream_id"
)


async def spread(url: str) -> None:
    """As many events as the one stream has, a few in each of ten thousand."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        rows = await (await db.execute(_NEW_STREAMS, (STREAMS,))).fetchall()
        items = [encoding.item(StreamId(row[0]), progress(1, size=EVENT_BYTES)) for row in rows]
        for _ in range(EVENTS // STREAMS):
            for begin in range(0, STREAMS, AT_ONCE):
                await arrays.call_append(db, items[begin : begin + AT_ONCE])
        await db.execute("VACUUM ANALYZE events")


def slowest(runs: list[Delays]) -> Sample:
    """The 99th percentile of each run."""
    return Sample(tuple(percentile(list(chain.from_iterable(run)), 0.99) for run in runs))


async def caught_up(readers: Crowd, server: psutil.Popen, port: int, path: str, load: Load) -> float:
    """Events a second, from the connection to the last one."""
    with load.measured(server, readers.process):
        started = await readers.connect(port, [get(path)])
        _, at = await readers.reach(1 + EVENTS)
    await readers.leave()
    return EVENTS / (at - started)


async def bench(house: House) -> AsyncIterator[Figure]:
    async with AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd())
        stream = await stack.enter_async_context(gateway(house))
        feed = replace(stream, requests=(get("/events?after=latest"),))
        pairs = [(await delays(feed, readers, 1), await delays(stream, readers, 1)) for _ in range(RUNS)]
        of_feed, of_stream = ([pair[side] for pair in pairs] for side in (0, 1))
        meaning = "from the producer's append to the client, one event at a time"
        ours, theirs = halfway(of_feed), halfway(of_stream)
        yield Figure("producer to the feed, p50", "ms", ours, ONE, theirs, Goal("≤", 2.5), meaning)
        ours, theirs = slowest(of_feed), slowest(of_stream)
        yield Figure("producer to the feed, p99", "ms", ours, ONE, theirs, Goal("≤", 3.0), meaning)
    async with crowd() as readers:
        one_url, many_url = house.new_database(), house.new_database()
        stream_id = await filled(one_url, EVENTS)
        await spread(many_url)
        one, one_port = await house.start_gateway(one_url)
        many, many_port = await house.start_gateway(many_url)
        loads = [Load(), Load()]
        rates = await in_turns(
            partial(caught_up, readers, many, many_port, "/events?after=0", loads[0]),
            partial(caught_up, readers, one, one_port, f"/events?session_id={stream_id}&after=0", loads[1]),
        )
        what = f"catch-up of {EVENTS:,} events of {STREAMS:,} streams"
        meaning = f"over HTTP; the feed's server took {loads[0]}, the stream's {loads[1]}"
        yield Figure(what, "events/s", rates[0], ONE, rates[1], Goal("≥", 0.4), meaning)
