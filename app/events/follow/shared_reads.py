"""Reads from Postgres that readers at the same place share, and how many events a page has."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, TypeVar

from tenacity import retry, retry_if_exception_type, wait_random_exponential

from app.database import DATABASE_AWAY
from app.events.follow.read_budget import ReadBudget

PAGE_BYTES = 128 * 1024
"""About what a reader is handed at once."""

until_it_answers = retry(
    retry=retry_if_exception_type(DATABASE_AWAY), wait=wait_random_exponential(multiplier=0.05, max=2)
)
"""Repeats a read until the database is there."""

Place = TypeVar("Place", bound=Hashable)
Page = TypeVar("Page")


class SharedReads(Generic[Place, Page]):
    """One read for all who ask for the same place meanwhile. `read` takes its connection from the budget."""

    def __init__(self, budget: ReadBudget, read: Callable[[Place], Coroutine[Any, Any, Page]]) -> None:
        self._budget = budget
        self._read = read
        self._reading: dict[Place, asyncio.Task[Page]] = {}

    @until_it_answers
    async def read(self, place: Place) -> Page:
        # Shielded: one reader that leaves must not take the page from the others.
        return await asyncio.shield(self._task(place))

    def read_ahead(self, place: Place) -> "asyncio.Task[Page] | None":
        """Begins to read what a reader wants when it has sent what it got; None where others need the means more."""
        if not self._budget.may_go_ahead:
            return None
        task = self._task(place)
        self._budget.goes_ahead(task)
        return task

    def _task(self, place: Place) -> "asyncio.Task[Page]":
        if place not in self._reading:
            task = self._reading[place] = asyncio.create_task(self._read(place))
            task.add_done_callback(lambda done: self._on_read(place, done))
        return self._reading[place]

    def _on_read(self, place: Place, done: "asyncio.Task[Page]") -> None:
        del self._reading[place]
        if not done.cancelled():
            done.exception()  # seen, even if all its readers have left


class PageSize:
    """Learns how large events are, so that a page has about PAGE_BYTES and at most so many events."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._frame_bytes = 4096.0  # a running mean; begins on the careful side

    @property
    def limit(self) -> int:
        return max(1, min(self._most, int(PAGE_BYTES / self._frame_bytes)))

    def saw(self, frames: Sequence[bytes]) -> None:
        if frames:
            self._frame_bytes += (sum(map(len, frames)) / len(frames) - self._frame_bytes) / 2
