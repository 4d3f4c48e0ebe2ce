"""How long an event takes from its producer to a client, one event at a time.

Ours becomes durable on the way: append, Postgres, Redis, gateway. The bare relay is Redis and an ASGI server that
keeps nothing. The clock runs from just before the event is handed over until the client has read its frame.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from statistics import median

from tests.benchmarks.crowd import Crowd, crowd
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample
from tests.benchmarks.house import House
from tests.benchmarks.servers.serving import Server, cursors, gateway, nchan

CLIENTS = 1000
PAUSES = {1: (0.02, 80), CLIENTS: (0.3, 8)}
"""For so many clients: seconds between two events, and how many events."""

Delays = list[list[float]]
"""For each event the milliseconds to each client, in the order of arrival."""


async def delays(server: Server, readers: Crowd, clients: int) -> Delays:
    pause, events = PAUSES[clients]
    await readers.connect(server.port, server.requests_of(clients), timed=True)
    await readers.reach(1)
    published = []
    for number in range(events + 1):
        await asyncio.sleep(pause)
        published.append(time.monotonic())
        server.publish(1)
        await readers.reach(2 + number)
    arrivals = await readers.arrivals()
    await readers.leave()
    of_each = [[(at - then) * 1000 for at in arrivals[2 + number]] for number, then in enumerate(published)]
    return of_each[1:]  # the first one warmed up


def halfway(runs: Iterable[Delays]) -> Sample:
    return Sample(tuple(median(chain.from_iterable(run)) for run in runs))


def until_the_last(runs: Iterable[Delays]) -> Sample:
    return Sample(tuple(median(max(event) for event in run) for run in runs))


async def bench(house: House) -> AsyncIterator[Figure]:
    async with AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd())
        ours = await stack.enter_async_context(gateway(house))
        bare = await stack.enter_async_context(cursors(house))
        c = await stack.enter_async_context(nchan(house))

        async def in_turns(clients: int, servers: Sequence[Server]) -> list[list[Delays]]:
            runs = [[await delays(server, readers, clients) for server in servers] for _ in range(RUNS)]
            return [list(of_server) for of_server in zip(*runs, strict=True)]

        relay = "a Redis-to-ASGI relay without Postgres"
        meaning = "p50, from the producer's append to the client"
        one, one_bare = await in_turns(1, [ours, bare])
        yield Figure("producer to 1 client", "ms", halfway(one), relay, halfway(one_bare), Goal("≤", 2.0), meaning)
        many, many_bare, *of_c = await in_turns(CLIENTS, [ours, bare, *([c] if c else [])])
        what = f"producer to {CLIENTS:,} clients"
        yield Figure(what, "ms", halfway(many), relay, halfway(many_bare), Goal("≤", 2.0), meaning)
        if c:
            last, last_of_c, last_bare = map(until_the_last, (many, of_c[0], many_bare))
            meaning = f"three a second, until the last of {CLIENTS:,} clients has it; {relay} {last_bare.median:.1f} ms"
            yield Figure("one event at a time", "ms", last, c.name, last_of_c, Goal("≤", 1.2), meaning)
