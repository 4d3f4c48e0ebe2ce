"""report_progress(): how an agent says what it thinks, does and decides; and which models and tools it called.

The step runner sets the current step; agents only call the functions. Nothing here does I/O: a `Reporter`
(the worker's log, or a test's list) takes what they say.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol
from uuid import UUID

from app.errors import NoCurrentStep

SessionId = NewType("SessionId", UUID)
Phase = Literal["think", "progress", "decision", "result"]


@dataclass(frozen=True, slots=True)
class Report:
    """What one call of `report_progress` says. `progress` and `total` are in the caller's unit."""

    agent: str
    message: str
    progress: float
    total: float | None = 1.0
    phase: Phase = "progress"
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model, as it went. `usage` counts tokens, `cost` is in USD (None: it is not known)."""

    agent: str
    provider: str
    model: str
    request: Any
    response: Any
    usage: Mapping[str, int]
    cost: float | None
    duration_ms: float
    error: str | None
    trace: Mapping[str, str]
    """Ids under which the provider knows the call, and `request_digest`, under which we do."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool, as it went. `call_id` is the one that the model gave it, if a model asked for it."""

    agent: str
    name: str
    arguments: Any
    answer: Any
    duration_ms: float
    error: str | None
    call_id: str | None


class Reporter(Protocol):
    """All methods must be callable from any thread and any event loop."""

    async def report(self, step: "CurrentStep", report: Report) -> int:
        """Appends the report; returns its offset when it is durable."""
        ...

    async def record_model_call(self, step: "CurrentStep", call: ModelCall) -> int:
        """Appends a `model_event`; returns its offset when it is durable."""
        ...

    async def record_tool_call(self, step: "CurrentStep", call: ToolCall) -> int:
        """Appends a `tool_event`; returns its offset when it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """Which attempt of which step runs in this context, and who takes its reports."""

    session_id: SessionId
    step: int
    attempt: int
    agent: str
    reporter: Reporter
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a subprocess agent needs to report by itself: STELLWERK_URL, _SESSION and _STEP_TOKEN."""


_current_step: ContextVar[CurrentStep] = ContextVar("current_step")


def current_step() -> CurrentStep:
    """Raises NoCurrentStep outside of a step."""
    try:
        return _current_step.get()
    except LookupError:
        raise NoCurrentStep from None


@contextmanager
def running_step(step: CurrentStep) -> Iterator[None]:
    """Makes `step` the current one in this context, in tasks started from it, and in `asyncio.to_thread`.

    A plain `threading.Thread` starts with an empty context: give it `contextvars.copy_context().run` as its target.
    """
    token = _current_step.set(step)
    try:
        yield
    finally:
        _current_step.reset(token)


async def report_progress(
    progress: float,
    message: str,
    total: float | None = 1.0,
    agent: str | None = None,
    phase: Phase | None = None,
    details: Mapping[str, Any] | None = None,
) -> int:
    """Records one `agent_event` of the current step and returns its offset once it is durable.

    `pct` of the event is `progress / total`; a `total` of None says that the end is not known.
    `agent` defaults to the running node's name, `phase` to "progress".
    Raises NoCurrentStep outside of a step, InvalidEvent or EventTooLarge for what the log does not take,
    LeaseLost when this attempt has been given to another worker or cancelled.
    """
    step = current_step()
    report = Report(agent or step.agent, message, progress, total, phase or "progress", details or {})
    return await step.reporter.report(step, report)


async def record_model_call(call: ModelCall) -> int:
    """Records one `model_event` of the current step and returns its offset once it is durable.

    Raises as report_progress does, but nothing is too large: what an event cannot hold becomes an artifact.
    """
    step = current_step()
    return await step.reporter.record_model_call(step, call)


async def record_tool_call(call: ToolCall) -> int:
    """Records one `tool_event` of the current step, as record_model_call does with a model's."""
    step = current_step()
    return await step.reporter.record_tool_call(step, call)


_records_itself: ContextVar[bool] = ContextVar("records_itself", default=False)


@contextmanager
def recording_myself() -> Iterator[None]:
    """LangChain's models that are called in here are recorded by their caller, so nothing else records them."""
    token = _records_itself.set(True)
    try:
        yield
    finally:
        _records_itself.reset(token)


def is_recorded_by_caller() -> bool:
    """Says whether this runs within recording_myself."""
    return _records_itself.get()
