"""The epoch rises with a restored database, once, and when an operator says so."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine, transaction
from app.events import encoding
from app.events.append import append as append_items
from app.events.cursors import FeedCursor
from app.events.epochs import bump_epoch, current_epoch, observe_cluster
from app.events.feed import feed_head, read_feed
from tests.following import new_stream, progress

_IS_WAITED_FOR = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'epochs'::regclass AND NOT granted)"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    created = create_engine(database_url)
    yield created
    await created.dispose()


async def test_the_same_cluster_keeps_its_epoch(engine: AsyncEngine) -> None:
    assert [await observe_cluster(engine), await observe_cluster(engine)] == [1, 1]


async def test_several_processes_on_a_restored_dump_raise_it_once(engine: AsyncEngine) -> None:
    async with transaction(engine) as db:  # as a dump of another cluster would have it
        await db.execute(text("UPDATE epochs SET system_identifier = 42"))
    assert await asyncio.gather(*(observe_cluster(engine) for _ in range(4))) == [2, 2, 2, 2]


async def test_an_operator_raises_it_with_a_reason(engine: AsyncEngine) -> None:
    assert await bump_epoch(engine, "failover") == 2
    async with transaction(engine) as db:
        assert await current_epoch(db) == 2
        assert await db.scalar(text("SELECT reason FROM epochs WHERE epoch = 2")) == "failover"
    assert await observe_cluster(engine) == 2


async def test_a_new_epoch_waits_for_what_writes_under_the_old_one(engine: AsyncEngine) -> None:
    """Else an event of the old epoch would appear after readers of the feed had gone on to the new one."""
    stream_id = await new_stream(engine)
    async with engine.connect() as stalled:
        await append_items(stalled, [encoding.item(stream_id, progress(1))])  # and it stands still before its commit
        raising = asyncio.create_task(bump_epoch(engine, "failover"))
        async with engine.connect() as watcher:
            while not await watcher.scalar(text(_IS_WAITED_FOR)):
                assert not raising.done()
        await stalled.commit()
    assert await raising == 2
    async with engine.connect() as db:
        assert (await feed_head(db)).last.epoch == 1
        assert len((await read_feed(db, FeedCursor(), limit=10)).frames) == 1


async def test_a_try_to_raise_the_epoch_keeps_readers_waiting_for_a_moment_only(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    async with engine.connect() as stalled:
        await append_items(stalled, [encoding.item(stream_id, progress(1))])
        raising = asyncio.create_task(bump_epoch(engine, "failover"))
        async with engine.connect() as watcher:
            await watcher.execution_options(isolation_level="AUTOCOMMIT")
            while not await watcher.scalar(text(_IS_WAITED_FOR)):
                assert not raising.done()
            assert await current_epoch(watcher) == 1  # while the transaction stands still
        assert not raising.done()
        await stalled.rollback()
    assert await raising == 2
