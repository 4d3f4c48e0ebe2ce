"""Everything a worker process has, wired in one place: one event loop in its own thread, all clients on it."""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import structlog

from app import metrics
from app.config import Settings
from app.database import DriverPool, create_engine
from app.errors import BadInput, describe
from app.events.follow.subscriptions import Subscriptions
from app.events.group_commit import GroupCommit
from app.events.push import CANCEL_CHANNEL, Push
from app.events.seals import SealKeys
from app.progress import SessionId
from app.sessions.dispatch import Dispatch
from app.unit_of_work import Backends
from workers.graph.loading import Workflows
from workers.maintenance.admission import Admission
from workers.maintenance.cache_pruner import CachePruner
from workers.maintenance.cluster_watch import ClusterWatch
from workers.maintenance.heads_recorder import HeadsRecorder
from workers.maintenance.registration import Registration
from workers.maintenance.rescuer import Rescuer
from workers.maintenance.room import Room
from workers.models.limits import ModelLimits
from workers.process.memory import watch_memory
from workers.process.metrics import MetricsServer, serve_metrics
from workers.steps.advancer import Advancer
from workers.steps.cancellations import Cancellations
from workers.steps.failures import patiently
from workers.steps.fold_threads import FoldThreads
from workers.steps.heartbeat import Heartbeat
from workers.steps.quarantine import TOO_LARGE_STATUS, Quarantine, too_large
from workers.steps.runner import Runner
from workers.steps.snapshots import Snapshots
from workers.stores.own_loop import OwnLoop
from workers.stores.replacing import tell_what_is_replaced
from workers.workspace.repository import Workspaces

logger = structlog.get_logger(__name__)
T = TypeVar("T")

SHUTDOWN_GRACE_SECONDS = 4.0
"""What running steps get after SIGTERM; `stellwerk up` kills what has not ended 11 s after it."""
STOP_SECONDS = 7.0
"""The end waits no longer, whatever holds it up: an agent that blocks the event loop, a database that is away."""
SWITCH_SECONDS = 0.0005
"""After which a computing thread gives way. With Python's 5 ms the event loop waited for a fold's thread after every
system call: the p99 of appends beside a superstep of 500 steps was 44–253 ms in several runs, now 13–134."""
LOSE_SECONDS = 2.0
"""Longer a worker that is too large does not wait for the database: leases expire without it, too."""


@dataclass(frozen=True, slots=True)
class Addresses:
    database: str
    redis: str
    broker: str

    @classmethod
    def of(cls, settings: Settings) -> "Addresses":
        """Raises BadInput with what to set."""
        if settings.database_url is None or settings.redis_url is None:
            raise BadInput(
                "set STELLWERK_DATABASE_URL and STELLWERK_REDIS_URL, or start everything with `stellwerk up`"
            )
        return cls(settings.database_url, settings.redis_url, settings.broker_url or settings.redis_url)


