"""What a session's events tell of its row and of its steps' rows, which are caches of the log. Pure.

A value that an old log does not hold is left out, and not compared.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.events import artifacts
from app.events.proof.order import MARGIN
from app.events.proof.verify import Entry
from app.events.types import TERMINAL, StepStatus

SINCE_PROJECTS = "project"
"""The first event names this since there are projects, each of which has a stream that says who submitted what."""
_MADE_OF = {
    "task": "task",
    "workflow": "workflow",
    "version": "workflow_version",
    "langgraph": "langgraph_version",
    "path": "path",
    "repo": "repo",
    "priority": "priority",
    "project": "project",
    "principal": "principal",
}
"""Fields of a session's first event, and the columns that repeat them."""


def digest(value: Any) -> str:
    """Of a value's JSON as a column holds it: of a reference that is the digest of its artifact."""
    return str(value["$artifact"]) if artifacts.is_reference(value) else _as_written(value)


def _as_written(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()


def _number(value: Any) -> int:
    """Raises TypeError."""
    if type(value) is not int:
        raise TypeError(f"{value!r} is no number")
    return value


@dataclass(frozen=True, slots=True)
class At:
    """The time of an event. `is_exact` is false where the stream's time before was later than the clock's."""

    ts: datetime
    is_exact: bool

    def may_be(self, stands: datetime) -> bool:
        """Says whether the same transaction may have taken this time for a column."""
        return stands <= self.ts + MARGIN and (not self.is_exact or stands >= self.ts - MARGIN)


@dataclass(slots=True)
class ToldStep:
    """A step as the log tells it. Values are kept as digests, whatever their size; None: none was told."""

    superstep: int
    task_path: str
    agent: str
    queue: str
    status: StepStatus = "queued"
    attempt: int = 1
    failed: int = 0
    lost: int = 0
    worker: str | None = None
    error: str | None = None
    question: str | None = None
    answer_schema: str | None = None
    answer: str | None = None
    update: str | None = None
    commit: str | None = None
    started: At | None = None
    ended: At | None = None
    error_before: str | None = None
    """The one before a retry, which older versions left in the row."""
    at_offset: int = 0
    """Of its last event."""
    _failed_at: At | None = None

    def take(self, event: Mapping[str, Any], offset: int, at: At, *, retried_at: int) -> None:
        """`retried_at` is where the session was last retried."""
        is_retried, self.at_offset = self.at_offset < retried_at, offset
        before, self.status = self.status, event["status"]
        self.attempt = _number(event["attempt"])
        match self.status:
            case "queued":
                self.queue = event["queue"]
                if before == "failed" and is_retried:
                    self.ended = self._failed_at
                if before != "failed" or is_retried:
                    self.error_before, self.error = self.error, None
            case "running":
                self.worker, self.error, self.error_before, self.started = event["worker"], None, None, at
            case "failed":
                self.failed, self.error, self._failed_at = self.failed + 1, event["error"], at
            case "lost":
                # Queued again, or it fails for good, which the session's own event then tells.
                self.lost, self.status, self._failed_at, self.error = self.lost + 1, "failed", at, None
            case "succeeded":
                self.update, self.commit, self.ended = digest(event["update"]), event.get("commit"), at
            case _:
                self.ended = at

    def take_approval(self, event: Mapping[str, Any]) -> None:
        if event["status"] == "requested":
            self.question = _as_written(event.get("question"))  # of a large one the row has the reference, too
            wanted = event.get("answer_schema")
            self.answer_schema = None if wanted is None else digest(wanted)
        elif "answer" in event:
            self.answer = digest(event["answer"])

    @property
    def ended_at(self) -> At | None:
        return self._failed_at if self.status == "failed" else self.ended


@dataclass(slots=True)
class ToldSession:
    """A session as the log tells it, after the events that it has taken."""

    columns: dict[str, Any] = field(default_factory=dict)
    """What its row repeats as it is."""
    digests: dict[str, str] = field(default_factory=dict)
    """What its row repeats as JSON."""
    status: str | None = None
    reason: str | None = None
    result: Any = None
    continues: Mapping[str, Any] | None = None
    """The session from whose end it started, and what its log ended with."""
    created: At | None = None
    ended: At | None = None
    steps: dict[int, ToldStep] = field(default_factory=dict)
    retried_at: int = 0
    _last_ts: datetime | None = None

    @property
    def is_since_projects(self) -> bool:
        return SINCE_PROJECTS in self.columns

    @property
    def superstep(self) -> int | None:
        """The one that was folded last; None: it has not begun."""
        last = max((step.superstep for step in self.steps.values()), default=None)
        if self.status == "succeeded":
            return last or 0
        return None if last is None else last - 1

    def take(self, entry: Entry, event: Mapping[str, Any]) -> None:
        """Raises AttributeError, KeyError, TypeError and ValueError where it is not of the shape that the log has."""
        at = At(entry.ts, self._last_ts is None or entry.ts > self._last_ts)
        self._last_ts = entry.ts
        match event["t"]:
            case "session_event":
                self._take_status(event, entry.offset, at)
            case "step_event":
                if "task_path" in event:
                    step = ToldStep(_number(event["superstep"]), event["task_path"], event["agent"], event["queue"])
                    self.steps[_number(event["step"])] = step
                self.steps[event["step"]].take(event, entry.offset, at, retried_at=self.retried_at)
            case "approval_event":
                self.steps[event["step"]].take_approval(event)
            case _:
                pass

    def _take_status(self, event: Mapping[str, Any], offset: int, at: At) -> None:
        before, self.status = self.status, event["status"]
        self.ended = at if self.status in TERMINAL else None
        self.result = event.get("result")
        # What a retry gives for its reason is not the session's.
        self.reason = None if self.status == "running" else event.get("reason")
        if before in TERMINAL:
            self.retried_at = offset
        if self.status == "created":
            self.created = at
            self.columns = {column: event[name] for name, column in _MADE_OF.items() if name in event}
            self.continues = event.get("continues")
            self.columns["continues"] = None
            if self.continues is not None:
                self.columns["continues"] = str(UUID(self.continues["session_id"]))
                _number(self.continues["head"])
            self.digests = {"input": digest(event["input"]), "context": digest(event.get("context"))}
            self.digests["config"] = digest(event.get("config") or {})
            if "options" in event:
                self.digests["options"] = digest(event["options"])
