"""Sessions and steps: what clients ask for and see, and what workers need of a row. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from app.errors import AccessDenied
from app.events.types import Continued, SessionStatus, StepStatus
from app.progress import SessionId


def new_session_id() -> SessionId:
    return SessionId(uuid7())


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client asks for. `input` is the graph's initial state, before task and path are merged in.

    A `workflow` of None is that of the session that it `continues`.
    """

    task: str
    workflow: str | None = "repair"
    input: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    repo: str | None = None
    priority: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    continues: SessionId | None = None
    repo_credentials: bytes | None = field(default=None, repr=False)
    """What was in the address of `repo`, encrypted."""

    def digest(self) -> bytes:
        """Tells two requests apart, but for credentials. What older versions did not know counts where it is given."""
        newer = ("context", "config", "continues")
        said = {name: value for name, value in asdict(self).items() if name not in newer or value is not None}
        del said["repo_credentials"]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class RegisteredWorkflow:
    """A workflow that a worker has told it serves."""

    name: str
    version: str
    langgraph_version: str
    input_fields: list[str]
    """The names in its input schema: where task and path may be merged in."""


@dataclass(frozen=True, slots=True)
class RefusedWorkflow:
    """A workflow that a worker was given and does not serve."""

    workflow: str | None
    """None: the module itself cannot be used, so what it has is not known."""
    module: str
    reason: str

    def __str__(self) -> str:
        what = f"the module {self.module}"
        if self.workflow is not None:
            what = f"the workflow {self.workflow!r} of {what}"
        return f"{what} is refused: {self.reason}"


@dataclass(frozen=True, slots=True)
class Parent:
    """What a session needs of the one that it continues."""

    session_id: SessionId
    status: SessionStatus
    project: str
    workflow: str
    workflow_version: str
    path: str | None
    repo: str | None
    base_commit: str | None
    final_state: bytes | None
    head: int
    head_chain: bytes

    @property
    def end(self) -> Continued:
        """The end of its log, as the first event of a session that continues it names it."""
        return {"session_id": str(self.session_id), "head": self.head, "head_chain": self.head_chain.hex()}


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What workers need of a session. The names are those of the columns, which repository.py reads by them."""

    session_id: SessionId
    status: SessionStatus
    reason: str | None
    workflow: str
    workflow_version: str
    task: str
    input: Any
    path: str | None
    repo: str | None
    snapshot: bytes | None
    snapshot_version: int
    folded_superstep: int | None
    last_step: int
    base_commit: str | None
    context: dict[str, Any] | None
    """None: none was given, which is another thing than an empty one."""
    config: dict[str, Any]
    """`tags`, `metadata`, `configurable`, `recursion_limit`: those that were given."""
    continues: UUID | None
    """The session from whose final state it started, and whose workspace it took over."""
    project: str
    repo_credentials: bytes | None
    """Encrypted; null: there are none, or the repository is cloned."""

    @property
    def next_superstep(self) -> int:
        """The one whose results are folded next; 0 is the graph's start."""
        return 0 if self.folded_superstep is None else self.folded_superstep + 1


@dataclass(frozen=True, slots=True)
class StepRow:
    """What workers need of a step. The names are those of the columns, which step_repository.py reads by them."""

    session_id: SessionId
    step: int
    superstep: int
    task_path: str
    agent: str
    queue: str
    status: StepStatus
    attempt: int
    failures: int
    lost: int
    max_attempts: int
    time_limit_ms: int
    lease_token: UUID | None
    node_snapshot: bytes | None
    answer: Any
    update_data: Any
    commit: str | None

    @property
    def time_limit(self) -> timedelta:
        return timedelta(milliseconds=self.time_limit_ms)


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step that a fold found pending. `input` is None when the node reads the state.

    A worker reads it from the snapshot; the row has it for workers of before, which may run beside it in an upgrade.
    """

    task_path: str
    agent: str
    queue: str
    input: bytes | None
    max_attempts: int
    time_limit: timedelta


@dataclass(frozen=True, slots=True)
class Advance:
    """What a fold found, as it is stored and shown. `deltas` are (node, update).

    `result` and `state` count when finished; `state` is JSON, as the codec writes it, for who continues the session.
    """

    snapshot: bytes
    deltas: Sequence[tuple[str, Any]]
    steps: Sequence[NewStep]
    base_commit: str | None = None
    finished: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)
    patch: bytes | None = None
    state: bytes | None = None


def columns_of(row: type, *, prefix: str = "") -> str:
    """The columns that a row's fields name, for a SELECT."""
    return ", ".join(f"{prefix}{column.name}" for column in fields(row))


def listed(statuses: Iterable[SessionStatus | StepStatus]) -> str:
    """Statuses as an IN takes them; transitions.py has the sets."""
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as readers see it. `progress` is its last report's pct.

    `question` is the last one that it asked, `question_id` what an answer names while that one waits.
    """

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
    progress: float | None
    question_id: str | None


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
    epoch: int
    """The life of the database's offsets, to which `earliest` and `head` belong."""
    earliest: int
    head: int
    created_at: datetime
    ended_at: datetime | None
    result: Any
    project: str
    continues: SessionId | None = None
    steps: tuple[StepView, ...] = ()


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
    """Reads the number of a step or an attempt, as Postgres' integers hold it. Raises ValueError."""
    number = int(digits)
    if str(number) != digits or not 0 < number < 2**31:
        raise ValueError(digits)
    return number


def retry_delay(failures: int, base: timedelta) -> timedelta:
    """Exponential back-off: base, 2 base, 4 base …, at most five minutes."""
    return min(base * 2.0 ** (failures - 1), timedelta(minutes=5))