class Runtime:
    def __init__(self, settings: Settings, workflows: Workflows, *, alone: bool = False) -> None:
        self._alone = alone
        self._settings = settings
        self._addresses = Addresses.of(settings)
        self._served = {(w.name, w.version): w for w in workflows.served.values()}
        self._refused = workflows.refused
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="stellwerk-loop", daemon=True)
        self._background: list[asyncio.Task[None]] = []
        self._metrics: MetricsServer | None = None

    def start(self) -> None:
        """Returns when the workflows are registered; waits for a database that is not there yet."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()
        self.call(self._start())
        watch_memory(self._settings.worker_memory_bytes, self._end_too_large)

    def _end_too_large(self) -> None:
        """Does not hang on the loop, which the agent may hold."""
        why = too_large(self._settings.worker_memory_bytes)
        logger.error(f"this process {why} and ends")
        if self._alone:
            os._exit(TOO_LARGE_STATUS)  # whose fault it is, its worker knows
        with suppress(TimeoutError):
            losing = self.runner.lose_all(f"its worker {why}")
            asyncio.run_coroutine_threadsafe(losing, self._loop).result(LOSE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _run_loop(self) -> None:
        # Threads wait for agents and for git, also beside steps that hold theirs beyond their time limit.
        self._loop.set_default_executor(ThreadPoolExecutor(4 * self._settings.concurrency, thread_name_prefix="io"))
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio lets these two out of the loop; an agent's exit() is its own failure, not the worker's.
                logger.warning("an agent called exit", error=describe(error))
            else:
                return

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it on the loop and waits, from a Celery thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        """Gives running attempts back, writes what is pending, closes the clients; in STOP_SECONDS or never."""
        try:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(STOP_SECONDS)
        except TimeoutError:
            logger.warning("something does not let this process stop; leases that it still has expire")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1)

    def run_step(self, session_id: SessionId, step: int, attempt: int, agent: str | None) -> None:
        self.call(self.runner.run_step(session_id, step, attempt, agent))

    def run_leased(self, session_id: SessionId, step: int, lease: UUID) -> None:
        self.call(self.runner.run_leased(session_id, step, lease))

    def advance_session(self, session_id: SessionId) -> None:
        self.call(patiently(partial(self.advancer.advance_session, session_id)))

    def tell_alive(self, tell: Callable[[], object], *, every_seconds: float) -> None:
        """Calls it again and again, as long as the event loop goes round."""

        async def go_round() -> None:
            while True:
                tell()
                await asyncio.sleep(every_seconds)

        async def begin() -> None:
            self._background.append(asyncio.create_task(go_round(), name="signs of life"))

        self.call(begin())

    async def _start(self) -> None:
        settings, addresses = self._settings, self._addresses
        engine = create_engine(
            addresses.database, pool_size=settings.database_pool_size, limit=settings.statement_limit
        )
        seal_keys = SealKeys(engine)
        self._push = Push(addresses.redis, seal_keys, inline_bytes=settings.push_inline_bytes)
        self._appends = GroupCommit(addresses.database, self._push.publish, limit=settings.statement_limit)
        self._dispatch = Dispatch(addresses.broker)
        pool = DriverPool(addresses.database, limit=settings.statement_limit)
        self.backends = Backends(settings, engine, pool, self._push, self._dispatch)
        workspaces = Workspaces.configured(settings)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        self._heartbeat = Heartbeat(addresses.database, settings, self._loop)
        self._limits = ModelLimits(addresses.redis, settings)
        self._folds = FoldThreads(settings.fold_time_limit)
        snapshots = Snapshots(self.backends, self._folds)
        self.advancer = Advancer(self.backends, self._served, workspaces, snapshots, self._folds)
        self.runner = Runner(
            backends=self.backends,
            served=self._served,
            advancer=self.advancer,
            workspaces=workspaces,
            appends=self._appends,
            heartbeat=self._heartbeat,
            limits=self._limits,
            quarantine=Quarantine(self.backends),
            worker=worker,
            own_loop=OwnLoop(pool),
        )
        self._registration = Registration(self.backends, self._served, worker, self._refused)
        if not self._alone:
            for workflow in self._served.values():
                for name in workflow.nodes:
                    metrics.expect_steps(name, workflow.node(name).queue)
            tell_what_is_replaced(self._served.values())
            self._metrics = serve_metrics(settings)
            await self._registration.begin()
        self._heartbeat.start()
        subscriptions = Subscriptions(addresses.redis, seal_keys)
        subscriptions.add_channel(CANCEL_CHANNEL, Cancellations(self.runner))
        self._background = [
            asyncio.create_task(seal_keys.run(), name="seal-keys"),
            asyncio.create_task(subscriptions.run(), name="cancellations"),
        ]
        if not self._alone:
            rescuer = Rescuer(self.backends, tuple(self._served))
            maintainers = (
                *(self._registration, rescuer, Admission(self.backends), CachePruner(pool)),
                *(HeadsRecorder(self.backends), ClusterWatch(self.backends.engine, seal_keys.expect)),
            )
            room = Room(self.backends, maintainers)
            self._background.append(asyncio.create_task(room.run(), name="maintenance"))

    async def _stop(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if not self._alone:
            await self._registration.end()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.stop)
        await self.runner.shut_down(SHUTDOWN_GRACE_SECONDS)
        self._heartbeat.stop()
        self._folds.close()
        await self._appends.close()
        await asyncio.to_thread(self._dispatch.close)
        await self._push.close()
        await self._limits.close()
        await self.backends.pool.close()
        await self.backends.engine.dispose()
