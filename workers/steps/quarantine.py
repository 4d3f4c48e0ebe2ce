"""Attempts of steps that were lost before: alone in a process, since such a step may be what killed its worker.

A process starts slowly, so it takes one attempt after the other as long as there is a line, and one starts at a
time. The claim is made here, so that a doubled message starts nothing, and handed over by its lease. When the
process dies, the attempt is lost at once, not when its lease expires. When the lease is gone, because the session was
cancelled or the process did not renew it, and the process says nothing any more, it is killed from here: an attempt
that keeps the interpreter to itself can neither renew nor hear anything.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from app.config import MIB
from app.errors import LeaseLost, NotFound, StreamClosed
from app.progress import SessionId
from app.sessions import attempts
from app.sessions.attempts import Claim
from app.unit_of_work import Backends
from workers.children.guarded import Tail, guarded
from workers.steps.failures import patiently
from workers.steps.lone_process import LoneProcess

logger = structlog.get_logger(__name__)

GRACE = timedelta(seconds=8)
"""Enough for the process to give its attempt back."""
START_SECONDS = 120.0
"""For the process to import the workflows."""
STDERR_BYTES = 2000
TOO_LARGE_STATUS = 86
"""How the process of a step that ran alone says that it was too large; sysexits and shells use other numbers."""

AttemptId = tuple[SessionId, int, int]
"""Session, step, attempt."""
Claiming = Callable[[], Awaitable[Claim | None]]


def too_large(limit_bytes: int) -> str:
    return f"used more than {limit_bytes // MIB} MiB of memory (STELLWERK_WORKER_MEMORY_BYTES)"


@dataclass
class Quarantine:
    backends: Backends
    _line: dict[AttemptId, Claiming] = field(default_factory=dict)
    _processes: "set[asyncio.Task[None]]" = field(default_factory=set)
    _bells: dict[AttemptId, asyncio.Event] = field(default_factory=dict)
    _starting: "asyncio.Task[None] | None" = None
    _is_closed: bool = False

    def put(self, attempt: AttemptId, claiming: Claiming) -> None:
        """Puts it into the line, where it stands once however often its message comes."""
        if not self._is_closed:
            self._line.setdefault(attempt, claiming)
            self._grow()

    def check_leases(self, session_id: str) -> None:
        """The session was cancelled: looks at once whether the leases of its attempts here still stand."""
        for (session, _, _), bell in self._bells.items():
            if str(session) == session_id:
                bell.set()

    def close(self) -> None:
        """Takes nothing any more."""
        self._line.clear()
        self._is_closed = True

    async def shut_down(self) -> None:
        """The guardians tell the processes, which give their attempts back."""
        self.close()
        for task in self._processes:
            task.cancel()
        if self._processes:
            await asyncio.wait(self._processes)

    def _grow(self) -> None:
        """A long attempt must not hold up the line, so a line that stands while nothing starts gets a process more."""
        if self._line and self._starting is None and len(self._processes) < self.backends.settings.concurrency:
            task = self._starting = asyncio.create_task(self._process(), name="alone")
            self._processes.add(task)
            task.add_done_callback(self._on_end)

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        self._processes.discard(task)
        if self._starting is task:
            self._starting = None
        if not task.cancelled():
            if error := task.exception():
                logger.error("an attempt alone went wrong; the rescuer rings for it again", exc_info=error)
            self._grow()

    async def _process(self) -> None:
        command = [sys.executable, "-P", "-m", "workers.process.alone"]
        environment = self.backends.settings.worker_environment()
        async with guarded(command, cwd=Path.cwd(), env=environment, stdin=True, grace=GRACE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            errors = Tail(STDERR_BYTES)
            reading = asyncio.create_task(errors.take(process.stderr))
            lone = LoneProcess(process)
            if not await self._is_ready(lone):
                if process.returncode is not None:
                    await reading
                last_words = errors.bytes().decode(errors="replace")
                logger.error("the process for lost steps does not start", stderr=last_words)
                self._line.clear()  # the rescuer rings again, with back-off
                return
            self._starting = None
            self._grow()
            while self._line and not process.stdout.at_eof():
                claiming = self._line.pop(next(iter(self._line)))
                if claim := await claiming():
                    await self._run(lone, claim)

    async def _is_ready(self, lone: LoneProcess) -> bool:
        try:
            async with asyncio.timeout(START_SECONDS):
                return await lone.is_ready()
        except TimeoutError:
            return False

    async def _run(self, lone: LoneProcess, claim: Claim) -> None:
        step = claim.step
        lone.give(f"{step.session_id} {step.step} {claim.lease}")
        ending = asyncio.create_task(self._end_without_lease(lone, claim))
        try:
            if await lone.is_done():
                return
        finally:
            ending.cancel()
        status = await lone.process.wait()
        logger.warning("the process of a step that ran alone died", status=status, session=str(step.session_id))
        if status == TOO_LARGE_STATUS:
            error = f"the step, alone in its process, {too_large(self.backends.settings.worker_memory_bytes)}"
            with suppress(LeaseLost, StreamClosed):
                await patiently(partial(attempts.fail_step, self.backends, claim, error, retryable=False))
            self.backends.push.cancel(step.session_id)  # siblings elsewhere need not go on
            return
        why = f"the process in which it ran alone died with status {status}"
        await patiently(partial(attempts.lose_step, self.backends, step, dead=why))

    async def _end_without_lease(self, lone: LoneProcess, claim: Claim) -> None:
        """One that is alive ends its attempt by itself, or goes on with the session after it; but not for ever."""
        attempt = (claim.step.session_id, claim.step.step, claim.step.attempt)
        bell = self._bells[attempt] = asyncio.Event()
        settings = self.backends.settings
        try:
            while await self._has_lease(claim):
                with suppress(TimeoutError):
                    async with asyncio.timeout(settings.heartbeat_steps.total_seconds()):
                        await bell.wait()
                bell.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout((settings.lease + settings.fold_time_limit).total_seconds()):
                    await lone.falls_silent()
            logger.warning("a process is killed: its attempt has no lease", session=str(claim.step.session_id))
            lone.kill()
        finally:
            del self._bells[attempt]

    async def _has_lease(self, claim: Claim) -> bool:
        read = partial(attempts.read_claim, self.backends, claim.step.session_id, claim.step.step, claim.lease)
        try:
            return await patiently(read) is not None
        except NotFound:  # erased meanwhile
            return False
