"""What workers do with one attempt of a step: claim, complete, wait, fail, lose, give back.

One function is one transaction. An attempt is whatever worker holds the lease: each function takes the stream's lock,
checks the lease under it, and only then writes; so a worker that was presumed dead and comes back changes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app import metrics
from app.database import transaction
from app.errors import LeaseLost
from app.events import artifacts
from app.progress import SessionId
from app.sessions import answer_schemas, facts, overdue, repository, step_repository
from app.sessions.ending import end_session
from app.sessions.facts import MAX_ERROR_CHARACTERS
from app.sessions.model import SessionRow, StepRow, StepToken, retry_delay
from app.sessions.supersteps import Owed
from app.sessions.transitions import may_step
from app.unit_of_work import Backends, UnitOfWork, unit_of_work

WAITS_FOR = "waiting for an answer"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt, with what it needs."""

    session: SessionRow
    step: StepRow

    @property
    def lease(self) -> UUID:
        assert self.step.lease_token is not None
        return self.step.lease_token

    @property
    def token(self) -> StepToken:
        return StepToken(self.session.session_id, self.step.step, self.step.attempt, self.step.agent, self.lease)


async def claim_step(
    backends: Backends,
    session_id: SessionId,
    step: int,
    attempt: int,
    *,
    agent: str,
    lease: UUID,
    worker: str,
    served: frozenset[tuple[str, str]],
    alone: bool,
) -> Claim | None:
    """None when there is nothing to do: a doubled message, an ended session, a version that others serve.

    Repeated with the same `lease`, after a commit whose outcome is unknown, it gives the same claim.
    `served`: the (workflow, version) pairs of this process. `alone`: takes a step that was lost before, and only
    then.
    """
    running = facts.step_running(step=step, agent=agent, attempt=attempt, worker=worker)
    claimed = await step_repository.claim(
        backends.pool,
        session_id,
        step,
        attempt,
        lease=lease,
        lasts=backends.settings.lease,
        worker=worker,
        served=served,
        alone=alone,
        running=backends.item(session_id, running),
        goes_on=backends.item(session_id, facts.session_running()),
    )
    if claimed is None:
        return None
    backends.push.publish(claimed.recorded)
    waited = metrics.step_wait_seconds.labels(claimed.step.agent, claimed.step.queue)
    waited.observe(max(0.0, claimed.waited.total_seconds()))
    return Claim(claimed.session, claimed.step)


async def read_claim(backends: Backends, session_id: SessionId, step: int, lease: UUID) -> Claim | None:
    """The claim that another process of the worker made; None when its lease is gone."""
    async with transaction(backends.engine) as db:
        row = await step_repository.step_row(db, session_id, step)
        return Claim(await repository.session_row(db, session_id), row) if row.lease_token == lease else None


async def read_step(backends: Backends, session_id: SessionId, step: int) -> tuple[SessionRow, StepRow]:
    """The session and its step as they are now. Raises NotFound."""
    async with transaction(backends.engine) as db:
        return await repository.session_row(db, session_id), await step_repository.step_row(db, session_id, step)


async def complete_step(backends: Backends, claim: Claim, update: Any, *, commit: str | None) -> Owed | None:
    """Ends the attempt with what its node returned (as the codec wrote it).

    Returns what is to be folded if its superstep is complete now, so that the caller goes on with it. Raises
    LeaseLost.
    """
    row = claim.step
    update = await backends.secrecy.kept(update, "exact")
    waits = backends.item(row.session_id, facts.session_waiting(WAITS_FOR))
    complete = partial(
        step_repository.complete,
        row=row,
        update=repository.as_json(update),
        commit=commit,
        waits=waits,
        waits_for=WAITS_FOR,
    )
    if artifacts.fits(update, max_bytes=backends.value_bytes()):
        succeeded = backends.item(row.session_id, facts.step_succeeded(row, update=update, commit=commit))
        completed = await complete(backends.pool, succeeded=succeeded)
        backends.push.publish(completed.recorded)
    else:
        async with unit_of_work(backends, row.session_id) as work:
            told = await work.outsource(row.session_id, update, "exact")
            succeeded = backends.item(row.session_id, facts.step_succeeded(row, update=told, commit=commit))
            completed = await complete(work.db, succeeded=succeeded)
            work.recorded += completed.recorded
    # The session's row of the claim still holds: no worker folds it while a step of its superstep is running.
    return Owed(claim.session, completed.owed) if completed.owed else None


async def wait_step(
    backends: Backends,
    claim: Claim,
    *,
    question: Any,
    interrupt_id: str,
    node_snapshot: bytes,
    answer_schema: dict[str, Any] | None = None,
) -> None:
    """The node asked: the step waits without a worker, so its superstep is not complete. Raises LeaseLost.

    `answer_schema` is JSON Schema of what it wants for an answer.
    """
    row = claim.step
    wanted = await backends.secrecy.kept(answer_schemas.storable(answer_schema), "exact")
    async with unit_of_work(backends, row.session_id) as work:
        share = 1 if wanted is None else 2
        asked = await work.outsource(row.session_id, question, "shown", share=share)
        told = None if wanted is None else await work.outsource(row.session_id, wanted, "exact", share=share)
        released = await step_repository.wait(
            work.db,
            row,
            question=repository.as_json(asked),
            answer_schema=None if wanted is None else repository.as_json(wanted),
            interrupt_id=interrupt_id,
            node_snapshot=node_snapshot,
        )
        if not released:
            raise LeaseLost
        await work.append(row.session_id, facts.step_waiting(row), facts.approval_requested(row, asked, told))
        waits = work.item(row.session_id, facts.session_waiting(WAITS_FOR))
        work.recorded += await step_repository.settle(work.db, row, waits=waits, waits_for=WAITS_FOR)


