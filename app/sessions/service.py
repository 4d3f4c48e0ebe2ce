"""What clients do with sessions. One function is one transaction; doorbells ring after its commit."""

import hashlib
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Literal

import orjson
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import transaction
from app.errors import Conflict, IdempotencyMismatch, NotFound, NotWaiting, UnknownWorkflow
from app.events import append, artifacts, encoding
from app.events.encoding import printable
from app.events.types import SessionEvent, SessionStatus, StepEvent
from app.progress import Report, SessionId
from app.sessions import repository, step_repository
from app.sessions.facts import agent_event
from app.sessions.model import (
    TERMINAL,
    Approval,
    NewSession,
    SessionView,
    StepToken,
    new_session_id,
)
from app.sessions.repository import SessionRow
from app.sessions.step_repository import StepRow
from app.sessions.unit import Services, Unit, unit

LARGE_RESULT_BYTES = 128 * 1024
MAX_REASON_CHARACTERS = 4000


async def create_session(
    services: Services, new: NewSession, *, principal: str, idempotency_key: str | None = None
) -> tuple[SessionView, bool]:
    """The session, and whether it is new: the same key and body again give the first one.

    Raises UnknownWorkflow and IdempotencyMismatch.
    """
    digest = hashlib.sha256(orjson.dumps(asdict(new), option=orjson.OPT_SORT_KEYS)).digest()
    try:
        async with unit(services) as work:
            if idempotency_key and (found := await _by_key(work.db, principal, idempotency_key, digest)):
                return found, False
            session_id = await _insert(work, new, principal, idempotency_key, digest)
            work.makes_room = True
            return await repository.session_view(work.db, session_id), True
    except IntegrityError:
        # Two requests with one new key at the same time: the other one was first.
        async with transaction(services.engine) as db:
            found = await _by_key(db, principal, idempotency_key, digest) if idempotency_key else None
        if found is None:
            raise
        return found, False


async def _by_key(db: AsyncConnection, principal: str, key: str, digest: bytes) -> SessionView | None:
    found = await repository.session_by_key(db, principal, key)
    if found is None:
        return None
    if found[1] != digest:
        raise IdempotencyMismatch
    return await repository.session_view(db, found[0])


async def _insert(work: Unit, new: NewSession, principal: str, key: str | None, digest: bytes) -> SessionId:
    workflow = await repository.newest_workflow(work.db, new.workflow)
    if workflow is None:
        names = ", ".join(await repository.workflow_names(work.db)) or "none yet: is a worker running?"
        raise UnknownWorkflow(f"no worker serves a workflow {new.workflow!r}; known: {names}")
    merged = {"task": new.task, "path": new.path}
    graph_input = {k: v for k, v in merged.items() if k in workflow.input_fields and v is not None} | new.input
    session_id = new_session_id()
    await append.create_stream(work.db, session_id, "session")
    await repository.insert_session(
        work.db,
        session_id,
        new,
        workflow,
        graph_input=graph_input,
        principal=principal,
        idempotency_key=key,
        request_digest=digest,
    )
    created: SessionEvent = {
        "t": "session_event",
        "status": "created",
        "task": new.task,
        "input": await work.outsource(session_id, graph_input),
        "workflow": workflow.name,
        "version": workflow.version,
        "langgraph": workflow.langgraph_version,
        "principal": principal,
    }
    await work.append(session_id, created)
    return session_id


async def get_session(services: Services, session_id: SessionId) -> SessionView:
    """With its steps. Raises NotFound."""
    async with transaction(services.engine) as db:
        view = await repository.session_view(db, session_id)
        steps = await repository.step_views(db, session_id)
    return SessionView(**{**{name: getattr(view, name) for name in view.__slots__}, "steps": steps})


async def list_sessions(
    services: Services,
    *,
    before: SessionId | None = None,
    limit: int = 100,
    status: str | None = None,
    workflow: str | None = None,
) -> list[SessionView]:
    """Newest first, without steps; `before` is the last id of the page before."""
    async with transaction(services.engine) as db:
        return await repository.list_views(db, before=before, limit=limit, status=status, workflow=workflow)


async def end_session(
    work: Unit,
    session_id: SessionId,
    status: SessionStatus,
    *,
    reason: str | None = None,
    result: Any = None,
    principal: str | None = None,
) -> None:
    """The terminal `session_event` is the stream's last event: open steps end in the same transaction."""
    for row in await step_repository.open_steps(work.db, session_id):
        await work.append(
            session_id,
            {"t": "step_event", "step": row.step, "agent": row.agent, "status": "cancelled", "attempt": row.attempt},
        )
    await step_repository.cancel_open_steps(work.db, session_id)
    reason = None if reason is None else printable(reason)[:MAX_REASON_CHARACTERS]
    event: SessionEvent = {"t": "session_event", "status": status, "reason": reason}
    if principal is not None:
        event["principal"] = principal
    if status == "succeeded":
        event["result"] = await _outsource_result(work, session_id, result)
    await work.append(session_id, event)
    await append.set_closed(work.db, session_id, True)
    work.makes_room = True
    await repository.update_session(
        work.db,
        session_id,
        status=status,
        reason=reason,
        result=None if result is None else repository.as_json(result),
        ended_at=True,
    )


async def _outsource_result(work: Unit, session_id: SessionId, result: Any) -> Any:
    """Of a large result only the large values: branch, patch and summary stay where clients look for them."""
    if not isinstance(result, dict) or len(orjson.dumps(result)) <= LARGE_RESULT_BYTES:
        return await work.outsource(session_id, result)
    kept = {
        key: await work.outsource(session_id, value, share=2 * max(8, len(result))) for key, value in result.items()
    }
    return await work.outsource(session_id, kept)


