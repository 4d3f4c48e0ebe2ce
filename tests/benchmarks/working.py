"""Sessions of the benches' workflows on a real worker process, and what their logs say of their steps."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.config import Settings
from app.database import DriverPool, create_engine, transaction
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import TERMINAL
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import service, worker_repository
from app.sessions.dispatch import Dispatch
from app.sessions.model import NewSession, RegisteredWorkflow
from app.unit_of_work import Backends
from tests.benchmarks.house import House, end
from workers.graph.loading import load_workflows
from workers.steps.advancer import Advancer
from workers.steps.fold_threads import FoldThreads
from workers.steps.snapshots import Snapshots
from workers.workspace.repository import Workspaces

WORKFLOWS = "tests.benchmarks.workflows"
WORKER: tuple[str | Path, ...] = (
    *(sys.executable, "-m", "celery", "-A", "workers.main", "worker"),
    *("--without-gossip", "--without-mingle"),
)
"""As `stellwerk up` starts it."""
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When its events were written, by the database's clock."""

    queued: datetime
    running: datetime
    succeeded: datetime

    @property
    def start_seconds(self) -> float:
        return (self.running - self.queued).total_seconds()


@dataclass(frozen=True, slots=True)
class Client:
    """Does what the gateway does, without HTTP."""

    backends: Backends

    async def create(self, workflow: str, **graph_input: Any) -> SessionId:
        new = NewSession(task="bench", workflow=workflow, input=graph_input)
        view, _ = await service.create_session(self.backends, new, principal=OWNER)
        return view.session_id

    async def run(self, workflow: str, **graph_input: Any) -> SessionId:
        """Returns when the session has succeeded."""
        session_id = await self.create(workflow, **graph_input)
        await self.ended(session_id)
        return session_id

    async def ended(self, *sessions: SessionId) -> None:
        """Looks rarely: what is measured stands in the log."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left := set(await self._statuses(sessions)) - {"succeeded"}:
                if unfit := left & TERMINAL:
                    raise AssertionError(f"sessions of the bench have {', '.join(unfit)}")
                await asyncio.sleep(0.2)

    async def _statuses(self, sessions: tuple[SessionId, ...]) -> list[str]:
        async with transaction(self.backends.engine) as db:
            query = text("SELECT status FROM sessions WHERE session_id = ANY(:ids)")
            return list(await db.scalars(query, {"ids": list(sessions)}))

    async def step_times(self, session_id: SessionId) -> list[StepTimes]:
        """In the order of the steps, none of which was tried twice."""
        query = text(
            "SELECT max(ts) FILTER (WHERE data ->> 'status' = 'queued'),"
            " max(ts) FILTER (WHERE data ->> 'status' = 'running'),"
            " max(ts) FILTER (WHERE data ->> 'status' = 'succeeded')"
            " FROM events WHERE stream_id = :id AND t = 'step_event' GROUP BY step ORDER BY step"
        )
        async with transaction(self.backends.engine) as db:
            return [StepTimes(*row) for row in await db.execute(query, {"id": session_id})]

    async def served(self, workflow: str) -> None:
        """Waits until a worker serves it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with transaction(self.backends.engine) as db:
                    if await worker_repository.newest_workflow(db, workflow):
                        return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def client_of(house: House, database_url: str) -> AsyncIterator[Client]:
    engine = create_engine(database_url)
    pool = DriverPool(database_url)
    push, dispatch = Push(house.valkey.url, SealKeys(engine)), Dispatch(house.valkey.url)
    try:
        yield Client(Backends(Settings(), engine, pool, push, dispatch))
    finally:
        dispatch.close()
        await push.close()
        await pool.close()
        await engine.dispose()


@asynccontextmanager
async def working(house: House) -> AsyncIterator[Client]:
    """A client of one worker process that has run a session already, on a database of its own."""
    url = house.new_database()
    process = await house.start(WORKER, environment=house.environment(url, WORKFLOWS=WORKFLOWS), name="worker")
    try:
        async with client_of(house, url) as client:
            await client.served("chain")
            await client.run("chain", left=20)
            yield client
    finally:
        await asyncio.to_thread(end, process)


class Local:
    """A workflow of the benches, served by this process: a worker's fold without a worker."""

    def __init__(self, client: Client, name: str) -> None:
        self._engine = client.backends.engine
        self._workflow = load_workflows([WORKFLOWS]).served[name]
        served = {(name, self._workflow.version): self._workflow}
        workspaces, folds = Workspaces.configured(Settings()), FoldThreads(Settings().fold_time_limit)
        snapshots = Snapshots(client.backends, folds)
        self.advancer = Advancer(client.backends, served, workspaces, snapshots, folds)

    async def register(self) -> None:
        """Sessions of the workflow can be created from now on."""
        workflow = self._workflow
        known = RegisteredWorkflow(workflow.name, workflow.version, "bench", sorted(workflow.input_fields))
        async with transaction(self._engine) as db:
            await worker_repository.register_workflows(db, [known])
