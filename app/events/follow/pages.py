"""Catching up: pages of one stream, read from Postgres and shared by the readers at the same place."""

import asyncio
from collections.abc import Callable

from app.config import Settings
from app.events.follow.read_budget import ReadBudget
from app.events.follow.ring import Page
from app.events.follow.shared_reads import PageSize, SharedReads
from app.events.follow.states import StateReads
from app.events.read import Filter, StreamState, read_frames


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
        self._known = known
        self._saw = saw
        self._size = PageSize(settings.catch_up_page)
        self._shared = SharedReads(budget, self._read)

    @property
    def limit(self) -> int:
        """The number of events that a page has."""
        return self._size.limit

    async def read(self, after: int, only: Filter, ahead: "asyncio.Task[Page] | None" = None) -> Page | None:
        """The page after this offset, which may have been read `ahead`; None: `wake` was called meanwhile."""
        return await self._shared.read((after, only), ahead)

    def wake(self) -> None:
        """Interrupts all that wait for a page."""
        self._shared.wake()

    def read_ahead(self, after: int, only: Filter) -> "asyncio.Task[Page] | None":
        """Begins to read what a reader wants when it has sent what it got; None where others need the means more."""
        return self._shared.read_ahead((after, only))

    async def _read(self, place: tuple[int, Filter]) -> Page:
        (after, only), limit, (state, until) = place, self.limit, self._known()
        async with self._budget.connection() as db:
            rows = await read_frames(db, state, after=after, until=until, limit=limit, only=only)
        is_full = len(rows) == limit
        if not is_full or rows[0][0] != after + 1:
            # Retention may have taken events away, or the epoch is another. Read afterwards: now it must show.
            self._saw(await self._states.read(state.stream_id))
        frames = [frame for _, frame in rows]
        self._size.saw(frames)
        last = rows[-1][0] if rows else 0
        return Page(b"".join(frames), last, last if is_full else until)
