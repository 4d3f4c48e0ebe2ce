"""Catching up: pages of one stream, read from Postgres and shared by the readers at the same place."""

import asyncio
from collections.abc import Callable

from tenacity import retry, retry_if_exception_type, wait_random_exponential

from app.config import Settings
from app.database import DATABASE_AWAY
from app.events.follow.read_budget import ReadBudget
from app.events.follow.ring import Page
from app.events.follow.states import StateReads
from app.events.read import Filter, StreamState, read_frames

PAGE_BYTES = 128 * 1024
"""About what a reader is handed at once."""

until_it_answers = retry(
    retry=retry_if_exception_type(DATABASE_AWAY), wait=wait_random_exponential(multiplier=0.05, max=2)
)
"""Repeats a read until the database is there."""


class Pages:
    """`known` gives the stream's state and the last offset that this process has heard of; `saw` takes a state."""

    def __init__(
        self,
        budget: ReadBudget,
        states: StateReads,
        settings: Settings,
        *,
        known: Callable[[], tuple[StreamState, int]],
        saw: Callable[[StreamState], None],
    ) -> None:
        self._budget = budget
        self._states = states
        self._most = settings.catch_up_page
        self._known = known
        self._saw = saw
        self._frame_bytes = 4096.0  # a running mean; begins on the careful side
        self._reading: dict[tuple[int, Filter], asyncio.Task[Page]] = {}

    @property
    def limit(self) -> int:
        """The number of events that have about PAGE_BYTES."""
        return max(1, min(self._most, int(PAGE_BYTES / self._frame_bytes)))

    @until_it_answers
    async def read(self, after: int, only: Filter) -> Page:
        """The page after this offset."""
        # Shielded: one reader that leaves must not take the page from the others.
        return await asyncio.shield(self._task(after, only))

    def read_ahead(self, after: int, only: Filter) -> "asyncio.Task[Page] | None":
        """Begins to read what a reader wants when it has sent what it got; None where others need the means more."""
        if not self._budget.may_go_ahead:
            return None
        task = self._task(after, only)
        self._budget.goes_ahead(task)
        return task

    def _task(self, after: int, only: Filter) -> "asyncio.Task[Page]":
        key = (after, only)
        if key not in self._reading:
            task = self._reading[key] = asyncio.create_task(self._read(after, only))
            task.add_done_callback(lambda done: self._on_read(key, done))
        return self._reading[key]

    def _on_read(self, key: tuple[int, Filter], done: asyncio.Task[Page]) -> None:
        del self._reading[key]
        if not done.cancelled():
            done.exception()  # seen, even if all its readers have left

    async def _read(self, after: int, only: Filter) -> Page:
        limit, (state, until) = self.limit, self._known()
        async with self._budget.connection() as db:
            rows = await read_frames(db, state, after=after, until=until, limit=limit, only=only)
        is_full = len(rows) == limit
        if not is_full or rows[0][0] != after + 1:
            # Retention may have taken events away, or the epoch is another. Read afterwards: now it must show.
            self._saw(await self._states.read(state.stream_id))
        frames = b"".join([frame for _, frame in rows])
        if rows:
            self._frame_bytes += (len(frames) / len(rows) - self._frame_bytes) / 2
        last = rows[-1][0] if rows else 0
        return Page(frames, last, last if is_full else until)
