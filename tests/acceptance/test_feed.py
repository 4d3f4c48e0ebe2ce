"""The feed of a real deployment: it survives what may happen to it, and ten thousand streams are one connection."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import MIB
from app.database import transaction
from app.events import encoding
from app.events.append import append as append_items
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import StreamId
from tests.acceptance.faults.deployment import TOKEN, Deployment, deployed
from tests.acceptance.faults.feed import Feed
from tests.acceptance.faults.history import read_history
from tests.acceptance.faults.readers import fingerprint
from tests.following import append, engine_of, progress

GROWTH_BYTES = 32 * MIB
"""More than the gateway keeps for the feed: a ring of 4 MiB, some pages, what the allocator holds back."""


async def new_streams(engine: AsyncEngine, count: int) -> list[StreamId]:
    async with transaction(engine) as db:
        rows = await db.execute(
            text(
                "INSERT INTO streams (stream_id, kind, head_chain) SELECT id, 'session', sha256(uuid_send(id))"
                " FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, :count)) AS new RETURNING stream_id"
            ),
            {"count": count},
        )
        return [StreamId(row[0]) for row in rows]


@asynccontextmanager
async def reading(*feeds: Feed) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def came(feed: Feed, events: int) -> None:
    """Until the feed has so many events."""
    while feed.events < events:
        assert not feed.faults, feed.faults
        await asyncio.sleep(0.02)


def check(deployment: Deployment, feeds: list[Feed]) -> None:
    history = read_history(deployment.postgres.superuser_url)
    for feed in feeds:
        assert not feed.faults
        for stream_id, rows in history.rows.items():
            assert feed.seen[stream_id] == [fingerprint(row.wire()) for row in rows]


class Producers:
    """Append to streams of all sizes, and count what they have committed."""

    def __init__(self, engine: AsyncEngine, push: Push, streams: list[StreamId]) -> None:
        self._engine, self._push, self._streams = engine, push, streams
        self.events = 0

    async def run(self, seed: int, transactions: int) -> None:
        chance = random.Random(seed)
        for number in range(transactions):
            async with transaction(self._engine) as db:
                items = [
                    encoding.item(stream_id, progress(number, size=chance.choice([0, 0, 3000])))
                    for stream_id in chance.sample(self._streams, chance.choice([1, 1, 5]))
                ]
                events = await append_items(db, items)
            self._push.publish(events)
            self.events += len(events)

    async def all(self, transactions: int) -> None:
        await asyncio.gather(*(self.run(self.events + seed, transactions) for seed in range(4)))


@pytest.mark.timeout(240)
async def test_two_hundred_streams_through_everything() -> None:
    """A transaction stands still; a gateway is killed; Redis is emptied and throws all out. Readers come back."""
    chance = random.Random(1)
    async with deployed(workers=0, gateways=2) as deployment, engine_of(deployment.postgres.superuser_url) as engine:
        push, streams = Push(deployment.valkey.url, SealKeys(engine)), await new_streams(engine, 200)
        stalled_ones, producers = streams[:2], Producers(engine, push, streams[2:])
        ports = [door.port for door in deployment.doors]
        feeds = [Feed(ports, TOKEN, random.Random(chance.random())) for _ in range(3)]
        async with reading(*feeds):
            await producers.all(25)
            await came(feeds[0], producers.events)
            async with engine.connect() as stalled:
                await append_items(stalled, [encoding.item(stream_id, progress(0)) for stream_id in stalled_ones])
                producing = asyncio.create_task(producers.all(60))
                await deployment.gateways[0].kill()
                async with Redis.from_url(deployment.valkey.url) as redis:
                    await redis.flushall()
                    for kind in ("normal", "pubsub"):
                        await redis.client_kill_filter(_type=kind, skipme=True)
                await deployment.gateways[0].respawn()
                with suppress(ConnectionError):
                    await producing
                await stalled.commit()
            await deployment.gateways[1].kill()
            await deployment.gateways[1].respawn()
            await producers.all(25)
            async with asyncio.timeout(60):
                for feed in feeds:
                    await came(feed, producers.events + len(stalled_ones))
        check(deployment, feeds)
        assert all(feed.reconnections > 2 for feed in feeds)
        await push.close()


@pytest.mark.timeout(240)
async def test_ten_thousand_streams_are_one_connection_and_flat_memory() -> None:
    async with deployed(workers=0, gateways=1) as deployment, engine_of(deployment.postgres.superuser_url) as engine:
        push, streams = Push(deployment.valkey.url, SealKeys(engine)), await new_streams(engine, 10_000)

        async def fill(size: int) -> None:
            for begin in range(0, len(streams), 50):
                async with transaction(engine) as db:
                    some = streams[begin : begin + 50]
                    events = await append_items(db, [encoding.item(s, progress(begin, size=size)) for s in some])
                push.publish(events)

        def feed() -> Feed:
            return Feed([deployment.doors[0].port], TOKEN, random.Random(1), patience=1_000_000)

        await append(engine, streams[0], range(2000), size=2000)
        warm = feed()
        async with reading(warm):
            await came(warm, 2000)
        before, _ = deployment.gateways[0].usage
        for _ in range(3):
            await fill(2000)
        whole = feed()
        async with reading(whole):
            await came(whole, 32_000)
            caught_up, _ = deployment.gateways[0].usage
            await fill(0)
            await came(whole, 42_000)
            live, _ = deployment.gateways[0].usage
        assert whole.reconnections == 0
        check(deployment, [whole])
        assert caught_up - before < GROWTH_BYTES and live - before < GROWTH_BYTES, (before, caught_up, live)
        await push.close()
