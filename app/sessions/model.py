"""Sessions and steps: statuses and what may follow what. Pure.

session   created → running ⇄ waiting → succeeded | failed | cancelled
step      queued → running → succeeded | failed
             ↑        ├→ waiting (for an answer) → queued
             └────────┴→ (attempt failed or lost: the next one is queued)
          any open step → cancelled, when its session ends
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from app.errors import AccessDenied
from app.events import types
from app.events.types import SessionStatus, StepStatus
from app.progress import SessionId

TERMINAL = types.TERMINAL
OPEN: frozenset[StepStatus] = frozenset({"queued", "running", "waiting"})


def new_session_id() -> SessionId:
    return SessionId(uuid7())


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client asks for. `input` is the graph's initial state, before task and path are merged in."""

    task: str
    workflow: str = "repair"
    input: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    repo: str | None = None
    priority: int = 0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as readers see it. `progress` is its last report's pct."""

    step: int
    superstep: int
    agent: str
    queue: str
    status: StepStatus
    attempt: int
    failures: int
    lost: int
    worker: str | None
    error: str | None
    question: Any
    commit: str | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as readers see it."""

    session_id: SessionId
    status: SessionStatus
    reason: str | None
    task: str
    workflow: str
    workflow_version: str
    path: str | None
    repo: str | None
    priority: int
    principal: str
    head: int
    created_at: datetime
    ended_at: datetime | None
    result: Any
    steps: tuple[StepView, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """A question that waits for a person."""

    session_id: SessionId
    step: int
    agent: str
    task: str
    question: Any
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class StepToken:
    """Lets a subprocess of an attempt append `agent_event`s to its own step, as long as the lease lives."""

    session_id: SessionId
    step: int
    attempt: int
    agent: str
    lease: UUID

    def __str__(self) -> str:
        return f"step.{self.session_id}.{self.step}.{self.attempt}.{self.lease}.{self.agent}"

    @classmethod
    def parse(cls, token: str) -> "StepToken":
        """Raises AccessDenied."""
        try:
            prefix, session, step, attempt, lease, agent = token.split(".", 5)
            if prefix != "step":
                raise ValueError(prefix)
            return cls(SessionId(UUID(session)), _number(step), _number(attempt), agent, UUID(lease))
        except ValueError:
            raise AccessDenied("this is no step token") from None


def _number(digits: str) -> int:
    """Of a step or an attempt, as Postgres' integers hold it. Raises ValueError."""
    number = int(digits)
    if str(number) != digits or not 0 < number < 2**31:
        raise ValueError(digits)
    return number


def retry_delay(failures: int, base: timedelta) -> timedelta:
    """Exponential back-off: base, 2 base, 4 base …, at most five minutes."""
    return min(base * 2.0 ** (failures - 1), timedelta(minutes=5))
