"""Connections to Postgres that give no answer, and statements that are transactions by themselves."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

from app.database import DATABASE_AWAY, DriverPool, create_engine, is_away
from tests.acceptance.faults.proxy import Proxy
from tests.roles import as_app


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[DriverPool]:
    made = DriverPool(as_app(database_url), size=2)
    yield made
    await made.close()


async def backend(pool: DriverPool) -> int:
    """The process that answers."""
    ((pid,),) = await pool.execute("SELECT pg_backend_pid()", ())
    assert isinstance(pid, int)
    return pid


async def test_statements_share_as_many_connections_as_there_may_be(pool: DriverPool) -> None:
    rows = await asyncio.gather(
        *(pool.execute("SELECT pg_backend_pid(), %b::int FROM pg_sleep(0.05)", (n,)) for n in range(6))
    )
    assert [number for ((_, number),) in rows] == [*range(6)]
    assert len({pid for ((pid, _),) in rows}) == 2


async def test_a_statement_that_fails_leaves_its_connection_as_it_was(pool: DriverPool) -> None:
    pid = await backend(pool)
    with pytest.raises(exc.DBAPIError, match="division by zero") as failed:
        await pool.execute("SELECT 1 / %b::int", (0,))
    assert not is_away(failed.value)
    assert await backend(pool) == pid


async def test_a_connection_that_was_cut_is_replaced(pool: DriverPool, database_url: str) -> None:
    pid = await backend(pool)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as db:
        await db.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(exc.DBAPIError) as failed:
        await backend(pool)
    assert is_away(failed.value)
    assert await backend(pool) != pid


async def test_a_statement_that_is_cancelled_holds_up_no_other(pool: DriverPool) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.execute("SELECT pg_sleep(60)", ())
    async with asyncio.timeout(20):
        await asyncio.gather(backend(pool), backend(pool))


async def test_a_connection_that_died_in_silence_is_given_up(database_url: str) -> None:
    url = make_url(database_url)
    assert url.port is not None
    async with Proxy(url.port) as proxy:
        address = url.set(port=proxy.port).render_as_string(hide_password=False)
        engine = create_engine(address, limit=timedelta(seconds=0.5))
        async with engine.connect() as db:
            await db.execute(text("SELECT 1"))
        proxy.forget()
        with pytest.raises(DATABASE_AWAY, match="did not answer"):
            async with asyncio.timeout(20), engine.connect() as db:
                await db.execute(text("SELECT 1"))
        async with engine.connect() as db:
            assert await db.scalar(text("SELECT 2")) == 2
        await engine.dispose()
