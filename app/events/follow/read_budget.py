"""What catching up may take of a process: some of the database's connections, and some pages read ahead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

MAX_AHEAD = 16
"""Pages that are read, or held in memory, before their reader asks for them."""


class ReadBudget:
    def __init__(self, engine: AsyncEngine, *, at_once: int) -> None:
        # Every read is one statement: without BEGIN and COMMIT it is one round trip, too.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._room = asyncio.Semaphore(at_once)
        # Weak: a page counts as long as its reader holds it.
        self._ahead = WeakSet[asyncio.Task[Any]]()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Waits until there is room."""
        async with self._room, self._engine.connect() as db:
            yield db

    @property
    def may_go_ahead(self) -> bool:
        """Says whether the means are free, or others need them more."""
        return not self._room.locked() and len(self._ahead) < MAX_AHEAD

    def goes_ahead(self, task: "asyncio.Task[Any]") -> None:
        self._ahead.add(task)

    async def close(self) -> None:
        """Waits for what is being read ahead."""
        await asyncio.gather(*self._ahead, return_exceptions=True)
