"""A model's stream of words as a few `think` events: about four in a second, not one for every token."""

import asyncio
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
        """What was said before an error is reported, too."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._report()

    async def _report_regularly(self) -> None:
        while True:
            await self._wake.wait()
            await self._report()
            await asyncio.sleep(EVERY_SECONDS)

    async def _report(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        for kind, words in waiting:
            for start in range(0, len(words), MAX_CHARACTERS):
                part = shown(words[start : start + MAX_CHARACTERS])
                await report_progress(self._progress, f"💭 {part}", phase="think", details={"kind": kind})
