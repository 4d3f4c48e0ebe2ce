"""The Celery tasks: parse, call, nothing else. Unknown arguments of newer senders are ignored;
older senders do not name the agent."""

from typing import Any
from uuid import UUID

from celery import Celery

from app.progress import SessionId
from app.sessions.dispatch import ADVANCE_SESSION, RUN_STEP
from workers.process.runtime import Runtime


def add_tasks(celery: Celery, runtime: Runtime) -> None:
    @celery.task(name=ADVANCE_SESSION)
    def advance_session(session_id: str, *_: Any, **__: Any) -> None:
        runtime.advance_session(SessionId(UUID(session_id)))

    @celery.task(name=RUN_STEP)
    def run_step(session_id: str, step: int, attempt: int, agent: str | None = None, *_: Any, **__: Any) -> None:
        runtime.run_step(SessionId(UUID(session_id)), step, attempt, agent)
