"""Ending a session: its open steps end in the same transaction, and its terminal event is the stream's last."""

from functools import partial
from typing import Any, Literal

import orjson

from app.errors import LOOKED_THROUGH
from app.events.encoding import printable
from app.principals.model import Principal
from app.progress import SessionId
from app.sessions import facts, repository, step_repository, transitions
from app.sessions.admission import admit_sessions
from app.unit_of_work import UnitOfWork

LARGE_RESULT_BYTES = 128 * 1024
MAX_REASON_CHARACTERS = 4000


async def end_session(
    work: UnitOfWork,
    session_id: SessionId,
    move: Literal["finish", "fail", "cancel"],
    *,
    reason: str | None = None,
    result: Any = None,
    final_state: bytes | None = None,
    principal: Principal | None = None,
) -> None:
    """The caller holds the stream's lock. Raises Conflict where the session may not end so."""
    current = await repository.status_of(work.db, session_id)
    assert current is not None
    status = transitions.after(move, current)
    result = await work.backends.secrecy.kept(result, "result")
    told = await _outsource_result(work, session_id, result) if status == "succeeded" else None
    rows = await step_repository.open_steps(work.db, session_id)
    if rows:
        await step_repository.cancel_open_steps(work.db, session_id)
    if reason is not None:
        reason = printable(work.backends.secrecy.text(reason[:LOOKED_THROUGH]))[:MAX_REASON_CHARACTERS]
    ended = facts.session_ended(status, reason=reason, result=told, principal=principal)
    *_, last = await work.append(session_id, *map(facts.step_cancelled, rows), ended)
    await repository.set_ended(work.db, session_id, status, reason, result, final_state, last.ts)
    work.after_commit.append(partial(admit_sessions, work.backends))  # there is room for another one


async def _outsource_result(work: UnitOfWork, session_id: SessionId, result: Any) -> Any:
    """Takes only the large values out of a large result: branch, patch and summary stay where clients look."""
    if not isinstance(result, dict) or len(orjson.dumps(result)) <= LARGE_RESULT_BYTES:
        return await work.outsource(session_id, result, "result")
    kept = {
        key: await work.outsource(session_id, value, "result", share=2 * max(8, len(result)))
        for key, value in result.items()
    }
    return await work.outsource(session_id, kept, "result")
