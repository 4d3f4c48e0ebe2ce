"""A model's stream of words as a few `think` events: about four in a second, not one for every token."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from app.progress import report_progress
from workers.tools.files import shown

EVERY_SECONDS = 0.25
MAX_CHARACTERS = 4000
"""In one event; a burst of words makes several."""


class Thinking:
    """An async context manager that takes words with `say` and reports them in the background."""

    def __init__(self, progress: float) -> None:
        self._progress = progress
        self._kind = ""
        self._waiting: list[tuple[str, str]] = []
        self._wake = asyncio.Event()
        self._is_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def say(self, words: str, *, kind: str) -> None:
        """`kind` says what the words are, as `reasoning` or `text`; a change of kind begins a new event."""
        if self._waiting and self._waiting[-1][0] == kind:
            self._waiting[-1] = (kind, self._waiting[-1][1] + words)
        else:
            self._waiting.append((kind, words))
        self._wake.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._report_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was said before an error is reported, too.

        The task is told to end, not cancelled: a cancelled report may or may not be in the log.
        """
        assert self._task is not None
        self._is_over.set()
        self._wake.set()
        await self._task

    async def _report_regularly(self) -> None:
        while not self._is_over.is_set():
            await self._wake.wait()
            await self._report()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), EVERY_SECONDS)
        await self._report()

    async def _report(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        for kind, words in waiting:
            for start in range(0, len(words), MAX_CHARACTERS):
                part = shown(words[start : start + MAX_CHARACTERS])
                await report_progress(self._progress, f"💭 {part}", phase="think", details={"kind": kind})
