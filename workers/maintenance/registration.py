"""Registration: a worker process tells that it lives, which workflows it serves and which it refuses, to its end."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import version

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.config import PROVIDER_KEYS
from app.database import transaction
from app.errors import describe
from app.events.epochs import observe_cluster
from app.roles import warn_of_power
from app.sessions import overdue, worker_repository
from app.sessions.model import RefusedWorkflow, RegisteredWorkflow
from app.unit_of_work import Backends
from workers.graph.loading import LoadedWorkflow
from workers.maintenance.maintainer import Duty

logger = structlog.get_logger(__name__)

EVERY = timedelta(seconds=30)
RETRY_SECONDS = 1.0
END_SECONDS = 1.0
"""The process' end waits no longer for the database: a row that stays is out of date after two minutes."""


@dataclass(frozen=True, slots=True)
class Registration:
    backends: Backends
    served: Mapping[tuple[str, str], LoadedWorkflow]
    worker: str
    refused: Sequence[RefusedWorkflow] = ()

    @property
    def duty(self) -> Duty:
        return Duty("registration", every=EVERY, at_most=len(self.served))

    async def begin(self) -> None:
        """The process starts: what waited for its versions is due at once. Waits for a database that is not there."""
        while True:
            try:
                await observe_cluster(self.backends.engine)
                await warn_of_power(self.backends.engine)
                await self._register(starts=True)
                async with transaction(self.backends.engine) as db:
                    await overdue.wake_waiting(db, served=tuple(self.served))
            except (SQLAlchemyError, OSError) as error:
                logger.warning("waiting for the database", error=describe(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._say()
                return

    def _say(self) -> None:
        for refused in self._told():
            logger.error(str(refused))
        if self.served:
            logger.info("serving", workflows=[f"{name} ({v})" for name, v in self.served])
        else:
            logger.error("this worker serves nothing; mend what it was given (STELLWERK_WORKFLOWS), and start it again")

    def _told(self) -> list[RefusedWorkflow]:
        """Without secrets: a reason may hold what a module's own error said."""
        redactor = self.backends.secrecy.redactor
        return [replace(refused, reason=redactor.text(refused.reason)) for refused in self.refused]

    async def round(self) -> None:
        await self._register()

    async def end(self) -> None:
        """The process shuts down in order; call it after the last round."""
        try:
            async with asyncio.timeout(END_SECONDS), transaction(self.backends.engine) as db:
                await worker_repository.remove_worker(db, self.worker)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("the worker's row stays", error=describe(error))

    async def _register(self, *, starts: bool = False) -> None:
        langgraph_version = version("langgraph")
        workflows = [
            RegisteredWorkflow(w.name, w.version, langgraph_version, sorted(w.input_fields))
            for w in self.served.values()
        ]
        async with transaction(self.backends.engine) as db:
            await worker_repository.register_workflows(db, workflows)
            served = sorted({w.name for w in self.served.values()})
            await worker_repository.register_worker(
                db,
                self.worker,
                starts=starts,
                served=served,
                refused=self._told(),
                secrets=self.backends.secrecy.secrets.fingerprints(PROVIDER_KEYS),
            )
            await worker_repository.prune_workers(db)
