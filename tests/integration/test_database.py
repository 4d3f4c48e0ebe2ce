"""Connections to Postgres that give no answer."""

import asyncio

import pytest
from sqlalchemy import make_url, text

from app.config import settings
from app.database import DATABASE_AWAY, create_engine
from tests.acceptance.faults.proxy import Proxy


async def test_a_connection_that_died_in_silence_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STELLWERK_STATEMENT_LIMIT", "0.5")
    settings.cache_clear()
    url = make_url(database_url)
    assert url.port is not None
    async with Proxy(url.port) as proxy:
        engine = create_engine(url.set(port=proxy.port).render_as_string(hide_password=False))
        async with engine.connect() as db:
            await db.execute(text("SELECT 1"))
        proxy.forget()
        with pytest.raises(DATABASE_AWAY, match="did not answer"):
            async with asyncio.timeout(20), engine.connect() as db:
                await db.execute(text("SELECT 1"))
        async with engine.connect() as db:
            assert await db.scalar(text("SELECT 2")) == 2
        await engine.dispose()
    monkeypatch.undo()
    settings.cache_clear()
