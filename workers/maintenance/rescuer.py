"""The rescuer: reads from Postgres what is owed and rings again. Every worker process has one.

Nothing but latency depends on Celery's messages: a step that is queued, due and unclaimed is sent again, an
expired lease becomes the next attempt, and a session that nothing moves is advanced.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.cancelling import asked_to_end
from app.config import Settings
from app.database import DATABASE_AWAY, transaction
from app.errors import StellwerkError
from app.sessions import attempts, overdue
from app.sessions.admission import admit_sessions
from app.sessions.overdue import Served
from app.unit_of_work import Backends

logger = structlog.get_logger(__name__)

BATCH = 100
REGISTER_EVERY_SECONDS = 30.0


@dataclass
class Rescuer:
    backends: Backends
    served: Served
    settings: Settings
    register: Callable[[], Awaitable[None]]
    """Tells that this worker still serves its workflows."""
    _registered_at: float = float("-inf")

    async def run(self) -> None:
        while not asked_to_end():
            try:
                await self._register()
                await self.rescue()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("the rescuer waits for the database", error=str(error).splitlines()[0])
                await self._wait_for_database()
            await asyncio.sleep(self.settings.rescue_every.total_seconds())

    async def _register(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._registered_at >= REGISTER_EVERY_SECONDS:
            await self.register()
            self._registered_at = now

    async def _wait_for_database(self) -> None:
        """While the database was away nobody could renew: after it came back everybody gets one lease's time."""
        while not asked_to_end():
            await asyncio.sleep(self.settings.rescue_every.total_seconds())
            try:
                async with transaction(self.backends.engine) as db:
                    await overdue.database_now(db)
            except (SQLAlchemyError, OSError):
                continue
            logger.info("the database is back; rescuing starts after one lease")
            await asyncio.sleep(self.settings.lease.total_seconds())
            return

    async def rescue(self) -> None:
        """One round."""
        async with transaction(self.backends.engine) as db:
            expired = await overdue.expired_leases(db, limit=BATCH)
            wait = self.settings.ring_again_after
            unclaimed = await overdue.take_unclaimed(db, served=self.served, ring_again_after=wait, limit=BATCH)
            owed = await overdue.take_unadvanced(db, served=self.served, ring_again_after=wait, limit=BATCH)
        # The bells first: taking a step from its worker may wait for the stream's lock.
        for due in unclaimed:
            self.backends.dispatch.run_step(due.session_id, due.step, due.attempt, queue=due.queue, agent=due.agent)
        for session_id in owed:
            self.backends.dispatch.advance_session(session_id)
        for row in expired:
            try:
                await attempts.lose_step(self.backends, row)
            except (StellwerkError, *DATABASE_AWAY) as error:  # the next round tries again
                logger.warning("step not rescued", session=str(row.session_id), step=row.step, error=str(error))
        admitted = await admit_sessions(self.backends)
        if expired or unclaimed or owed or admitted:
            logger.info("rescued", lost=len(expired), rung_again=len(unclaimed), advanced=len(owed), admitted=admitted)
