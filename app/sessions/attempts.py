"""What workers do with one attempt of a step: claim, complete, wait, fail, lose, give back.

One function is one transaction.

An attempt is whoever holds the lease. Each function takes the stream's lock, checks the lease under it, and only
then writes; so a worker that was presumed dead and comes back changes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.config import settings
from app.database import transaction
from app.errors import LeaseLost
from app.events import artifacts, encoding
from app.events.types import StepEvent
from app.progress import SessionId
from app.sessions import moves, overdue, repository, step_repository
from app.sessions.model import StepToken, retry_delay
from app.sessions.repository import SessionRow
from app.sessions.service import end_session, queued_event
from app.sessions.step_repository import StepRow
from app.sessions.supersteps import Owed
from app.sessions.unit import Services, Unit, unit, value_bytes

MAX_ERROR_CHARACTERS = 4000


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


def _event(row: StepRow, status: Any, **fields: Any) -> StepEvent:
    event: StepEvent = {
        "t": "step_event",
        "step": row.step,
        "agent": row.agent,
        "status": status,
        "attempt": row.attempt,
    }
    event.update(fields)  # type: ignore[typeddict-item]  # the callers below name StepEvent's own keys
    return event


async def claim_step(
    services: Services,
    session_id: SessionId,
    step: int,
    attempt: int,
    *,
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
    claimed = await moves.claim(
        services.statements,
        session_id,
        step,
        attempt,
        lease=lease,
        lasts=settings().lease,
        worker=worker,
        served=served,
        alone=alone,
    )
    if claimed is None:
        return None
    services.push.publish(claimed.recorded)
    return Claim(claimed.session, claimed.step)


async def read_claim(services: Services, session_id: SessionId, step: int, lease: UUID) -> Claim | None:
    """The claim that another process of the worker made; None when its lease is gone."""
    async with transaction(services.engine) as db:
        row = await step_repository.step_row(db, session_id, step)
        return Claim(await repository.session_row(db, session_id), row) if row.lease_token == lease else None


def _succeeded(row: StepRow, update: Any, commit: str | None) -> encoding.Item:
    event = _event(row, "succeeded", update=update)
    if commit is not None:
        event["commit"] = commit
    return encoding.item(row.session_id, event)


async def complete_step(services: Services, claim: Claim, update: Any, *, commit: str | None) -> Owed | None:
    """Ends the attempt with what its node returned (as the codec wrote it).

    Returns what is to be folded if its superstep is complete now, so that the caller goes on with it. Raises
    LeaseLost.
    """
    row = claim.step
    stored = repository.as_json(update)
    if artifacts.fits(update, max_bytes=value_bytes()):
        event = _succeeded(row, update, commit)
        completed = await moves.complete(services.statements, row, update=stored, commit=commit, event=event)
        services.push.publish(completed.recorded)
    else:
        async with unit(services, row.session_id) as work:
            event = _succeeded(row, await work.outsource(row.session_id, update), commit)
            completed = await moves.complete(work.db, row, update=stored, commit=commit, event=event)
            work.recorded += completed.recorded
    # The session's row of the claim still holds: nobody folds it while a step of its superstep is running.
    return Owed(claim.session, completed.owed) if completed.owed else None


async def wait_step(
    services: Services, claim: Claim, *, question: Any, interrupt_id: str, node_snapshot: bytes
) -> None:
    """The node asked: the step waits without a worker, so its superstep is not complete. Raises LeaseLost."""
    row = claim.step
    async with unit(services, row.session_id) as work:
        asked = await work.outsource(row.session_id, question)
        released = await step_repository.wait(
            work.db,
            row,
            question=repository.as_json(asked),
            interrupt_id=interrupt_id,
            node_snapshot=node_snapshot,
        )
        if not released:
            raise LeaseLost
        await work.append(
            row.session_id,
            _event(row, "waiting"),
            {
                "t": "approval_event",
                "step": row.step,
                "attempt": row.attempt,
                "status": "requested",
                "question": asked,
            },
        )
        work.recorded += await moves.settle(work.db, row)


async def fail_step(services: Services, claim: Claim, error: str, *, retryable: bool) -> timedelta | None:
    """Queues the next attempt and returns its delay, or fails the session for good (None). Raises LeaseLost."""
    async with unit(services, claim.step.session_id) as work:
        row = await step_repository.step_row(work.db, claim.step.session_id, claim.step.step)
        if row.lease_token != claim.lease:
            raise LeaseLost
        failures = row.failures + 1
        final = not retryable or failures >= row.max_attempts
        await work.append(row.session_id, _event(row, "failed", error=error[:MAX_ERROR_CHARACTERS]))
        if final:
            await _fail_for_good(work, row, error)
            return None
        delay = retry_delay(failures, settings().retry_delay)
        await _next_attempt(work, row, failures=failures, lost=row.lost, delay=delay, error=error)
        return delay


async def postpone_step(services: Services, claim: Claim, error: str, delay: timedelta) -> None:
    """Queues the next attempt after `delay`, and nothing counts as a failure. Raises LeaseLost."""
    async with unit(services, claim.step.session_id) as work:
        row = await step_repository.step_row(work.db, claim.step.session_id, claim.step.step)
        if row.lease_token != claim.lease:
            raise LeaseLost
        await work.append(row.session_id, _event(row, "failed", error=error[:MAX_ERROR_CHARACTERS]))
        await _next_attempt(work, row, failures=row.failures, lost=row.lost, delay=delay, error=error)


async def lose_step(services: Services, row: StepRow, *, dead: str | None = None) -> None:
    """Takes an attempt whose lease has expired from its worker; the next one is queued at once.

    `dead`: how its process ended. Then nobody has to wait for the lease to expire.
    """
    async with unit(services, row.session_id) as work:
        if dead is None:
            current = await overdue.expired_lease(work.db, row.session_id, row.step)
        else:
            current = await step_repository.step_row(work.db, row.session_id, row.step)
        if current is None or current.lease_token != row.lease_token:
            return  # it was renewed or ended meanwhile
        lost = current.lost + 1
        error = dead or "the worker died, or lost its connection, or stood still"
        await work.append(row.session_id, _event(current, "lost", error=error))
        if lost >= settings().max_lost:
            reason = f"{lost} attempts were lost with their workers: the step probably kills them"
            await _fail_for_good(work, current, reason)
            return
        await _next_attempt(work, current, failures=current.failures, lost=lost, delay=timedelta(0))
        work.after_commit.append(
            lambda: services.dispatch.run_step(row.session_id, row.step, current.attempt + 1, queue=current.queue)
        )


async def give_back_step(services: Services, claim: Claim) -> None:
    """The worker shuts down: the next attempt is queued at once, and nothing counts as a failure."""
    row = claim.step
    async with unit(services, row.session_id) as work:
        current = await step_repository.step_row(work.db, row.session_id, row.step)
        if current.lease_token != claim.lease:
            return
        await work.append(row.session_id, _event(current, "lost", error="the worker was shut down"))
        await _next_attempt(work, current, failures=current.failures, lost=current.lost, delay=timedelta(0))
        work.after_commit.append(
            lambda: services.dispatch.run_step(row.session_id, row.step, row.attempt + 1, queue=row.queue)
        )


async def _next_attempt(
    work: Unit, row: StepRow, *, failures: int, lost: int, delay: timedelta, error: str | None = None
) -> None:
    await step_repository.requeue(
        work.db, row, attempt=row.attempt + 1, failures=failures, lost=lost, delay=delay, error=error
    )
    await work.append(row.session_id, queued_event(row, attempt=row.attempt + 1))


async def _fail_for_good(work: Unit, row: StepRow, error: str) -> None:
    await step_repository.fail(work.db, row.session_id, row.step, error)
    reason = f"step {row.step} ({row.agent}) failed: {error}"
    await end_session(work, row.session_id, "failed", reason=reason[:MAX_ERROR_CHARACTERS])
