"""The rescuer: reads from Postgres what is owed and rings again. Every worker process of Celery has one.

Nothing but latency depends on Celery's messages: a step that is queued, due and unclaimed is sent again, an
expired lease becomes the next attempt, and a session that nothing moves is advanced.
"""

from dataclasses import dataclass

import structlog

from app import metrics
from app.database import DATABASE_AWAY, is_lost, transaction
from app.errors import StellwerkError
from app.sessions import attempts, overdue
from app.sessions.model import StepRow
from app.sessions.overdue import Served
from app.unit_of_work import Backends
from workers.maintenance.maintainer import Duty

logger = structlog.get_logger(__name__)

BATCH = 100
_LOST, _RUNG_AGAIN, _ADVANCED = (metrics.rescues.labels(kind) for kind in ("lost", "rung_again", "advanced"))


@dataclass(frozen=True, slots=True)
class Rescuer:
    backends: Backends
    served: Served

    @property
    def duty(self) -> Duty:
        settings = self.backends.settings
        return Duty("rescuer", every=settings.rescue_every, at_most=BATCH, rests=settings.lease)

    async def round(self) -> None:
        wait, limit = self.backends.settings.ring_again_after, self.duty.at_most
        async with transaction(self.backends.engine) as db:
            expired = await overdue.expired_leases(db, limit=limit)
            unclaimed = await overdue.take_unclaimed(db, served=self.served, ring_again_after=wait, limit=limit)
            owed = await overdue.take_unadvanced(db, served=self.served, ring_again_after=wait, limit=limit)
        _RUNG_AGAIN.inc(len(unclaimed))
        _ADVANCED.inc(len(owed))
        # The bells first: taking a step from its worker may wait for the stream's lock.
        for due in unclaimed:
            self.backends.dispatch.run_step(due.session_id, due.step, due.attempt, queue=due.queue, agent=due.agent)
        for session_id in owed:
            self.backends.dispatch.advance_session(session_id)
        for row in expired:
            await self._lose(row)
        if expired or unclaimed or owed:
            logger.info("rescued", lost=len(expired), rung_again=len(unclaimed), advanced=len(owed))

    async def _lose(self, row: StepRow) -> None:
        try:
            if await attempts.lose_step(self.backends, row):
                _LOST.inc()
        except (StellwerkError, *DATABASE_AWAY) as error:
            if is_lost(error):
                raise  # the workers of the other expired leases could not renew them, either
            # the next round tries again
            logger.warning("step not rescued", session=str(row.session_id), step=row.step, error=str(error))
