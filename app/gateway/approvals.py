"""What waits for a person, and the answers."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from app.gateway.callers import ToOperate, ToRead
from app.gateway.inputs import Appended, Body, Json, Reason, RequestId, SessionIdInPath, StepInPath, Text
from app.gateway.wiring import Wired
from app.progress import SessionId
from app.sessions import approvals
from app.sessions.model import Approval

router = APIRouter(tags=["approvals"])


class Approvals(BaseModel):
    approvals: list[Approval]


class Answer(Body):
    """A verdict, an answer of any shape that the node understands, or both."""

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
) -> Appended:
    """Answers a step's question; the step goes on with the answer."""
    offset = await approvals.answer_approval(
        gateway.backends,
        session_id,
        step,
        verdict=given.verdict,
        answer=given.answer,
        comment=given.comment,
        reason=given.reason,
        principal=principal,
        request_id=request_id,
    )
    return Appended(offset=offset)
