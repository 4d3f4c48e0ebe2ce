"""What people do to sessions that run or have ended: cancel and retry. One function is one transaction."""

from datetime import datetime

from app.events import append
from app.principals.control import control_of_session
from app.principals.model import Control, Once, Principal
from app.progress import SessionId
from app.sessions import facts, repository, step_repository, transitions
from app.sessions.ending import end_session
from app.sessions.model import SessionView
from app.unit_of_work import Backends


async def cancel_session(
    backends: Backends,
    session_id: SessionId,
    *,
    principal: Principal,
    reason: str | None = None,
    request_id: str | None = None,
    once: Once | None = None,
) -> SessionView:
    """Cancelling a cancelled session changes nothing. Raises NotFound, and Conflict when it ended otherwise."""
    control = Control("session.cancel", principal, reason=reason, request_id=request_id, once=once)
    async with control_of_session(backends, session_id, control) as work:
        view = await repository.session_view(work.db, session_id)
        if control.first is not None:
            return view
        if transitions.after("cancel", view.status) == view.status:
            control.outcome = "unchanged"
            return view
        await end_session(work, session_id, "cancel", reason=reason, principal=principal)
        work.after_commit.append(lambda: backends.push.cancel(session_id))
        return await repository.session_view(work.db, session_id)


async def grant_ticket(
    backends: Backends,
    session_id: SessionId,
    *,
    principal: Principal,
    expires_at: datetime,
    reason: str | None = None,
    request_id: str | None = None,
) -> None:
    """Records that the session's stream may be read by whom a ticket is given. Raises NotFound."""
    details = {"expires_at": expires_at.isoformat()}
    control = Control("ticket.create", principal, reason=reason, request_id=request_id, details=details)
    async with control_of_session(backends, session_id, control) as work:
        await repository.session_row(work.db, session_id)  # an operators' stream is no session


async def retry_session(
    backends: Backends,
    session_id: SessionId,
    *,
    principal: Principal,
    reason: str | None = None,
    request_id: str | None = None,
    once: Once | None = None,
) -> SessionView:
    """Takes a failed session up again in the same log, with new attempts of what failed or was cancelled.

    What succeeded stands. With `once` a repetition opens it no second time, whatever became of it since. Raises
    NotFound, and Conflict for a session that has not failed.
    """
    control = Control("session.retry", principal, reason=reason, request_id=request_id, once=once)
    async with control_of_session(backends, session_id, control) as work:
        if control.first is not None:
            return await repository.session_view(work.db, session_id)
        session = await repository.session_row(work.db, session_id)
        status = transitions.after("retry", session.status)
        await append.reopen(work.db, session_id)
        await repository.set_status(work.db, session_id, status, None)
        rows = await step_repository.unfinished_steps(work.db, session_id)
        for row in rows:
            # One lost attempt stays on the account: the step goes on running alone.
            await step_repository.requeue(work.db, row, attempt=row.attempt + 1, failures=0, lost=min(row.lost, 1))
        running = facts.session_running(reason=reason, principal=principal)
        queued = [facts.step_queued(row, attempt=row.attempt + 1) for row in rows]
        await work.append(session_id, running, *queued)

        def ring() -> None:
            for row in rows:
                backends.dispatch.run_step(session_id, row.step, row.attempt + 1, queue=row.queue, agent=row.agent)
            if not rows:  # a fold failed, not a step
                backends.dispatch.advance_session(session_id)

        work.after_commit.append(ring)
        return await repository.session_view(work.db, session_id)
