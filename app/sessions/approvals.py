"""What waits for a person, and the answers. One function is one transaction."""

import asyncio
from typing import Any

from app.database import transaction
from app.errors import NotWaiting, WrongQuestion
from app.events import references
from app.events.cursors import Cursor
from app.principals.control import control_of_session
from app.principals.model import Control, Once, Principal
from app.progress import SessionId
from app.sessions import answer_schemas, facts, repository, step_repository, transitions, view_repository
from app.sessions.facts import Verdict
from app.sessions.knowing import learn_secrets
from app.sessions.lists import Approval, OpenQuestion
from app.unit_of_work import Backends


async def list_approvals(
    backends: Backends, *, principal: Principal, session_id: SessionId | None = None
) -> list[Approval]:
    """What waits for a person, longest first."""
    async with transaction(backends.engine) as db:
        return await view_repository.waiting_approvals(db, session_id, project=principal.project)


async def answer_approval(
    backends: Backends,
    session_id: SessionId,
    step: int,
    *,
    question: Cursor | None,
    verdict: Verdict | None = None,
    answer: Any = None,
    comment: str | None = None,
    reason: str | None = None,
    principal: Principal,
    request_id: str | None = None,
    once: Once | None = None,
) -> int:
    """The node's `interrupt()` returns `answer`, or the verdict where there is no answer.

    `question` is the id of the question's event. Returns the offset of the answer's event, with `once` of the first
    one. Raises NotFound, NotWaiting when nothing is asked (any more), WrongQuestion where something else is, and
    BadAnswer when that is not what the step asks for; then the question stays.
    """
    value = verdict if answer is None else answer
    async with transaction(backends.engine) as db:
        await learn_secrets(backends, db)
        seen = await view_repository.open_question(db, session_id, step, project=principal.project)
    if seen is not None and seen.is_meant_by(question) and seen.answer_schema is not None:
        # In a thread, and before any lock is taken: it may take a while.
        await asyncio.to_thread(answer_schemas.check_answer, seen.answer_schema, value)
    stored = await backends.secrecy.kept(references.as_it_is(value), "exact")
    details = {"step": step, "verdict": verdict or "approved", "question": None if question is None else str(question)}
    control = Control(
        "approval.answer", principal, reason=reason or comment, request_id=request_id, details=details, once=once
    )
    async with control_of_session(backends, session_id, control) as work:
        if control.first is not None:
            return int(control.first["offset"])
        session = await repository.session_row(work.db, session_id)
        row = await step_repository.step_row(work.db, session_id, step)
        if not transitions.may_step("answer", row.status):
            raise NotWaiting(f"step {step} is {row.status}, it does not wait for an answer")
        asked = await view_repository.open_question(work.db, session_id, step)
        assert asked is not None  # it waits
        _check_meant(asked, question, seen, step)
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
            row,
            question=asked.offset,
            verdict=verdict or "approved",
            answer=told,
            comment=comment,
            principal=principal,
        )
        appended = await work.append(session_id, answered, facts.step_queued(row, attempt=row.attempt))
        if status != session.status:
            await work.append(session_id, facts.session_running())
            await repository.set_status(work.db, session_id, status, None)
        work.after_commit.append(
            lambda: backends.dispatch.run_step(session_id, step, row.attempt, queue=row.queue, agent=row.agent)
        )
        control.details["offset"] = appended[0].offset
        return appended[0].offset


def _check_meant(asked: OpenQuestion, named: Cursor | None, seen: OpenQuestion | None, step: int) -> None:
    """Raises WrongQuestion. What was answered between the look and the lock is another question, too."""
    if asked.is_meant_by(named) and asked == seen:
        return
    waits = f"step {step} asks {asked.id} now"
    detail = f"the answer names no question; {waits}" if named is None else f"the answer is to {named}; {waits}"
    told = {"id": asked.id, "offset": asked.offset, "question": asked.question, "answer_schema": asked.answer_schema}
    raise WrongQuestion(f"{detail}: look at that question, and name it as `question`", open_question=told)
