"""The epoch rises with a restored database, once, and when an operator says so."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine, transaction
from app.events.epochs import bump_epoch, current_epoch, observe_cluster


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
