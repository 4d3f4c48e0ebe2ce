"""Calls of models: recording one, and what the session's earlier ones say. One function is one transaction."""

from dataclasses import asdict
from typing import Any

from app.database import transaction
from app.events import append, encoding, model_calls
from app.events.model_calls import PastAnswer, Spent
from app.events.types import ModelEvent
from app.progress import ModelCall, SessionId
from app.sessions.attempts import Claim
from app.sessions.unit import Services, unit


async def record_call(services: Services, claim: Claim, call: ModelCall, *, key: str) -> int:
    """Returns the event's offset; what is too large for an event becomes an artifact in the same transaction.

    May be repeated with the same `key` where the outcome of a commit is unknown.

    Raises LeaseLost, StreamClosed and InvalidEvent.
    """
    row = claim.step
    async with unit(services, row.session_id) as work:
        fields: dict[str, Any] = asdict(call)
        fields["request"] = await work.outsource(row.session_id, call.request, share=2)
        fields["response"] = await work.outsource(row.session_id, call.response, share=2)
        event: ModelEvent = {"t": "model_event", **fields, "step": row.step, "attempt": row.attempt}  # type: ignore[typeddict-item]  # ModelCall's fields are the event's
        entry = encoding.item(row.session_id, event, lease=claim.lease, dedupe_key=key)
        recorded, is_new = await append.append_once(work.db, entry)
        if is_new:
            work.recorded.append(recorded)
        return recorded.offset


async def read_spending(services: Services, session_id: SessionId, *, asking_step: int) -> tuple[Spent, list[Any]]:
    """What the session has spent, and what people answered when its other steps asked for more."""
    async with transaction(services.engine) as db:
        spent = await model_calls.read_spent(db, session_id)
        return spent, await model_calls.read_raises(db, session_id, besides=asking_step)


async def find_answer(services: Services, session_id: SessionId, digest: str, *, step: int | None) -> PastAnswer | None:
    async with transaction(services.engine) as db:
        return await model_calls.find_answer(db, session_id, digest, step=step)


async def find_started_response(services: Services, session_id: SessionId, digest: str, *, step: int) -> str | None:
    async with transaction(services.engine) as db:
        return await model_calls.find_started_response(db, session_id, digest, step=step)
