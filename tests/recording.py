"""A node's surroundings without a worker: what LangChain's callbacks record in them goes into lists."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.config import Settings
from app.progress import current_step
from app.redaction import Redactor
from tests.models.step import Log, step_of
from workers.models.langchain_calls import recording_calls

SECRET = "correct horse battery staple"


@asynccontextmanager
async def recorded(log: Log | None = None, **settings: Any) -> AsyncIterator[tuple[Log, Any]]:
    """A node's config, and the log of what it calls."""
    with step_of("writer", Path(), log or Log(), Settings(**settings)) as log:
        async with recording_calls(current_step(), Settings(**settings), Redactor([SECRET])) as callbacks:
            yield log, {"callbacks": callbacks}


def said(log: Log, kind: str = "text") -> str:
    found = [report for report in log.reports if report.phase == "think" and report.details["kind"] == kind]
    return "".join(report.message.removeprefix("💭 ") for report in found)
