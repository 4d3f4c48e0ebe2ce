"""What waits for a person, and the answers. One function is one transaction."""

import asyncio
from typing import Any

from app.database import transaction
from app.errors import NotWaiting
from app.events import references
from app.principals.control import control_of_session
from app.principals.model import Control, Principal
from app.progress import SessionId
from app.sessions import answer_schemas, facts, repository, step_repository, transitions
from app.sessions.facts import Verdict
from app.sessions.knowing import learn_secrets
from app.sessions.model import Approval
from app.unit_of_work import Backends


async def list_approvals(
    backends: Backends, *, principal: Principal, session_id: SessionId | None = None
) -> list[Approval]:
    """What waits for a person, longest first."""
    async with transaction(backends.engine) as db:
        return await repository.waiting_approvals(db, session_id, project=principal.project)


async def answer_approval(
    backends: Backends,
    session_id: SessionId,
    step: int,
    *,
    verdict: Verdict | None = None,
    answer: Any = None,
    comment: str | None = None,
    reason: str | None = None,
    principal: Principal,
    request_id: str | None = None,
) -> int:
    """The node's `interrupt()` returns `answer`, or the verdict where there is no answer.

    Returns the offset of the approval_event. Raises NotFound, NotWaiting when nothing is asked (any more), and
    BadAnswer when that is not what the step asks for; then the question stays.
    """
    value = verdict if answer is None else answer
    async with transaction(backends.engine) as db:
        await learn_secrets(backends, db)
        wanted = await step_repository.answer_schema(db, session_id, step, project=principal.project)
    if wanted is not None:  # in a thread, and before any lock is taken: it may take a while
        await asyncio.to_thread(answer_schemas.check_answer, wanted, value)
    stored = await backends.secrecy.kept(references.as_it_is(value), "exact")
    details = {"step": step, "verdict": verdict or "approved"}
    control = Control("approval.answer", principal, reason=reason or comment, request_id=request_id, details=details)
    async with control_of_session(backends, session_id, control) as work:
        session = await repository.session_row(work.db, session_id)
        row = await step_repository.step_row(work.db, session_id, step)
        if not transitions.may_step("answer", row.status):
            raise NotWaiting(f"step {step} is {row.status}, it does not wait for an answer")
        if await step_repository.answer_schema(work.db, session_id, step) != wanted:
            raise NotWaiting(f"step {step} was answered, and asks something else now")
        status = transitions.after("answer", session.status)
        await step_repository.requeue(
            work.db,
            row,
            attempt=row.attempt,
            failures=0,  # with an answer LangGraph runs the node anew, and counts its tries from there
            lost=row.lost,
            answer=repository.as_json(stored),
        )
        told = await work.outsource(session_id, stored, "exact")
        answered = facts.approval_answered(
            row, verdict=verdict or "approved", answer=told, comment=comment, principal=principal
        )
        appended = await work.append(session_id, answered, facts.step_queued(row, attempt=row.attempt))
        if status != session.status:
            await work.append(session_id, facts.session_running())
            await repository.set_status(work.db, session_id, status, None)
        work.after_commit.append(
            lambda: backends.dispatch.run_step(session_id, step, row.attempt, queue=row.queue, agent=row.agent)
        )
        return appended[0].offset
