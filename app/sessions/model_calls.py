"""Calls of models: recording one, and what the session's earlier ones say. One function is one transaction."""

from typing import Any

from app import metrics
from app.database import transaction
from app.events import append, model_calls
from app.events.model_calls import PastAnswer, Spent
from app.progress import ModelCall, SessionId
from app.sessions import facts
from app.sessions.attempts import Claim
from app.unit_of_work import Backends, unit_of_work


async def record_call(backends: Backends, claim: Claim, call: ModelCall, *, key: str) -> int:
    """Returns the event's offset; what is too large for an event becomes an artifact in the same transaction.

    May be repeated with the same `key` where the outcome of a commit is unknown.

    Raises LeaseLost, StreamClosed and InvalidEvent.
    """
    row = claim.step
    async with unit_of_work(backends, row.session_id) as work:
        request = await work.outsource(row.session_id, call.request, "shown", share=2)
        response = await work.outsource(row.session_id, call.response, "shown", share=2)
        event = facts.model_called(call, row, request=request, response=response)
        entry = backends.item(row.session_id, event, lease=claim.lease, dedupe_key=key)
        recorded, is_new = await append.append_once(work.db, entry)
        if is_new:
            work.recorded.append(recorded)
    # Not where it is new: of a call whose commit was in doubt only the repetition says that it is recorded.
    failed = call.error is not None
    metrics.model_called(call.provider, call.model, call.agent, usage=call.usage, cost=call.cost, failed=failed)
    return recorded.offset


async def read_spending(
    backends: Backends, session_id: SessionId, *, asking_step: int, question: str
) -> tuple[Spent, list[Any]]:
    """What the session has spent, and what people answered when its other steps asked for more.

    `question` is the `kind` of the questions that ask so.
    """
    async with transaction(backends.engine) as db:
        spent = await model_calls.read_spent(db, session_id)
        return spent, await model_calls.read_raises(db, session_id, kind=question, besides=asking_step)


async def find_answer(backends: Backends, session_id: SessionId, digest: str, *, step: int | None) -> PastAnswer | None:
    async with transaction(backends.engine) as db:
        return await model_calls.find_answer(db, session_id, digest, step=step)


async def find_started_response(backends: Backends, session_id: SessionId, digest: str, *, step: int) -> str | None:
    async with transaction(backends.engine) as db:
        return await model_calls.find_started_response(db, session_id, digest, step=step)
