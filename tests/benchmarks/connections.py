"""Connections: a thousand that come back at once, what an idle one costs, how fast they open.

Ours resolve the stream and authenticate; the others do neither.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from tests.benchmarks.crowd import Crowd, Load, crowd
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample, in_turns
from tests.benchmarks.house import House
from tests.benchmarks.servers.serving import Server, cursors, gateway, nchan

CLIENTS = 1000
MISSED = 50
WARM_UP_CLIENTS = 100
SETTLE_SECONDS = 0.5


async def storm(server: Server, readers: Crowd, load: Load) -> float:
    """Seconds from the first connection until the last client has all that it missed."""
    await readers.connect(server.port, server.requests_of(CLIENTS))
    await readers.reach(1)
    server.publish(MISSED)
    await readers.reach(1 + MISSED)
    await readers.leave()
    await asyncio.sleep(SETTLE_SECONDS)
    with load.measured(server.process, readers.process):
        started = await readers.connect(server.port, [server.returning(MISSED)] * CLIENTS)
        _, at = await readers.reach(1 + MISSED)
    await readers.leave()
    return at - started


async def opened(server: Server, readers: Crowd, load: Load) -> tuple[float, float]:
    """Connections a second, and the kilobytes that each of them takes while nothing happens."""
    await readers.connect(server.port, server.requests_of(WARM_UP_CLIENTS))
    await readers.reach(1)
    await readers.leave()
    await asyncio.sleep(SETTLE_SECONDS)
    before = server.process.memory_info().rss
    with load.measured(server.process, readers.process):
        started = await readers.connect(server.port, server.requests_of(CLIENTS))
        _, at = await readers.reach(1)
    await asyncio.sleep(SETTLE_SECONDS)
    taken = server.process.memory_info().rss - before
    await readers.leave()
    return CLIENTS / (at - started), taken / CLIENTS / 1024


async def bench(house: House) -> AsyncIterator[Figure]:
    async with AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd())
        load, their_load = Load(), Load()
        if c := await stack.enter_async_context(nchan(house, keep=MISSED)):
            ours = await stack.enter_async_context(gateway(house))
            back, back_at_c = await in_turns(lambda: storm(ours, readers, load), lambda: storm(c, readers, their_load))
            meaning = f"{CLIENTS:,} clients return at once, {MISSED} missed events each; our server took {load}"
            yield Figure("reconnect storm", "s", back, c.name, back_at_c, Goal("≤", 1.0), meaning)
        load, their_load = Load(), Load()
        found, found_bare = list[tuple[float, float]](), list[tuple[float, float]]()
        for _ in range(RUNS):  # in new processes: what one run freed would hide what the next one takes
            async with gateway(house) as ours:
                found.append(await opened(ours, readers, load))
            async with cursors(house) as bare:
                found_bare.append(await opened(bare, readers, their_load))
        (rate, idle), (bare_rate, bare_idle) = _samples(found), _samples(found_bare)
        against = "a bare ASGI endpoint"
        meaning = "resident memory of the server"
        yield Figure("an idle client", "KB", idle, against, bare_idle, Goal("≤", 1.3), meaning)
        meaning = f"{CLIENTS:,} at once, each answered with a first frame; our server took {load}"
        yield Figure("connections opened", "1/s", rate, against, bare_rate, Goal("≥", 0.6), meaning)


def _samples(runs: list[tuple[float, float]]) -> list[Sample]:
    return [Sample(tuple(values)) for values in zip(*runs, strict=True)]
