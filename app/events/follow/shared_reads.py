"""Reads from Postgres that readers at the same place share, and how many events a page has."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from tenacity import AsyncRetrying, retry, retry_if_exception_type, wait_random_exponential

from app.database import DATABASE_AWAY
from app.events.follow.read_budget import ReadBudget

PAGE_BYTES = 128 * 1024
"""About what a reader is handed at once."""

_WHEN_AWAY = retry_if_exception_type(DATABASE_AWAY)
_A_WHILE = wait_random_exponential(multiplier=0.05, max=2)
until_it_answers = retry(retry=_WHEN_AWAY, wait=_A_WHILE)
"""Repeats a read until the database is there."""

Place = TypeVar("Place", bound=Hashable)
Page = TypeVar("Page")


class SharedReads(Generic[Place, Page]):
    """One read for all who ask for the same place meanwhile. `read` takes its connection from the budget."""

    def __init__(self, budget: ReadBudget, read: Callable[[Place], Coroutine[Any, Any, Page]]) -> None:
        self._budget = budget
        self._read = read
        self._reading: dict[Place, asyncio.Task[Page]] = {}
        self._waiting: dict[Place, set[asyncio.Future[None]]] = {}

    async def read(self, place: Place, ahead: "asyncio.Task[Page] | None" = None) -> Page | None:
        """Waits for the database as long as it takes. None: the reader was woken by `wake`, and asks again.

        `ahead` is what `read_ahead` gave for this place.
        """
        if ahead is None or (ahead.done() and ahead.exception() is not None):
            ahead = self._task(place)
        if not ahead.done():
            await self._done_or_woken(ahead, place)
        return ahead.result() if ahead.done() else None

    def wake(self) -> None:
        """Interrupts all that wait here."""
        for woken in [future for waiting in self._waiting.values() for future in waiting]:
            _wake(woken)

    def read_ahead(self, place: Place) -> "asyncio.Task[Page] | None":
        """Begins to read what a reader wants when it has sent what it got; None where others need the means more."""
        if not self._budget.may_go_ahead:
            return None
        task = self._task(place)
        self._budget.goes_ahead(task)
        return task

    async def _done_or_woken(self, task: "asyncio.Task[Page]", place: Place) -> None:
        # Neither a shield nor a task for each reader: one that leaves must not take the page from the others.
        woken = asyncio.get_running_loop().create_future()
        wake = partial(_wake, woken)
        task.add_done_callback(wake)
        self._waiting.setdefault(place, set()).add(woken)
        try:
            await woken
        finally:
            task.remove_done_callback(wake)
            waiting = self._waiting[place]
            waiting.discard(woken)
            if not waiting:
                del self._waiting[place]

    def _task(self, place: Place) -> "asyncio.Task[Page]":
        if place not in self._reading:
            task = self._reading[place] = asyncio.create_task(self._read_patiently(place))
            task.add_done_callback(lambda done: self._on_read(place, done))
        return self._reading[place]

    async def _read_patiently(self, place: Place) -> Page:
        """Tries again as long as any reader waits for it."""
        patiently = AsyncRetrying(
            retry=_WHEN_AWAY, wait=_A_WHILE, stop=lambda _: place not in self._waiting, reraise=True
        )
        return await patiently(self._read, place)

    def _on_read(self, place: Place, done: "asyncio.Task[Page]") -> None:
        del self._reading[place]
        if not done.cancelled():
            done.exception()  # seen, even if all its readers have left


def _wake(woken: asyncio.Future[None], _: object = None) -> None:
    if not woken.done():
        woken.set_result(None)


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
