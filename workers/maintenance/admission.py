"""Admission: sessions whose turn it is begin, should the process that made room for them not have said so."""

from dataclasses import dataclass

import structlog

from app.sessions.admission import admit_sessions
from app.unit_of_work import Backends
from workers.maintenance.maintainer import Duty

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    backends: Backends

    @property
    def duty(self) -> Duty:
        settings = self.backends.settings
        return Duty("admission", every=settings.rescue_every, at_most=settings.max_active_sessions)

    async def round(self) -> None:
        if admitted := await admit_sessions(self.backends):
            logger.info("admitted", sessions=admitted)
