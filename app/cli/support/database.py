"""An engine, for commands that read Postgres themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


@asynccontextmanager
async def engine_of(address: str) -> "AsyncIterator[AsyncEngine]":
    """One connection at a time."""
    # Imported here: SQLAlchemy takes a while, and --help needs none of it.
    from app.database import create_engine  # noqa: PLC0415

    engine = create_engine(address, pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()
