"""What many ask for at the same time is found out once, and kept for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float, name: str) -> None:
        self._read = read
        self.seconds = seconds
        self._name = name
        self._clock = asyncio.get_running_loop().time
        self._task: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """Returns what was read within the last seconds."""
        if self._task is None or (self._task.done() and self._clock() >= self._until):
            self._task = asyncio.create_task(self._read_once(), name=self._name)
        # Shielded: one that goes away must not take the result from the others.
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_once(self) -> T:
        found = await self._read()
        self._until = self._clock() + self.seconds
        return found
