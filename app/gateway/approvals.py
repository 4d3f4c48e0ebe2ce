"""What waits for a person, and the answers."""

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator

from app.errors import BadCursor
from app.events.cursors import PATTERN, Cursor
from app.gateway.callers import ToOperate, ToRead
from app.gateway.inputs import (
    Appended,
    Body,
    IdempotencyKey,
    Json,
    Reason,
    RequestId,
    SessionIdInPath,
    StepInPath,
    Text,
)
from app.gateway.wiring import Wired
from app.principals.model import Once
from app.progress import SessionId
from app.sessions import approvals
from app.sessions.lists import Approval

router = APIRouter(tags=["approvals"])


class Approvals(BaseModel):
    approvals: list[Approval]


def _question(value: Any) -> Cursor | None:
    """Reads the id of the question's event, as a number or as text."""
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise ValueError('must be the id of the question\'s event, such as 12 or "2.12"')
    try:
        return Cursor.parse(text, what="it")
    except BadCursor as error:
        raise ValueError(str(error)) from None


Question = Annotated[
    Cursor | None,
    PlainValidator(_question),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": PATTERN}, {"type": "null"}]}),
]


class Answer(Body):
    """A verdict, an answer of any shape that the node understands, or both.

    Without its `question`, and with one that is not open, it is refused: it was meant for another one.
    """

    question: Question = Field(default=None, description="The id of the question's event, as `GET /approvals` has it.")
    verdict: Literal["approved", "rejected"] | None = None
    answer: Json = None
    comment: Annotated[Text, Field(max_length=10_000)] | None = None
    reason: Reason = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.verdict is None and "answer" not in self.model_fields_set:
            raise ValueError("give a verdict, an answer or both")
        return self


@router.get("/approvals")
async def list_approvals(gateway: Wired, principal: ToRead, session_id: SessionId | None = None) -> Approvals:
    """The questions that wait, longest first."""
    waiting = await approvals.list_approvals(gateway.backends, principal=principal, session_id=session_id)
    return Approvals(approvals=waiting)


@router.post("/sessions/{session_id}/approvals/{step}")
async def answer_approval(
    gateway: Wired,
    principal: ToOperate,
    session_id: SessionIdInPath,
    step: StepInPath,
    given: Answer,
    request_id: RequestId,
    key: IdempotencyKey = None,
) -> Appended:
    """Answers a step's question; the step goes on with the answer."""
    asked = given.model_dump(exclude={"question"})
    offset = await approvals.answer_approval(
        gateway.backends,
        session_id,
        step,
        question=given.question,
        verdict=given.verdict,
        answer=given.answer,
        comment=given.comment,
        reason=given.reason,
        principal=principal,
        request_id=request_id,
        once=Once.of(key, "answer", str(session_id), step, str(given.question), asked),
    )
    return Appended(offset=offset)