async def cancel_session(
    services: Services, session_id: SessionId, *, principal: str, reason: str | None = None
) -> SessionView:
    """Cancelling a cancelled session changes nothing. Raises NotFound, and Conflict when it ended otherwise."""
    async with unit(services, session_id) as work:
        view = await repository.session_view(work.db, session_id)
        if view.status == "cancelled":
            return view
        if view.status in TERMINAL:
            raise Conflict(f"the session has {view.status} already")
        await end_session(work, session_id, "cancelled", reason=reason, principal=principal)
        work.after_commit.append(lambda: services.push.cancel(session_id))
        return await repository.session_view(work.db, session_id)


async def retry_session(
    services: Services, session_id: SessionId, *, principal: str, reason: str | None = None
) -> SessionView:
    """Takes a failed session up again in the same log, with new attempts of what failed or was cancelled.

    What succeeded stands. Raises NotFound, and Conflict for a session that has not failed.
    """
    async with unit(services, session_id) as work:
        session = await repository.session_row(work.db, session_id)
        if session.status != "failed":
            raise Conflict(f"the session is {session.status}; only a failed one can be retried")
        await append.set_closed(work.db, session_id, False)
        await repository.update_session(work.db, session_id, status="running", reason=None, ended_at=None)
        event: SessionEvent = {"t": "session_event", "status": "running", "reason": reason, "principal": principal}
        await work.append(session_id, event)
        rows = await step_repository.unfinished_steps(work.db, session_id)
        for row in rows:
            # One lost attempt stays on the account: the step goes on running alone.
            await step_repository.requeue(
                work.db, row, attempt=row.attempt + 1, failures=0, lost=min(row.lost, 1), delay=timedelta(0)
            )
            await work.append(session_id, queued_event(row, attempt=row.attempt + 1))

        def ring() -> None:
            for row in rows:
                services.dispatch.run_step(session_id, row.step, row.attempt + 1, queue=row.queue)
            if not rows:  # a fold failed, not a step
                services.dispatch.advance_session(session_id)

        work.after_commit.append(ring)
        return await repository.session_view(work.db, session_id)


def queued_event(row: StepRow, *, attempt: int) -> StepEvent:
    return {
        "t": "step_event",
        "step": row.step,
        "agent": row.agent,
        "status": "queued",
        "attempt": attempt,
        "queue": row.queue,
    }


async def list_approvals(services: Services, *, session_id: SessionId | None = None) -> list[Approval]:
    """What waits for a person, longest first."""
    async with transaction(services.engine) as db:
        return await repository.waiting_approvals(db, session_id)


async def answer_approval(
    services: Services,
    session_id: SessionId,
    step: int,
    *,
    verdict: Literal["approved", "rejected"] | None = None,
    answer: Any = None,
    comment: str | None = None,
    principal: str,
) -> int:
    """The node's `interrupt()` returns `answer`, or the verdict where there is no answer.

    Returns the offset of the approval_event. Raises NotFound, and NotWaiting when nothing is asked (any more).
    """
    async with unit(services, session_id) as work:
        session = await repository.session_row(work.db, session_id)
        row = await step_repository.step_row(work.db, session_id, step)
        if row.status != "waiting":
            raise NotWaiting(f"step {step} is {row.status}, it does not wait for an answer")
        value = verdict if answer is None else answer
        await step_repository.requeue(
            work.db,
            row,
            attempt=row.attempt,
            failures=row.failures,
            lost=row.lost,
            delay=timedelta(0),
            answer=repository.as_json(value),
        )
        appended = await work.append(
            session_id,
            {
                "t": "approval_event",
                "step": step,
                "attempt": row.attempt,
                "status": verdict or "approved",
                "answer": await work.outsource(session_id, value),
                "comment": comment,
                "principal": principal,
            },
            queued_event(row, attempt=row.attempt),
        )
        await set_running(work, session)
        work.after_commit.append(lambda: services.dispatch.run_step(session_id, step, row.attempt, queue=row.queue))
        return appended[0].offset


async def set_running(work: Unit, session: SessionRow) -> None:
    """A session that waited goes on."""
    if session.status == "waiting":
        await work.append(session.session_id, {"t": "session_event", "status": "running", "reason": None})
        await repository.update_session(work.db, session.session_id, status="running", reason=None)


async def append_report(services: Services, token: StepToken, report: Report, *, dedupe_key: str | None = None) -> int:
    """A report from outside, by an attempt's step token; returns its offset.

    Raises LeaseLost when the attempt has ended, StreamClosed when its session has.
    """
    event = agent_event(
        agent=report.agent or token.agent,
        phase=report.phase,
        msg=report.message,
        progress=report.progress,
        total=report.total,
        details=report.details,
        step=token.step,
        attempt=token.attempt,
    )
    entry = encoding.item(token.session_id, event, lease=token.lease, dedupe_key=dedupe_key)
    async with unit(services) as work:
        event_recorded, is_new = await append.append_once(work.db, entry)
        if is_new:
            work.recorded.append(event_recorded)
        return event_recorded.offset


async def read_patch(services: Services, session_id: SessionId) -> bytes | None:
    """The result as a patch, None when nothing was changed. Raises NotFound while there is no result."""
    async with transaction(services.engine) as db:
        view = await repository.session_view(db, session_id)
        if view.status != "succeeded":
            raise NotFound(f"the session is {view.status}; a patch is there when it has succeeded")
        digest = view.result.get("patch_digest") if isinstance(view.result, dict) else None
        if digest is None:
            return None
        return (await artifacts.get_artifact(db, session_id, bytes.fromhex(digest))).content
