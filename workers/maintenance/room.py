"""The room of the maintainers: runs the rounds of all that a worker process has, each by its own clock.

What a maintainer raises ends its round and nothing else. That the database is away, they learn from each other: the
first one that notices asks for it, and the others do not begin a round before it is back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.cancelling import asked_to_end
from app.database import is_away, is_lost, transaction, try_exclusive
from app.errors import describe
from app.sessions import overdue
from app.unit_of_work import Backends
from workers.maintenance.maintainer import Duty, Maintainer

logger = structlog.get_logger(__name__)

LONGEST_EXCLUSIVE_ROUND = timedelta(minutes=5)
"""A round that holds a lock against the rest of the deployment is given up after it."""


@dataclass
class Room:
    backends: Backends
    maintainers: Sequence[Maintainer]
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one that noticed that the database is away, until it is back."""
    _came_back: float = float("-inf")
    """When the database did, on the event loop's clock."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of exclusive rounds: each keeps a connection, and together they must not keep all."""

    async def run(self) -> None:
        """Ends when it is cancelled, and never otherwise."""
        async with asyncio.TaskGroup() as group:
            for maintainer in self.maintainers:
                group.create_task(self._keep(maintainer), name=maintainer.duty.name)

    async def _keep(self, maintainer: Maintainer) -> None:
        duty = maintainer.duty
        while not asked_to_end():
            try:
                await self._rest(duty)
                await self._round(maintainer)
            except asyncio.CancelledError as error:
                if asked_to_end():
                    raise
                # Something in the round cancelled itself; it would end the maintainer without a word.
                logger.warning("a round failed", maintainer=duty.name, error="cancelled from inside", exc_info=error)
            except Exception as error:
                if is_lost(error):
                    await self._wait_for_database(duty, error)
                else:
                    unexpected = None if is_away(error) else error
                    logger.warning("a round failed", maintainer=duty.name, error=describe(error), exc_info=unexpected)
            await asyncio.sleep(duty.every.total_seconds())

    async def _round(self, maintainer: Maintainer) -> None:
        duty = maintainer.duty
        if not duty.is_exclusive:
            await maintainer.round()
            return
        async with self._turn, transaction(self.backends.engine) as db:
            # A process that stands still in its round keeps the others out twice as long, and then no longer.
            if await try_exclusive(db, duty.name, lasts=2 * LONGEST_EXCLUSIVE_ROUND):
                async with asyncio.timeout(LONGEST_EXCLUSIVE_ROUND.total_seconds()):
                    await maintainer.round()

    async def _rest(self, duty: Duty) -> None:
        """Waits after the database was away: meanwhile no worker could renew a lease, and each gets the time for it."""
        while True:
            async with self._asking:
                left = self._came_back + duty.rests.total_seconds() - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _wait_for_database(self, duty: Duty, error: Exception) -> None:
        if self._asking.locked():
            return  # another maintainer asks for it
        async with self._asking:
            logger.warning("maintenance waits for the database", maintainer=duty.name, error=describe(error))
            while not asked_to_end():
                await asyncio.sleep(self.backends.settings.rescue_every.total_seconds())
                try:
                    async with transaction(self.backends.engine) as db:
                        await overdue.database_now(db)
                except (SQLAlchemyError, OSError):
                    continue
                break
            self._came_back = asyncio.get_running_loop().time()
            logger.info("the database is back; rescuing starts after one lease")
