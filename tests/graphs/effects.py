"""What nodes do to the world, counted: the same number of times as in plain LangGraph, or a test fails.

A node says `happened("paid")`. In a worker the line goes into the session's file below the directory that
the variable EFFECTS names; in the test's own process it goes into the list that `recorded` gave.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from app.errors import NoCurrentStep
from app.progress import current_step

EFFECTS: Final = "EFFECTS_DIRECTORY"

_recorded: ContextVar[list[str]] = ContextVar("recorded_effects")


def happened(what: str) -> int:
    """Records one side effect; returns how often it has happened in this session, this time included."""
    directory = os.environ.get(EFFECTS)
    if directory is None:
        effects = _recorded.get()
        effects.append(what)
        return effects.count(what)
    file = _file(Path(directory))
    with file.open("ab", buffering=0) as out:
        out.write(what.encode() + b"\n")  # one write to a file that is opened to append: lines never mix
    return file.read_text().split("\n").count(what)


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The effects of what runs in this context, in order, without those of other contexts."""
    effects: list[str] = []
    token = _recorded.set(effects)
    try:
        yield effects
    finally:
        _recorded.reset(token)


def told(directory: Path, session_id: str) -> list[str]:
    """The effects of one session on workers."""
    file = directory / session_id
    return file.read_text().splitlines() if file.exists() else []


def _file(directory: Path) -> Path:
    try:
        return directory / str(current_step().session_id)
    except NoCurrentStep:
        return directory / "outside-of-steps"
