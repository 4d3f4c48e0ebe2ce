"""Fan-out: one hot stream to a thousand clients, in bursts and one event at a time; a thousand streams.

In a burst at most so many events are outstanding: the producer makes the next one when the slowest client has
that many fewer. Whatever enters our gateway is durable first: group commit, Postgres, Redis. The clients are one
epoll loop in a process of its own that only counts ends of frames; what it and the server took of a core is told
with each figure, so that one sees which of them was at its limit.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial

from tests.benchmarks.crowd import Crowd, Load, crowd
from tests.benchmarks.figure import Figure, Goal, Sample, in_turns
from tests.benchmarks.house import House
from tests.benchmarks.servers.serving import Server, cursors, gateway, naive, nchan

CLIENTS = 1000
BURSTS = {8: 4.0, 64: 10.0}
"""Events outstanding, and how many times nchan's frames are the goal."""
SECONDS = 2.5
WARM_UP_SECONDS = 0.7
STREAMS = 1000
ON_THE_WAY = 2
"""Events outstanding in each of the thousand streams."""


async def burst(server: Server, readers: Crowd, outstanding: int, load: Load) -> float:
    """Frames a second of all clients together."""
    await readers.connect(server.port, server.requests_of(CLIENTS))
    await readers.reach(1)
    sent = slowest = 1  # the greeting

    async def run(seconds: float) -> float:
        nonlocal slowest, sent
        (before, started), at = await readers.reach(slowest), 0.0
        while at - started < seconds:
            server.publish(outstanding - (sent - slowest))
            sent = slowest + outstanding
            slowest, at = await readers.reach(slowest + 1)
        return (slowest - before) * CLIENTS / (at - started)

    await run(WARM_UP_SECONDS)
    with load.measured(server.process, readers.process):
        rate = await run(SECONDS)
    await readers.reach(sent)
    await readers.leave()
    return rate


async def bursts(readers: Crowd, servers: Sequence[Server], outstanding: int) -> tuple[list[Sample], list[Load]]:
    loads = [Load() for _ in servers]
    measures = [partial(burst, server, readers, outstanding, load) for server, load in zip(servers, loads, strict=True)]
    return await in_turns(*measures), loads


async def bench(house: House) -> AsyncIterator[Figure]:
    async with AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd())
        ours = await stack.enter_async_context(gateway(house))
        bare = await stack.enter_async_context(cursors(house))
        c = await stack.enter_async_context(nchan(house))
        servers = [ours, bare, *([c] if c else [])]
        for outstanding, times in BURSTS.items():
            samples, loads = await bursts(readers, servers, outstanding)
            what = f"fan-out to {CLIENTS:,} clients, {outstanding} events outstanding"
            rates = ", ".join(
                f"{server.name} {sample.median:,.0f} (server {load})"
                for server, sample, load in zip(servers, samples, loads, strict=True)
            )
            compared = [
                Figure(what, "frames/s", samples[0], server.name, sample, goal, f"all clients' frames: {rates}")
                for server, sample, goal in zip(
                    servers[1:], samples[1:], (Goal("≥", 0.8), Goal("≥", times)), strict=False
                )
            ]
            # One of the two goals is enough.
            for figure in [figure for figure in compared if figure.is_met][:1] or compared:
                yield figure
    async with AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd())
        ours = await stack.enter_async_context(gateway(house, STREAMS))
        usual = await stack.enter_async_context(naive(house, STREAMS))
        (sample, their_sample), loads = await bursts(readers, [ours, usual], ON_THE_WAY)
        meaning = f"{ON_THE_WAY} events outstanding in each stream; our server took {loads[0]}; theirs {loads[1]}"
        what = f"{STREAMS:,} streams with one client each"
        yield Figure(what, "frames/s", sample, usual.name, their_sample, Goal("≥", 2.0), meaning)
        meaning = "the server alone: on two cores, appending to Postgres takes from ours what they do not do"
        each, their_each = (
            Sample(tuple(rate / share for rate, share in zip(of.values, load.server, strict=True)))
            for of, load in zip((sample, their_sample), loads, strict=True)
        )
        yield Figure(what, "frames/CPU s", each, usual.name, their_each, Goal("≥", 2.0), meaning)
