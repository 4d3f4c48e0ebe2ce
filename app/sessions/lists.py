"""What lists show of sessions and of questions that wait. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.events.cursors import Cursor
from app.events.types import SessionStatus
from app.progress import SessionId

SHOWN_CHARACTERS = 300
"""So much of a task or a reason does a list show: a task may have 100,000 characters, and pages poll lists."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in a list: without steps and result, and with the first 300 characters of its task and reason."""

    session_id: SessionId
    status: SessionStatus
    reason: str | None
    reason_is_cut: bool
    task: str
    task_is_cut: bool
    workflow: str
    workflow_version: str
    path: str | None
    repo: str | None
    priority: int
    principal: str
    epoch: int
    earliest: int
    head: int
    created_at: datetime
    ended_at: datetime | None
    project: str
    continues: SessionId | None


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that waits: the place of its approval_event, what it asks, and what it wants.

    `written_in` is the event's epoch, `epochs` are those of this database, the present one last.
    """

    offset: int
    written_in: int
    epochs: list[int]
    question: Any
    answer_schema: Any

    @property
    def id(self) -> str:
        """The event's id, as streams have it."""
        return str(Cursor(self.epochs[-1], self.offset))

    def is_meant_by(self, named: Cursor | None) -> bool:
        """The rule of all cursors: a client of an epoch before the event's has seen another event there.

        So has one of another copy of the database, which has epochs of its own.
        """
        if named is None or named.offset != self.offset:
            return False
        return named.epoch in self.epochs and named.epoch >= self.written_in


@dataclass(frozen=True, slots=True)
class Approval:
    """A question that waits for a person, with the first 300 characters of its session's task.

    `id` is what an answer names as its `question`: the id of the approval_event, whose `offset` stands beside it.
    `answer_schema` is JSON Schema of what is wanted; null: any will do.
    """

    id: str
    offset: int
    session_id: SessionId
    step: int
    agent: str
    question: Any
    answer_schema: Any
    task: str
    task_is_cut: bool
    requested_at: datetime
    project: str
