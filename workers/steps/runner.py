"""run_step: claims an attempt, runs its node with the Reporter set, and completes it.

claim lease ─▶ agent runs, report_progress() … ─▶ complete, ask or fail (one transaction)
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

import structlog
from langchain_core.callbacks import BaseCallbackHandler

from app.errors import LeaseLost, NotFound, NotNow, StreamClosed, describe
from app.events.group_commit import GroupCommit
from app.progress import SessionId, current_step
from app.sessions import attempts, supersteps
from app.sessions.attempts import Claim
from app.sessions.model import StepRow
from app.sessions.transitions import may, may_step
from app.unit_of_work import Backends
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NodeInterrupted, World
from workers.graph.results import StepResult
from workers.models.langchain_calls import recording_calls
from workers.models.limits import ModelLimits
from workers.steps.advancer import Advancer, Served
from workers.steps.claimed_node import run_claimed
from workers.steps.failures import NextTry, for_want_of_room, patiently, try_after
from workers.steps.heartbeat import Heartbeat
from workers.steps.quarantine import Quarantine
from workers.steps.recording import Unrecordable, record
from workers.steps.snapshots import invocation_of
from workers.steps.surroundings import AttemptReporter, AttemptWorkspace, surrounded
from workers.stores.own_loop import OwnLoop
from workers.stores.replacing import cache_for, store_for
from workers.workspace.repository import Workspaces

logger = structlog.get_logger(__name__)

BOUNCE = timedelta(seconds=0.5)
CANCEL_SECONDS = 1.0
"""What a cancelled attempt may take to clean up before its step is given back without it."""


@dataclass(eq=False)
class Attempt:
    """A running attempt, and why it was stopped if it was."""

    claim: Claim
    task: "asyncio.Task[None]"
    stopped: Literal["lease", "shutdown"] | None = None

    def stop(self, why: Literal["lease", "shutdown"]) -> None:
        if self.stopped is None:
            self.stopped = why
            self.task.cancel()


@dataclass
class Runner:
    backends: Backends
    served: Served
    advancer: Advancer
    workspaces: Workspaces
    appends: GroupCommit
    heartbeat: Heartbeat
    limits: ModelLimits
    quarantine: Quarantine
    worker: str
    own_loop: OwnLoop
    _running: set[Attempt] = field(default_factory=set)
    _later: "set[asyncio.Task[None]]" = field(default_factory=set)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_step(self, session_id: SessionId, step: int, attempt: int, agent: str | None) -> None:
        """Does nothing when there is nothing to claim, so that doubled messages are harmless.

        An older version's message does not name the agent; then it is looked up.
        """
        try:
            if agent is None:
                agent = (await attempts.read_step(self.backends, session_id, step))[1].agent
            claim = await self._claim(session_id, step, attempt, agent, alone=False)
            if claim is None:
                await self._not_claimed(session_id, step, attempt, agent)
                return
        except NotFound as error:
            logger.warning("message for an unknown step", error=str(error))
            return
        with structlog.contextvars.bound_contextvars(session=str(session_id), step=step, attempt=attempt):
            await self._run_claimed(claim)

    async def run_leased(self, session_id: SessionId, step: int, lease: UUID) -> None:
        """Runs an attempt that another process of this worker has claimed."""
        claim = await patiently(partial(attempts.read_claim, self.backends, session_id, step, lease))
        if claim is not None:
            await self._run_claimed(claim)

    async def _claim(self, session_id: SessionId, step: int, attempt: int, agent: str, *, alone: bool) -> Claim | None:
        claim = partial(
            attempts.claim_step,
            self.backends,
            session_id,
            step,
            attempt,
            agent=agent,
            lease=uuid4(),
            worker=self.worker,
            served=frozenset(self.served),
            alone=alone,
        )
        return await patiently(claim)

    async def _not_claimed(self, session_id: SessionId, step: int, attempt: int, agent: str) -> None:
        session, row = await attempts.read_step(self.backends, session_id, step)
        if not (may("claim", session.status) and may_step("claim", row.status)) or row.attempt != attempt:
            return
        if (session.workflow, session.workflow_version) not in self.served:
            if not await supersteps.park_session(self.backends, session):
                self._ring_later(row, BOUNCE)  # a worker that serves it shares our queues: it may get the next one
        elif row.lost > 0:
            claiming = partial(self._claim, session_id, step, attempt, agent, alone=True)
            self.quarantine.put((session_id, step, attempt), claiming)

    async def _run_claimed(self, claim: Claim) -> None:
        # A task of its own, so that stopping the attempt does not cancel the caller.
        task = asyncio.create_task(self._attempt(claim), name=f"step {claim.step.step} {claim.step.agent}")
        attempt = Attempt(claim, task)
        self._running.add(attempt)
        self._idle.clear()
        self.heartbeat.watch(
            claim.lease,
            lambda: attempt.stop("lease"),
            limit_seconds=claim.step.time_limit.total_seconds(),
        )
        try:
            await asyncio.wait({task})
            if task.cancelled():
                await self._stopped(attempt)
            else:
                task.result()
        except (LeaseLost, StreamClosed):
            logger.info("the attempt lost its lease; another one has the step, or its session has ended")
        finally:
            self.heartbeat.unwatch(claim.lease)
            self._running.discard(attempt)
            if not self._running:
                self._idle.set()

    async def _stopped(self, attempt: Attempt) -> None:
        if attempt.stopped == "shutdown":
            await attempts.give_back_step(self.backends, attempt.claim)
        elif attempt.stopped is None:  # the agent cancelled itself
            await self._fail(
                attempt.claim, asyncio.CancelledError("the agent was cancelled from inside"), NextTry(True)
            )
        else:
            logger.info("the attempt was stopped: its lease is gone")

    async def _attempt(self, claim: Claim) -> None:
        workflow = self.served[claim.session.workflow, claim.session.workflow_version]
        reporter = AttemptReporter(claim, self.backends, self.appends, asyncio.get_running_loop())
        workspace = AttemptWorkspace(claim, self.workspaces, self.backends)
        try:
            with surrounded(claim, reporter, workspace, backends=self.backends, limits=self.limits):
                async with (
                    reporter.streaming(),
                    recording_calls(
                        current_step(), self.backends.settings, self.backends.secrecy.redactor
                    ) as callbacks,
                ):
                    world = self._world(workflow, claim, reporter, callbacks)
                    outcome = await run_claimed(self.backends, self.advancer.snapshots, workflow, claim, world)
            await reporter.drain()
        except (LeaseLost, StreamClosed):
            raise
        except NotNow as error:
            await self._postpone(claim, error)
            return
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # an agent may raise anything; the log says what
            logger.warning("the attempt failed", error=self._told(error), exc_info=error)
            await self._fail(claim, error, try_after(error, workflow, claim.step))
            return
        else:
            recorded = await self._record(workflow, claim, outcome, workspace)
        finally:
            await workspace.discard()
        if recorded is not None:
            await patiently(recorded)

    def _world(
        self,
        workflow: LoadedWorkflow,
        claim: Claim,
        reporter: AttemptReporter,
        callbacks: Sequence[BaseCallbackHandler],
    ) -> World:
        return World(
            invocation_of(claim.session, self.backends.secrecy),
            store_for(workflow, self.own_loop, claim.session.project),
            cache_for(workflow, self.own_loop, claim.session.project),
            callbacks,
            reporter.stream,
            claim.step.failures + 1,
        )

    async def _record(
        self,
        workflow: LoadedWorkflow,
        claim: Claim,
        outcome: StepResult | NodeInterrupted,
        workspace: AttemptWorkspace,
    ) -> Callable[[], Awaitable[None]] | None:
        """Returns how the session goes on; None if the attempt has failed after all."""
        advance = partial(self.advancer.advance_session, claim.session.session_id)
        try:
            owed = await record(self.backends, workflow, claim, outcome, workspace)
        except LeaseLost:
            pass  # perhaps by ourselves: the connection died after the commit
        except Unrecordable as error:
            logger.warning("what the attempt returned cannot be recorded", error=self._told(error.cause))
            await self._fail(claim, error.cause, error.next_try, returned=error.shown)
            return None
        else:
            advance = partial(self.advancer.advance, owed)
        self.heartbeat.unwatch(claim.lease)  # there is no lease any more, and losing it must not stop the fold
        return advance

    def _told(self, error: BaseException) -> str:
        """For the log, where many may read what an agent's libraries say of their keys."""
        return describe(error, self.backends.secrecy.text)

    async def _postpone(self, claim: Claim, error: NotNow) -> None:
        await patiently(partial(attempts.postpone_step, self.backends, claim, self._told(error), error.delay))
        self._ring_later(replace(claim.step, attempt=claim.step.attempt + 1), error.delay)

    async def _fail(self, claim: Claim, error: BaseException, try_again: NextTry, *, returned: Any = None) -> None:
        if later := for_want_of_room(error, self.backends.settings):
            await self._postpone(claim, later)
            return
        fail = partial(
            attempts.fail_step,
            self.backends,
            claim,
            self._told(error),
            retryable=try_again.may_be,
            delay=try_again.delay,
            returned=returned,
        )
        delay = await patiently(fail)
        if delay is None:
            self.backends.push.cancel(claim.session.session_id)  # siblings elsewhere need not go on
            return

        row = claim.step
        self._ring_later(replace(row, attempt=row.attempt + 1), delay)

    def _ring_later(self, row: StepRow, delay: timedelta) -> None:
        """Not an ETA in the broker: available_at holds the step back, and the rescuer rings if this process dies."""

        async def ring() -> None:
            await asyncio.sleep(delay.total_seconds())
            self.backends.dispatch.run_step(row.session_id, row.step, row.attempt, queue=row.queue, agent=row.agent)

        task = asyncio.create_task(ring())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def check_leases(self, session_id: str) -> None:
        """The session was cancelled: ask the heartbeat at once whether our leases of it still stand."""
        if any(str(attempt.claim.session.session_id) == session_id for attempt in self._running):
            self.heartbeat.check_now()
        self.quarantine.check_leases(session_id)

    async def lose_all(self, why: str) -> None:
        """This process dies in a moment. The steps run next alone, for it is not known which of them it was."""
        self.quarantine.close()
        losing = (attempts.lose_step(self.backends, attempt.claim.step, dead=why) for attempt in self._running)
        await asyncio.gather(*losing, return_exceptions=True)

    async def shut_down(self, grace_seconds: float) -> None:
        """Waits for running attempts, then gives the rest back for other workers to start at once."""
        await asyncio.gather(self.quarantine.shut_down(), self._end_running(grace_seconds))

    async def _end_running(self, grace_seconds: float) -> None:
        if self._running:
            await asyncio.wait({attempt.task for attempt in self._running}, timeout=grace_seconds)
        for attempt in self._running:
            attempt.stop("shutdown")
        if self._running:
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._idle.wait()
        # What does not let itself be cancelled can write nothing any more without its lease.
        claims = [attempt.claim for attempt in self._running]
        await asyncio.gather(*(attempts.give_back_step(self.backends, claim) for claim in claims))
