"""Answers to questions that wait, as a client gives them that has just looked."""

from typing import Any

from app.database import transaction
from app.events.cursors import Cursor
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import approvals, view_repository
from app.unit_of_work import Backends
from tests.serving import Served


async def open_question(backends: Backends, session_id: SessionId, step: int) -> Cursor | None:
    """The id of what the step asks now."""
    async with transaction(backends.engine) as db:
        asked = await view_repository.open_question(db, session_id, step)
    return Cursor.parse(asked.id) if asked else None


async def answer(backends: Backends, session_id: SessionId, step: int, **given: Any) -> int:
    """Answers what the step asks now, as the owner."""
    question = await open_question(backends, session_id, step)
    given = {"principal": OWNER} | given
    return await approvals.answer_approval(backends, session_id, step, question=question, **given)


async def question_of(served: Served, session_id: object, step: int = 1) -> str:
    """The id of what the step asks now, as the list has it."""
    listed = (await served.client.get("/approvals", params={"session_id": str(session_id)})).json()["approvals"]
    return next(str(approval["id"]) for approval in listed if approval["step"] == step)
