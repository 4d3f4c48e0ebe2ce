"""Every error of the project. A class's docstring is its default message.

StellwerkError
├── BadInput                 refused at the door; nothing was written
│   ├── InvalidEvent
│   ├── EventTooLarge
│   ├── TooMuchReported      an attempt, by its step token
│   ├── BadCursor
│   ├── BadQuery             carries what there is
│   ├── BadRequest
│   ├── UnknownWorkflow
│   ├── WorkflowRefused
│   ├── BadWorkflow
│   ├── BadPath
│   ├── BadExport            the file is no export
│   ├── BadAnswer            carries what is wrong in it, and what is wanted
│   └── IdempotencyMismatch
├── NotFound
├── Conflict
│   ├── StreamClosed
│   ├── LeaseLost
│   ├── NotWaiting
│   ├── WrongQuestion        carries the question that waits
│   └── StackRunning         one stack for each home
├── AccessDenied             nobody known asks
│   └── MissingScope         somebody known, who may not
├── TooMany                  carries when to try again
├── CursorOutOfRange         carries the cursor to start again from, and of a stream earliest and head
├── NoCurrentStep
├── Unavailable              a server does not answer; trying again helps
│   ├── NoWorkerYet          a new deployment, in which no worker has registered
│   ├── DiskFull
│   ├── ModelFaltered        a model's answer broke off or makes no sense
│   └── NotNow               carries when; a step that meets it waits, and no attempt is counted
├── NoStack                  there is no gateway to talk to
├── GatewayRefused           carries the problem that the gateway answered with
├── PatchRefused             the project has changed since
├── WorkflowError            the session fails with it
│   ├── FoldMismatch
│   ├── FoldFailed           carries what a router, a reducer or LangGraph raised
│   ├── SnapshotVersionMismatch
│   ├── UnstorableValue
│   ├── UnknownSecret        what the log names only is not set where it is needed
│   ├── FoldTimeout
│   ├── WorkspaceConflict
│   └── TooManySupersteps
├── StepTimeout              an attempt ran past its node's time limit
├── GitFailed                in a session's workspace
├── ToolFailed               such as ruff, on a project
├── SandboxRequired          a project's own code does not run here
├── TaskNeedsModel           says what to set
├── ProviderNotSetUp         says what to set
├── ModelRefused             a provider refused for good, or a model did not do its work
├── BudgetExhausted          raising it was refused
├── TooManyItems             a search in a store would have to read all of them
├── Altered                  what is stored is not what was written
├── SchemaTooNew             a database does not go back
├── MissingRight             only the owner of the database may
└── EmbeddedServerError      carries what to do
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType


class StellwerkError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class BadInput(StellwerkError):
    """The input was refused."""


class InvalidEvent(BadInput):
    """The event was refused."""


class EventTooLarge(BadInput):
    """The event is larger than the log takes; put the large part into a file or an artifact."""


class TooMuchReported(BadInput):
    """The attempt has reported as much by its step token as it may; it may go on, and report no more."""


class BadCursor(BadInput):
    """The cursor is no integer; give the offset of the last event that you have, or 0."""


class BadQuery(BadInput):
    """The address asks for what there is not."""

    def __init__(self, message: str, *, allowed: Iterable[str] = ()) -> None:
        """`allowed` are the names that there are."""
        super().__init__(message)
        self.allowed = sorted(allowed)


class BadRequest(BadInput):
    """The request's head cannot be understood."""


class UnknownWorkflow(BadInput):
    """No worker has registered a workflow of this name."""


class WorkflowRefused(BadInput):
    """The workers have this workflow, and cannot run it."""


class BadWorkflow(BadInput):
    """The workflow cannot be used."""


class BadPath(BadInput):
    """The path cannot be used as a project."""


class BadExport(BadInput):
    """The file is no export of a stream."""


class BadAnswer(BadInput):
    """The answer is not what the step asks for."""

    def __init__(self, message: str, *, faults: Sequence[tuple[str, str]] = (), schema: object = None) -> None:
        """`faults` are JSON pointers to what is wrong in the answer, each with what is wrong."""
        super().__init__(message)
        self.faults, self.schema = faults, schema


class IdempotencyMismatch(BadInput):
    """This Idempotency-Key was used with another body; use a new key for a new request."""


class NotFound(StellwerkError):
    """There is no such thing."""


class Conflict(StellwerkError):
    """The request contradicts the present state."""


class StreamClosed(Conflict):
    """The stream is closed: its session has ended."""


class LeaseLost(Conflict):
    """The attempt no longer holds its lease; what it wrote was refused."""


class NotWaiting(Conflict):
    """The step is not waiting for an answer."""


class WrongQuestion(Conflict):
    """The answer does not name the question that waits."""

    def __init__(self, message: str, *, open_question: Mapping[str, object]) -> None:
        """`open_question` has its `id`, which an answer names, `offset`, `question` and `answer_schema`."""
        super().__init__(message)
        self.open_question = open_question


