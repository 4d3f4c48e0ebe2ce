"""Events as they are stored and as they stand on the wire, and the one encoder of both.

A stored event is one line of compact JSON that begins with `{"t":`. What only the database knows (offset,
stream, time) is put in front on the way out, so that readers get the stored bytes unchanged after it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired
from uuid import UUID

from pydantic import Discriminator, TypeAdapter
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.progress import Phase, SessionId

StreamId = NewType("StreamId", UUID)
AnyStreamId = StreamId | SessionId
StreamKind = Literal["session", "batch", "operators"]
SessionStatus = Literal["created", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[SessionStatus] = frozenset({"succeeded", "failed", "cancelled"})
StepStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "lost", "cancelled"]


class AgentEvent(TypedDict):
    """What an agent thinks, does, decides or delivers. `pct` = `progress` / `total`."""

    t: Literal["agent_event"]
    agent: str
    phase: Phase
    msg: str
    progress: float
    total: float | None
    pct: float | None
    details: dict[str, Any]
    step: int
    attempt: int


class WorkflowEvent(TypedDict):
    """One node's update, as LangGraph's `astream(stream_mode="updates")` gave it at the fold."""

    t: Literal["workflow_event"]
    node: str
    delta: Any


class StepEvent(TypedDict):
    """A step's change of status. `update` (with `succeeded`) is what the node returned: a fold reads it."""

    t: Literal["step_event"]
    step: int
    agent: str
    status: StepStatus
    attempt: int
    queue: NotRequired[str]
    superstep: NotRequired[int]
    task_path: NotRequired[str]
    worker: NotRequired[str]
    error: NotRequired[str]
    update: NotRequired[Any]
    commit: NotRequired[str]


class SessionEvent(TypedDict):
    """A session's change of status. `created` records what it was started with."""

    t: Literal["session_event"]
    status: SessionStatus
    task: NotRequired[str]
    input: NotRequired[Any]
    workflow: NotRequired[str]
    version: NotRequired[str]
    langgraph: NotRequired[str]
    reason: NotRequired[str | None]
    principal: NotRequired[str]
    result: NotRequired[Any]


class ApprovalEvent(TypedDict):
    """A question that waits for a person, or the answer to it."""

    t: Literal["approval_event"]
    step: int
    attempt: NotRequired[int]
    status: Literal["requested", "approved", "rejected", "expired"]
    question: NotRequired[Any]
    answer: NotRequired[Any]
    comment: NotRequired[str | None]
    principal: NotRequired[str]


class ModelEvent(TypedDict):
    """One call of a model."""

    t: Literal["model_event"]
    agent: str
    provider: str
    model: str
    request: Any
    response: Any
    usage: dict[str, Any]
    cost: float | None
    duration_ms: float
    error: str | None
    trace: NotRequired[dict[str, str]]
    step: int
    attempt: int


class BatchEvent(TypedDict):
    """The progress of a batch, on the batch's own stream."""

    t: Literal["batch_event"]
    status: str
    total: int
    done: int
    failed: int
    running: int
    sessions: NotRequired[list[Any]]


class ErasedEvent(TypedDict):
    """An event whose payload was erased; its digest still stands in the chain."""

    t: Literal["erased_event"]


StoredEvent = (
    AgentEvent | WorkflowEvent | StepEvent | SessionEvent | ApprovalEvent | ModelEvent | BatchEvent | ErasedEvent
)


class Envelope(TypedDict):
    """What stands in front of every event on the wire."""

    offset: int
    session_id: NotRequired[str]
    batch_id: NotRequired[str]
    stream_id: NotRequired[str]
    ts: str


class AgentEventOnWire(Envelope, AgentEvent): ...


class WorkflowEventOnWire(Envelope, WorkflowEvent): ...


class StepEventOnWire(Envelope, StepEvent): ...


class SessionEventOnWire(Envelope, SessionEvent): ...


class ApprovalEventOnWire(Envelope, ApprovalEvent): ...


class ModelEventOnWire(Envelope, ModelEvent): ...


class BatchEventOnWire(Envelope, BatchEvent): ...


class ErasedEventOnWire(Envelope, ErasedEvent): ...


Event = Annotated[
    AgentEventOnWire
    | WorkflowEventOnWire
    | StepEventOnWire
    | SessionEventOnWire
    | ApprovalEventOnWire
    | ModelEventOnWire
    | BatchEventOnWire
    | ErasedEventOnWire,
    Discriminator("t"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)

_ID_KEY: Mapping[StreamKind, str] = {"session": "session_id", "batch": "batch_id", "operators": "stream_id"}


def format_ts(ts: datetime) -> str:
    """RFC 3339 in UTC with microseconds and Z."""
    # Every event that goes out passes here; strftime would take three times as long.
    return ts.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def stream_member(kind: StreamKind, stream_id: UUID) -> str:
    """The envelope's member that names the stream."""
    return f'"{_ID_KEY[kind]}":"{stream_id}"'


class Recorded(NamedTuple):
    """An event in the log. `data` is the stored text.

    A tuple, because readers make millions of them: a frozen dataclass takes five times as long.
    """

    stream_id: StreamId | SessionId
    kind: StreamKind
    offset: int
    ts: datetime
    t: str
    agent: str | None
    phase: str | None
    data: str

    def wire(self) -> str:
        """What SSE frames, JSON pages and exports share: an envelope, then the stored bytes."""
        return (
            f'{{"offset":{self.offset},{stream_member(self.kind, self.stream_id)},'
            f'"ts":"{format_ts(self.ts)}",{self.data[1:]}'
        )

    def frame(self) -> bytes:
        """The SSE frame as in the first epoch; its `event:` is t without `_event`. read.read_frames makes the same."""
        return f"id: {self.offset}\nevent: {self.t.removesuffix('_event')}\ndata: {self.wire()}\n\n".encode()
