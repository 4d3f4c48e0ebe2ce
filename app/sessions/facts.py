"""Every event of a session, built in one place: what agents, workers, clients and the SQL functions record. Pure."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidEvent
from app.events.types import (
    AgentEvent,
    ApprovalEvent,
    Continued,
    ModelEvent,
    SessionEvent,
    SessionStatus,
    StepEvent,
    StepStatus,
    ToolEvent,
    WorkflowEvent,
)
from app.principals.model import Principal
from app.progress import ModelCall, Phase, ToolCall
from app.sessions.model import NewSession, NewStep, RegisteredWorkflow

MAX_ERROR_CHARACTERS = 4000


Verdict = Literal["approved", "rejected"]

_AGENT_EVENT = TypeAdapter(AgentEvent)


def agent_event(
    *,
    agent: str,
    phase: Phase,
    msg: str,
    progress: float,
    total: float | None,
    details: Mapping[str, Any],
    step: int,
    attempt: int,
    by_token: bool = False,
) -> AgentEvent:
    """Raises InvalidEvent for what the published schema does not allow, and when `total` is not positive."""
    event: AgentEvent = {
        "t": "agent_event",
        "agent": agent,
        "phase": phase,
        "msg": msg,
        "progress": progress,
        "total": total,
        "pct": None,
        "details": dict(details),
        "step": step,
        "attempt": attempt,
    }
    try:
        _AGENT_EVENT.validate_python(event, strict=True)
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise InvalidEvent("; ".join(faults)) from None
    if total is not None:
        if not total > 0:
            raise InvalidEvent(f"total must be positive (or null when it is not known), not {total!r}")
        event["pct"] = progress / total
    if by_token:
        event["via"] = "step token"
    return event


class Attempt(Protocol):
    """What a step's events say of it; a StepRow is one."""

    @property
    def step(self) -> int: ...
    @property
    def agent(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def queue(self) -> str: ...


def session_created(
    new: NewSession,
    *,
    path: str | None,
    repo: str | None,
    given: Mapping[str, Any],
    workflow: RegisteredWorkflow,
    project: str,
    principal: Principal,
    continues: Continued | None,
) -> SessionEvent:
    """What a session was started with; a rebuild begins with it.

    `given` are `input`, and `context`, `config` and `state` where there are any; values, or references to artifacts.
    """
    event: SessionEvent = {
        "t": "session_event",
        "status": "created",
        "task": new.task,
        "input": given["input"],
        "workflow": workflow.name,
        "version": workflow.version,
        "langgraph": workflow.langgraph_version,
        "path": path,
        "repo": repo,
        "priority": new.priority,
        "options": new.options,
        "project": project,
        "principal": principal.name,
    }
    if "context" in given:
        event["context"] = given["context"]
    if "config" in given:
        event["config"] = given["config"]
    if continues is not None:
        event["continues"] = continues
        event["state"] = given["state"]
    return event


def session_running(*, reason: str | None = None, principal: Principal | None = None) -> SessionEvent:
    """It begins, goes on after a wait, or was retried by `principal`."""
    return _with_principal({"t": "session_event", "status": "running", "reason": reason}, principal)


def session_waiting(reason: str) -> SessionEvent:
    return {"t": "session_event", "status": "waiting", "reason": reason}


def session_ended(
    status: SessionStatus, *, reason: str | None, result: Any = None, principal: Principal | None = None
) -> SessionEvent:
    """The terminal event. Only a succeeded session has a `result`, which may be None."""
    event: SessionEvent = {"t": "session_event", "status": status, "reason": reason}
    event = _with_principal(event, principal)
    if status == "succeeded":
        event["result"] = result
    return event


def _with_principal(event: SessionEvent, principal: Principal | None) -> SessionEvent:
    if principal is not None:
        event["principal"] = principal.name
    return event


def step_first_queued(number: int, step: NewStep, *, superstep: int) -> StepEvent:
    """A fold found it pending. `superstep` and `task_path` are what a rebuild knows it by."""
    return {
        "t": "step_event",
        "step": number,
        "agent": step.agent,
        "status": "queued",
        "attempt": 1,
        "queue": step.queue,
        "superstep": superstep,
        "task_path": step.task_path,
    }


def step_queued(row: Attempt, *, attempt: int) -> StepEvent:
    """Its next attempt, or the same one with an answer."""
    event = _step_event(row, "queued")
    event["attempt"] = attempt
    event["queue"] = row.queue
    return event


def step_running(*, step: int, agent: str, attempt: int, worker: str) -> StepEvent:
    return {
        "t": "step_event",
        "step": step,
        "agent": agent,
        "status": "running",
        "attempt": attempt,
        "worker": worker,
    }


def step_succeeded(row: Attempt, *, update: Any, commit: str | None) -> StepEvent:
    """`update` is what the node returned, as the codec wrote it: a fold reads it."""
    event = _step_event(row, "succeeded")
    event["update"] = update
    if commit is not None:
        event["commit"] = commit
    return event


def step_waiting(row: Attempt) -> StepEvent:
    return _step_event(row, "waiting")


def step_failed(row: Attempt, error: str, *, returned: Any = None) -> StepEvent:
    """This attempt; whether there is another one, the next event says."""
    event = _step_event(row, "failed")
    event["error"] = error[:MAX_ERROR_CHARACTERS]
    if returned is not None:
        event["returned"] = returned
    return event


def step_lost(row: Attempt, error: str) -> StepEvent:
    event = _step_event(row, "lost")
    event["error"] = error
    return event


def step_cancelled(row: Attempt) -> StepEvent:
    return _step_event(row, "cancelled")


def _step_event(row: Attempt, status: StepStatus) -> StepEvent:
    return {"t": "step_event", "step": row.step, "agent": row.agent, "status": status, "attempt": row.attempt}


def approval_requested(row: Attempt, question: Any, answer_schema: Any = None) -> ApprovalEvent:
    event: ApprovalEvent = {
        "t": "approval_event",
        "step": row.step,
        "attempt": row.attempt,
        "status": "requested",
        "question": question,
    }
    if answer_schema is not None:
        event["answer_schema"] = answer_schema
    return event


def approval_answered(
    row: Attempt, *, question: int, verdict: Verdict, answer: Any, comment: str | None, principal: Principal
) -> ApprovalEvent:
    """`question` is the offset of the event that it answers."""
    return {
        "t": "approval_event",
        "step": row.step,
        "attempt": row.attempt,
        "status": verdict,
        "answers": question,
        "answer": answer,
        "comment": comment,
        "principal": principal.name,
    }


def folded(node: str, delta: Any) -> WorkflowEvent:
    """A node's update, as LangGraph's `astream(stream_mode="updates")` gave it at the fold."""
    return {"t": "workflow_event", "node": node, "delta": delta}


def model_called(call: ModelCall, row: Attempt, *, request: Any, response: Any) -> ModelEvent:
    """`request` and `response` are the call's, or references to artifacts."""
    return {
        "t": "model_event",
        "agent": call.agent,
        "provider": call.provider,
        "model": call.model,
        "request": request,
        "response": response,
        "usage": dict(call.usage),
        "cost": call.cost,
        "duration_ms": call.duration_ms,
        "error": call.error,
        "trace": dict(call.trace),
        "step": row.step,
        "attempt": row.attempt,
    }


def tool_called(call: ToolCall, row: Attempt, *, arguments: Any, answer: Any) -> ToolEvent:
    """`arguments` and `answer` are the call's, or references to artifacts."""
    return {
        "t": "tool_event",
        "agent": call.agent,
        "name": call.name,
        "arguments": arguments,
        "answer": answer,
        "call_id": call.call_id,
        "duration_ms": call.duration_ms,
        "error": call.error,
        "step": row.step,
        "attempt": row.attempt,
    }