class StackRunning(Conflict):
    """A stack is already running on this home; `stellwerk down` stops it."""


class AccessDenied(StellwerkError):
    """The token is missing or wrong; send it as 'Authorization: Bearer TOKEN'."""


class UnknownKey(AccessDenied):
    """The key is not in force: it was revoked, has expired, or was never made; ask who administers keys."""


class MissingScope(AccessDenied):
    """The key does not have the scope that this needs."""


class TooMany(StellwerkError):
    """The project has reached a limit; try again later."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        """`retry_after` in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class CursorOutOfRange(StellwerkError):
    """The cursor lies outside of what there is."""

    def __init__(self, reason: str, *, cursor: str, earliest: int | None = None, head: int | None = None) -> None:
        """`cursor` is the one to start again from."""
        super().__init__(f"{reason}; start again from {cursor}")
        self.earliest, self.head, self.cursor = earliest, head, cursor


class NoCurrentStep(StellwerkError):
    """report_progress() was called outside of a step; it works in a node that a worker (or a test) runs."""


class Unavailable(StellwerkError):
    """A server that is needed does not answer; try again."""


class NoWorkerYet(Unavailable):
    """No worker has told yet which workflows it serves; try again in a moment, or start one."""


class DiskFull(Unavailable):
    """The database's disk is full: nothing more can be recorded. Make room there, then try again."""


class ModelFaltered(Unavailable):
    """The model's answer broke off."""


class NotNow(Unavailable):
    """The provider asked to wait."""

    def __init__(self, message: str, *, delay: timedelta) -> None:
        super().__init__(message)
        self.delay = delay


class NoStack(StellwerkError):
    """No stack is running: start one with `stellwerk up`, or set STELLWERK_URL and STELLWERK_TOKEN."""


class GatewayRefused(StellwerkError):
    """The gateway refused the request."""

    def __init__(
        self, detail: str, *, status: int, kind: str = "", problem: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """`problem` is all that the gateway said."""
        super().__init__(detail)
        self.status, self.kind, self.problem = status, kind, problem


class PatchRefused(StellwerkError):
    """The patch does not apply to the project as it is now."""


class WorkflowError(StellwerkError):
    """The workflow cannot go on."""


class FoldMismatch(WorkflowError):
    """The graph's pending nodes do not match the session's open steps."""


class FoldFailed(WorkflowError):
    """A router, a reducer or LangGraph itself raised while results were folded."""


class SnapshotVersionMismatch(WorkflowError):
    """The snapshot was written by another version; rebuild it from the log."""


class UnstorableValue(WorkflowError):
    """A value of this type cannot be stored."""


class UnknownSecret(WorkflowError):
    """A secret that the session's log names is not set here."""


class FoldTimeout(WorkflowError):
    """Folding took longer than its time limit; routers and reducers must be quick and do no I/O."""


class WorkspaceConflict(WorkflowError):
    """Parallel steps changed the same lines; their commits cannot be merged."""


class WorkspaceLost(WorkflowError):
    """The session's workspace lacks commits that its log names."""


class TooManySupersteps(WorkflowError):
    """The workflow ran more supersteps than the setting max_supersteps allows."""


class StepTimeout(StellwerkError):
    """The step ran past its time limit."""


class GitFailed(StellwerkError):
    """A git command failed in a session's workspace."""


class ToolFailed(StellwerkError):
    """A tool that an agent needs failed."""


class SandboxRequired(StellwerkError):
    """This deployment is not on loopback and STELLWERK_SANDBOX is not set, so it runs no project's own code."""


class TaskNeedsModel(StellwerkError):
    """The agents that are set up cannot do this task."""


class ProviderNotSetUp(StellwerkError):
    """An agent's provider lacks what it needs."""


class ModelRefused(StellwerkError):
    """The model did not do its work, and would not do it the next time."""


class BudgetExhausted(StellwerkError):
    """The session's budget is spent, and raising it was refused."""


class TooManyItems(StellwerkError):
    """A search with a query would have to compare too many items of the store."""


class Altered(StellwerkError):
    """What is stored is not what was written; `stellwerk verify` says more."""


class SchemaTooNew(StellwerkError):
    """A newer Stellwerk has migrated this database: start that version, or put back a backup from before."""


class MissingRight(StellwerkError):
    """The database allows this to its owner alone: set STELLWERK_MIGRATE_URL to the owner's address."""


class EmbeddedServerError(StellwerkError):
    """An embedded server does not start."""


MAX_DESCRIPTION = 4000
LOOKED_THROUGH = 16 * MAX_DESCRIPTION
"""Characters; what lies beyond is not shown, so the event loop does not wait for it."""


def describe(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """One line for the log, with the error's type. What is cut short is redacted before: half a secret is none."""
    text = one_line(redact(str(error)[:LOOKED_THROUGH]))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def one_line(text: str) -> str:
    """For the log, which takes neither NUL nor lone surrogates nor a megabyte."""
    text = " ".join(text.split()).replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_DESCRIPTION else f"{text[:MAX_DESCRIPTION]} …"
