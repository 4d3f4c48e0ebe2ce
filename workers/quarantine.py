"""Attempts of steps that were lost before, each in a process of its own.

Such a step may be what killed its worker. The claim is made here, so that a doubled message starts nothing, and
handed over by its lease; when the process dies, the attempt is lost at once, not when the lease expires.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from app.config import Settings
from app.sessions import attempts
from app.sessions.attempts import Claim
from app.sessions.unit import Services
from workers.failures import patiently
from workers.heartbeat import Heartbeat
from workers.subprocesses import Tail, guarded

logger = structlog.get_logger(__name__)

STARTS = max(1, (os.cpu_count() or 2) // 2)
"""Processes that start at a time: each takes three seconds of a core, and eight at once took forty."""
GRACE = timedelta(seconds=8)
"""Enough for the process to give its attempt back."""
STDERR_BYTES = 2000


@dataclass
class Quarantine:
    services: Services
    heartbeat: Heartbeat
    settings: Settings
    _starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS))
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Nothing can start just now; another worker may be free."""
        return self._starting.locked()

    async def run(self, claiming: Callable[[], Awaitable[Claim | None]]) -> None:
        """Returns when the process has ended, so that the limit on running steps holds."""
        async with self._starting:
            claim = await claiming()
            if claim is None:
                return
            started = asyncio.Event()
            task = asyncio.create_task(self._run(claim, started), name=f"alone {claim.step.step} {claim.step.agent}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: started.set())
            await started.wait()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def shut_down(self) -> None:
        """The guardians tell the processes, which give their attempts back."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, claim: Claim, started: asyncio.Event) -> None:
        step = claim.step
        task = asyncio.current_task()
        assert task is not None
        # Only until the process has started: then it has a heartbeat of its own.
        self.heartbeat.watch(claim.lease, partial(_cancel, task), limit_seconds=step.time_limit.total_seconds())
        command = [sys.executable, "-m", "workers.alone", str(step.session_id), str(step.step), str(claim.lease)]
        errors = Tail(STDERR_BYTES)
        try:
            environment = self.settings.worker_environment()
            async with guarded(command, cwd=Path.cwd(), env=environment, grace=GRACE) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                reading = asyncio.create_task(errors.take(process.stderr))
                await process.stdout.readline()  # it says that it has started, or it has ended
                self.heartbeat.unwatch(claim.lease)
                started.set()
                await asyncio.gather(process.wait(), reading)
        finally:
            self.heartbeat.unwatch(claim.lease)
        if process.returncode:
            stderr = errors.bytes().decode(errors="replace")
            logger.warning("the process of a step that runs alone died", status=process.returncode, stderr=stderr)
            why = f"the process in which it ran alone died with status {process.returncode}"
            await patiently(partial(attempts.lose_step, self.services, step, dead=why))


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
