"""current_worktree(): where the running step's agent finds the session's files."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path

from app.errors import NoCurrentStep

worktree_provider: ContextVar[Callable[[], Awaitable[Path]]] = ContextVar("worktree_provider")
"""Set by the step runner; makes the session's workspace and the attempt's checkout at its first call."""


async def current_worktree() -> Path:
    """The directory to read and change; what is changed there becomes the step's commit.

    Raises NoCurrentStep outside of a step.
    """
    try:
        provide = worktree_provider.get()
    except LookupError:
        raise NoCurrentStep("There is no worktree here; current_worktree() works in a step.") from None
    return await provide()
