"""The shapes of events, as they are stored and as they stand on the wire.

A stored event is one line of compact JSON that begins with `{"t":`. What only the database knows (offset,
stream, time) is put in front on the way out, so that readers get the stored bytes unchanged after it.
"""

from typing import Annotated, Any, Literal, NewType, NotRequired, get_args, get_type_hints
from uuid import UUID

from pydantic import Discriminator, TypeAdapter
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.progress import Phase, SessionId

StreamId = NewType("StreamId", UUID)
AnyStreamId = StreamId | SessionId
StreamKind = Literal["session", "batch", "operators", "heads"]
HEADS_STREAM = StreamId(UUID("57e11e4c-9a1e-8b5d-a0c7-6865616473f1"))
"""The stream of heads has the same id in every deployment, so that there is one and it can be looked for."""
DEFAULT_PROJECT = "default"
"""Whom streams belong to that name no project."""
SessionStatus = Literal["created", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[SessionStatus] = frozenset({"succeeded", "failed", "cancelled"})
StepStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "lost", "cancelled"]
ApprovalStatus = Literal["requested", "approved", "rejected", "expired"]


class AgentEvent(TypedDict):
    """What an agent thinks, does, decides or delivers. `pct` = `progress` / `total`.

    `via` says that not the agent's own code said so, but a program that it has started.
    """

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
    via: NotRequired[Literal["step token"]]


class WorkflowEvent(TypedDict):
    """One node's update, as LangGraph's `astream(stream_mode="updates")` gave it at the fold."""

    t: Literal["workflow_event"]
    node: str
    delta: Any


class StepEvent(TypedDict):
    """A step's change of status. `update` (with `succeeded`) is what the node returned: a fold reads it.

    `returned` (with `failed`) shows what the node returned where that could not be recorded; it cannot be read back.
    """

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
    returned: NotRequired[Any]
    update: NotRequired[Any]
    commit: NotRequired[str]


class Continued(TypedDict):
    """The session from whose final state another one started, and the end of its log then."""

    session_id: str
    head: int
    head_chain: str


class SessionEvent(TypedDict):
    """A session's change of status. `created` records what it was started with.

    With `continues` that is also the `state` that the other session ended in.
    """

    t: Literal["session_event"]
    status: SessionStatus
    task: NotRequired[str]
    input: NotRequired[Any]
    context: NotRequired[Any]
    config: NotRequired[Any]
    continues: NotRequired[Continued]
    state: NotRequired[Any]
    workflow: NotRequired[str]
    version: NotRequired[str]
    langgraph: NotRequired[str]
    path: NotRequired[str | None]
    repo: NotRequired[str | None]
    priority: NotRequired[int]
    options: NotRequired[dict[str, Any]]
    project: NotRequired[str]
    reason: NotRequired[str | None]
    principal: NotRequired[str]
    result: NotRequired[Any]


class ApprovalEvent(TypedDict):
    """A question that waits for a person, or the answer to it. `answer_schema` is JSON Schema of what is wanted.

    `answers` is the offset of the question that it answers.
    """

    t: Literal["approval_event"]
    step: int
    attempt: NotRequired[int]
    status: ApprovalStatus
    question: NotRequired[Any]
    answer_schema: NotRequired[Any]
    answers: NotRequired[int]
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


class ToolEvent(TypedDict):
    """One call of a tool; `call_id` is the one that the model gave it, if a model asked for it."""

    t: Literal["tool_event"]
    agent: str
    name: str
    arguments: Any
    answer: Any
    call_id: str | None
    duration_ms: float
    error: str | None
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


class ControlEvent(TypedDict):
    """What a principal asked to be done to a session or a key, on the operators' stream of its project.

    `outcome` is `done`, `unchanged` (it was so already), `refused` (it could not be done then; `error` says why) or
    `denied` (`principal` may not do so): these are gathered, `count` of them in the minute that began at `since`.
    A `request_digest` is of a request with an Idempotency-Key, which tells another request with that key from it.
    """

    t: Literal["control_event"]
    action: str
    outcome: Literal["done", "unchanged", "refused", "denied"]
    principal: str | None
    key_id: str | None
    target: str | None
    reason: str | None
    request_id: str | None
    request_digest: NotRequired[str]
    error: NotRequired[str]
    details: NotRequired[dict[str, Any]]
    address: NotRequired[str]
    status: NotRequired[int]
    count: NotRequired[int]
    since: NotRequired[str]


class Head(TypedDict):
    """How far a stream was: its last offset, and the chain there."""

    stream_id: str
    head: int
    chain: str


class HeadsEvent(TypedDict):
    """The heads of the streams that moved, on a stream of their own: whoever keeps its chain keeps those of all.

    It speaks of the `events` of all streams after one place of the feed and up to another. `order` is the SHA-256 over
    their stream, offset, epoch, transaction and position in that order. Of many heads it is one part of several.
    """

    t: Literal["heads_event"]
    after: str
    until: str
    events: int
    order: str
    part: int
    parts: int
    heads: list[Head]


class ErasedEvent(TypedDict):
    """An event whose payload was erased; its digest still stands in the chain."""

    t: Literal["erased_event"]


StoredEvent = (
    AgentEvent
    | WorkflowEvent
    | StepEvent
    | SessionEvent
    | ApprovalEvent
    | ModelEvent
    | ToolEvent
    | BatchEvent
    | ControlEvent
    | HeadsEvent
    | ErasedEvent
)
KINDS: frozenset[str] = frozenset(
    kind for event in get_args(StoredEvent) for kind in get_args(get_type_hints(event)["t"])
)
"""All that `t` can be."""


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


class ToolEventOnWire(Envelope, ToolEvent): ...


class BatchEventOnWire(Envelope, BatchEvent): ...


class ControlEventOnWire(Envelope, ControlEvent): ...


class HeadsEventOnWire(Envelope, HeadsEvent): ...


class ErasedEventOnWire(Envelope, ErasedEvent): ...


Event = Annotated[
    AgentEventOnWire
    | WorkflowEventOnWire
    | StepEventOnWire
    | SessionEventOnWire
    | ApprovalEventOnWire
    | ModelEventOnWire
    | ToolEventOnWire
    | BatchEventOnWire
    | ControlEventOnWire
    | HeadsEventOnWire
    | ErasedEventOnWire,
    Discriminator("t"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
