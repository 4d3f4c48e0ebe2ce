"""The heartbeat: renews the leases of this process' attempts, from a thread and a connection of its own.

It does not depend on the event loop that agents run on, so an agent that blocks the loop for a while does not
lose its neighbours' leases. It stops renewing an attempt that is past its time limit.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog

from app.config import Settings
from app.database import KEEPALIVE, libpq_url
from app.errors import describe
from app.sessions import step_repository

logger = structlog.get_logger(__name__)

GRACE_SECONDS = 10.0
"""What an attempt may take beyond its time limit, to be cancelled and to write why."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An attempt under heartbeat. `on_lost` is called on the event loop."""

    lease: UUID
    on_lost: Callable[[], None]
    until: float
    """On the monotonic clock; no renewal after it."""


@dataclass
class Heartbeat:
    """`start` it from the event loop's thread."""

    address: str
    settings: Settings
    loop: asyncio.AbstractEventLoop
    _watched: dict[UUID, Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False
    _loop_answered: float = field(default_factory=time.monotonic)
    _thread: threading.Thread | None = None
    _connection: psycopg.AsyncConnection[object] | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def watch(self, lease: UUID, on_lost: Callable[[], None], *, limit_seconds: float) -> None:
        watched = Watched(lease, on_lost, time.monotonic() + limit_seconds + GRACE_SECONDS)
        with self._lock:
            self._watched[lease] = watched

    def unwatch(self, lease: UUID) -> None:
        with self._lock:
            self._watched.pop(lease, None)

    def check_now(self) -> None:
        """Beats at once, because a session was cancelled."""
        self._wake.set()

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # only an event loop can give up a call that gets no answer
            while not self._stopping:
                self._wake.wait(self.settings.heartbeat_steps.total_seconds())
                self._wake.clear()
                self.loop.call_soon_threadsafe(self._answer)
                self._end_if_stuck()
                runner.run(self._try_to_beat())
            runner.run(self._disconnect())

    def _answer(self) -> None:
        self._loop_answered = time.monotonic()

    async def _try_to_beat(self) -> None:
        # A dead connection must be noticed before the leases expire, so sooner than others notice theirs.
        try:
            async with asyncio.timeout(self.settings.heartbeat_steps.total_seconds()):
                await self._beat()
        except (psycopg.Error, TimeoutError) as error:
            logger.warning("heartbeat failed; trying again", error=describe(error))
            await self._disconnect()

    async def _beat(self) -> None:
        now = time.monotonic()
        with self._lock:
            renewable = {w.lease: w for w in self._watched.values() if w.until > now}
        if not renewable:
            return
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                libpq_url(self.address),
                autocommit=True,
                application_name="stellwerk-heartbeat",
                options="-c lock_timeout=5s -c statement_timeout=10s",
                **KEEPALIVE,
            )
        for lease in await step_repository.renew_leases(self._connection, list(renewable), self.settings.lease):
            self.loop.call_soon_threadsafe(renewable[lease].on_lost)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def _end_if_stuck(self) -> None:
        """A loop that does not answer, with an attempt past its limit, cannot be mended from inside."""
        now = time.monotonic()
        with self._lock:
            overdue = [w for w in self._watched.values() if w.until < now]
        silent = now - self._loop_answered
        if overdue and silent > 2 * self.settings.heartbeat_steps.total_seconds() + GRACE_SECONDS:
            logger.error("an agent blocks the event loop beyond its time limit; this process ends itself")
            os.kill(os.getpid(), signal.SIGKILL)