async def fail_step(
    backends: Backends,
    claim: Claim,
    error: str,
    *,
    retryable: bool,
    delay: timedelta | None = None,
    returned: Any = None,
) -> timedelta | None:
    """Queues the next attempt and returns its delay, or fails the session for good (None). Raises LeaseLost.

    `delay` is the one that the node's own policy has, `returned` what shows the work of an attempt that could not be
    recorded.
    """
    error = backends.secrecy.text(error)
    async with unit_of_work(backends, claim.step.session_id) as work:
        row = await _held(work, claim)
        failures = row.failures + 1
        shown = None if returned is None else await work.outsource(row.session_id, returned, "shown")
        await work.append(row.session_id, facts.step_failed(row, error, returned=shown))
        if not retryable or failures >= row.max_attempts:
            await _fail_for_good(work, row, error)
            return None
        delay = retry_delay(failures, backends.settings.retry_delay) if delay is None else delay
        await _next_attempt(work, row, failures=failures, lost=row.lost, delay=delay, error=error)
        return delay


async def postpone_step(backends: Backends, claim: Claim, error: str, delay: timedelta) -> None:
    """Queues the next attempt after `delay`, and nothing counts as a failure. Raises LeaseLost."""
    error = backends.secrecy.text(error)
    async with unit_of_work(backends, claim.step.session_id) as work:
        row = await _held(work, claim)
        await work.append(row.session_id, facts.step_failed(row, error))
        await _next_attempt(work, row, failures=row.failures, lost=row.lost, delay=delay, error=error)


async def _held(work: UnitOfWork, claim: Claim) -> StepRow:
    """The step as it is now. Raises LeaseLost unless the claim still holds it."""
    row = await step_repository.step_row(work.db, claim.step.session_id, claim.step.step)
    if row.lease_token != claim.lease:
        raise LeaseLost
    return row


async def lose_step(backends: Backends, row: StepRow, *, dead: str | None = None) -> bool:
    """Takes an attempt whose lease has expired from its worker; the next one is queued at once.

    False when there is nothing to take: it was renewed or has ended meanwhile, or no worker held it. `dead` says how
    its process ended; then the lease need not expire first.
    """
    async with unit_of_work(backends, row.session_id) as work:
        if dead is None:
            current = await overdue.expired_lease(work.db, row.session_id, row.step)
        else:
            current = await step_repository.step_row(work.db, row.session_id, row.step)
        if current is None or not may_step("lose", current.status) or current.lease_token != row.lease_token:
            return False
        lost = current.lost + 1
        error = dead or "the worker died, or lost its connection, or stood still"
        await work.append(row.session_id, facts.step_lost(current, error))
        if lost >= backends.settings.max_lost:
            reason = f"{lost} attempts were lost with their workers: the step probably kills them"
            await _fail_for_good(work, current, reason)
        else:
            await _next_attempt(work, current, failures=current.failures, lost=lost)
            _ring_after_commit(work, current)
    metrics.leases_lost.labels(row.agent).inc()
    return True


async def give_back_step(backends: Backends, claim: Claim) -> None:
    """The worker shuts down: the next attempt is queued at once, and nothing counts as a failure."""
    async with unit_of_work(backends, claim.step.session_id) as work:
        row = await step_repository.step_row(work.db, claim.step.session_id, claim.step.step)
        if row.lease_token != claim.lease:
            return
        await work.append(row.session_id, facts.step_lost(row, "the worker was shut down"))
        await _next_attempt(work, row, failures=row.failures, lost=row.lost)
        _ring_after_commit(work, row)


async def _next_attempt(
    work: UnitOfWork,
    row: StepRow,
    *,
    failures: int,
    lost: int,
    delay: timedelta = timedelta(0),
    error: str | None = None,
) -> None:
    await step_repository.requeue(
        work.db, row, attempt=row.attempt + 1, failures=failures, lost=lost, delay=delay, error=error
    )
    await work.append(row.session_id, facts.step_queued(row, attempt=row.attempt + 1))


def _ring_after_commit(work: UnitOfWork, row: StepRow) -> None:
    ring = work.backends.dispatch.run_step
    work.after_commit.append(lambda: ring(row.session_id, row.step, row.attempt + 1, queue=row.queue, agent=row.agent))


async def _fail_for_good(work: UnitOfWork, row: StepRow, error: str) -> None:
    await step_repository.fail(work.db, row.session_id, row.step, error)
    reason = f"step {row.step} ({row.agent}) failed: {error}"
    await end_session(work, row.session_id, "fail", reason=reason[:MAX_ERROR_CHARACTERS])
