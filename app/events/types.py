"""Events as they are stored and as they stand on the wire, and the one encoder of both.

A stored event is one line of compact JSON that begins with `{"t":`. What only the database knows (offset,
stream, time) is put in front on the way out, so that readers get the stored bytes unchanged behind it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired
from uuid import UUID

import orjson
from pydantic import Discriminator, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.errors import EventTooLarge, InvalidEvent
from app.progress import Phase, SessionId

StreamId = NewType("StreamId", UUID)
StreamKind = Literal["session", "batch", "operators"]
SessionStatus = Literal["created", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[SessionStatus] = frozenset({"succeeded", "failed", "cancelled"})
StepStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "lost", "cancelled"]

RESERVED_KEYS = frozenset({"offset", "ts", "session_id", "batch_id", "stream_id"})
"""Only the envelope holds these."""
MAX_DEPTH = 100


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


type_of_stored = (
    AgentEvent | WorkflowEvent | StepEvent | SessionEvent | ApprovalEvent | ModelEvent | BatchEvent | ErasedEvent
)
StoredEvent = Annotated[type_of_stored, Discriminator("t")]


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

_AGENT_EVENT = TypeAdapter(AgentEvent)
_ID_KEY: Mapping[StreamKind, str] = {"session": "session_id", "batch": "batch_id", "operators": "stream_id"}


@dataclass(frozen=True, slots=True)
class Beside:
    """The columns that stand beside an event's text, for queries."""

    t: str
    agent: str | None
    phase: str | None
    step: int | None
    attempt: int | None


def beside(event: Mapping[str, Any]) -> Beside:
    return Beside(
        t=event["t"],
        agent=event.get("agent") or event.get("node"),
        phase=event.get("phase"),
        step=event.get("step"),
        attempt=event.get("attempt"),
    )


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
    return event


def encode(event: type_of_stored, *, max_bytes: int) -> str:
    """The text to store. Raises InvalidEvent and EventTooLarge; never changes a value silently."""
    if reserved := RESERVED_KEYS & event.keys():
        raise InvalidEvent(f"the keys {sorted(reserved)} are reserved for the log")
    check_json(event)
    try:
        data = orjson.dumps(event)
    except (TypeError, ValueError) as error:  # lone surrogates, integers beyond 64 bits
        raise InvalidEvent(f"the event cannot be written as JSON: {error}") from error
    if len(data) > max_bytes:
        raise EventTooLarge(
            f"the event has {len(data)} bytes, the log takes {max_bytes} (STELLWERK_MAX_EVENT_BYTES);"
            " put the large part into a file or an artifact"
        )
    return data.decode()


def printable(text: str) -> str:
    """`text` as the log takes it: without NUL and lone surrogates, which Postgres does not store."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def check_json(value: object, *, where: str = "event", depth: int = 0) -> None:
    """Raises InvalidEvent for what JSON or Postgres would change or refuse."""
    if depth > MAX_DEPTH:
        raise InvalidEvent(f"{where[:60]}… is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool() | int() | datetime() | date() | time() | UUID():
            pass
        case str():
            if "\x00" in value:
                raise InvalidEvent(f"{where} holds a NUL character")
        case float():
            if not math.isfinite(value):
                raise InvalidEvent(f"{where} is {value}; JSON has finite numbers only")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or "\x00" in key:
                    raise InvalidEvent(f"{where} has the key {key!r}; keys are text without NUL")
                check_json(item, where=f"{where}.{key}", depth=depth + 1)
        case list() | tuple():
            for index, item in enumerate(value):
                check_json(item, where=f"{where}[{index}]", depth=depth + 1)
        case _:
            raise InvalidEvent(f"{where} is a {type(value).__name__}, which has no JSON form")


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
        """The SSE frame; its `event:` is t without `_event`, its `id:` the offset. log.read_frames makes the same."""
        return f"id: {self.offset}\nevent: {self.t.removesuffix('_event')}\ndata: {self.wire()}\n\n".encode()
