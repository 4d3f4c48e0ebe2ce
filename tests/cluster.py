"""Real worker processes on the tests' servers, and a client of the sessions' service beside them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from app.config import Settings
from app.database import DriverPool, create_engine, transaction
from app.events import chain, read
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import EVENT, TERMINAL
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import service, worker_repository
from app.sessions.dispatch import Dispatch
from app.sessions.model import NewSession, SessionView
from app.sessions.verifying import verify
from app.unit_of_work import Backends
from tests.processes import is_alive
from tests.roles import as_app
from workers.process.rebuild import rebuild

QUICK = {
    "STELLWERK_LEASE": "4",
    "STELLWERK_HEARTBEAT_STEPS": "1",
    "STELLWERK_RESCUE_EVERY": "0.3",
    "STELLWERK_RING_AGAIN_AFTER": "2",
    "STELLWERK_RETRY_DELAY": "0.2",
    "STELLWERK_LOG_LEVEL": "info",
}
PATIENCE_SECONDS = 60.0
OF_TOMORROW = {"t": "weather_event", "sky": "☁️", "step": 1}
"""An event of a kind that a newer version may know."""


@dataclass
class Cluster:
    backends: Backends
    environment: dict[str, str]
    directory: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    checked_modules: set[str] = field(default_factory=set)

    def start_worker(self, workflows: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Returns at once; sessions wait until it serves."""
        self.checked_modules.update(workflows.split(","))
        number = len(self.workers)
        with (self.directory / f"worker-{number}.log").open("wb") as output:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "workers.main",
                    "worker",
                    "-n",
                    f"worker{number}@test",
                    "--without-gossip",
                    "--without-mingle",
                ],
                env=self.environment | {"STELLWERK_WORKFLOWS": workflows} | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    async def serves(self, workflow: str) -> None:
        """Waits until a worker has registered the workflow."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with transaction(self.backends.engine) as db:
                    if await worker_repository.newest_workflow(db, workflow):
                        break
                await asyncio.sleep(0.05)

    async def create(self, workflow: str, **graph_input: Any) -> SessionId:
        """Waits until a worker has registered the workflow."""
        await self.serves(workflow)
        new = NewSession(task=f"test {workflow}", workflow=workflow, input=graph_input)
        view, _ = await service.create_session(self.backends, new, principal=OWNER)
        return view.session_id

    async def until(self, session_id: SessionId, condition: Callable[[SessionView], object]) -> SessionView:
        """Polls, which no test depends on being quick."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    view = await service.get_session(self.backends, session_id, principal=OWNER)
                    if condition(view):
                        return view
                    assert view.status not in TERMINAL, f"ended {view.status}: {view.reason}"
                    await asyncio.sleep(0.05)
        except TimeoutError:
            logs = "\n".join(p.read_text(errors="replace")[-3000:] for p in self.directory.glob("worker-*.log"))
            raise AssertionError(f"waited in vain; last seen: {view}\n{logs}") from None

    async def ended(self, session_id: SessionId) -> SessionView:
        return await self.until(session_id, lambda view: view.status in TERMINAL)

    async def events(self, session_id: SessionId) -> list[dict[str, Any]]:
        """All of them, checked: offsets dense, the chain whole, each valid by the published schema."""
        async with transaction(self.backends.engine) as db:
            state = await read.stream_state(db, session_id)
            page = await read.read_page(db, state, after=0, limit=10_000)
            # Up to the head that was read: the session may go on between the statements.
            columns = text(
                'SELECT salt, chain FROM events WHERE stream_id = :id AND "offset" <= :head ORDER BY "offset"'
            )
            links: list[Any] = list(await db.execute(columns, {"id": session_id, "head": state.head}))
        expected = chain.genesis(session_id)
        for number, event in enumerate(page, 1):
            salt, stored = links[number - 1]
            assert event.offset == number
            expected = chain.link(expected, event.offset, event.ts, chain.digest(salt, event.data))
            assert stored == expected
            if event.t != OF_TOMORROW["t"]:
                EVENT.validate_json(event.wire())
        assert state.head == len(page) == len(links) and state.head_chain == expected
        return [read.parse(event) for event in page]

    async def check(self) -> None:
        """What must hold of every session when a test ends."""
        async with transaction(self.backends.engine) as db:
            ids = list(await db.scalars(text("SELECT session_id FROM sessions")))
        for session_id in ids:
            await self.events(session_id)
            assert [fault async for fault in verify(self.backends.engine, session_id)] == []
        settings = Settings(
            workflows=tuple(self.checked_modules),
            database_url=self.environment["STELLWERK_DATABASE_URL"],
            redis_url=self.environment["STELLWERK_REDIS_URL"],
            home=self.directory,
        )
        if self.checked_modules:
            async for rebuilt in rebuild(settings, ids, check=True):
                assert rebuilt.status in {"same", "skipped"}, rebuilt

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
                raise AssertionError("a worker did not end 20 s after SIGTERM") from None


@asynccontextmanager
async def cluster_on(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[Cluster]:
    environment = {
        **os.environ,
        **QUICK,
        "STELLWERK_DATABASE_URL": as_app(database_url),
        "STELLWERK_REDIS_URL": redis_url,
        "STELLWERK_HOME": str(directory),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    engine = create_engine(as_app(database_url))
    push, dispatch = Push(redis_url, SealKeys(engine)), Dispatch(redis_url)
    pool = DriverPool(as_app(database_url))
    cluster = Cluster(Backends(Settings(), engine, pool, push, dispatch), environment, directory)
    try:
        yield cluster
        await cluster.check()
    finally:
        cluster.stop()
        dispatch.close()
        await push.close()
        await pool.close()
        await engine.dispose()


def processes_naming(text: str) -> list[psutil.Process]:
    """Living processes with `text` in their command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if is_alive(process) and text in " ".join(process.info["cmdline"] or [])
    ]
