"""A followed stream as this process knows it: its last known state and a ring of its recent frames."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from tenacity import retry, retry_if_exception_type, wait_random_exponential

from app.cancelling import asked_to_end
from app.config import Settings
from app.database import DATABASE_AWAY
from app.events.follow.read_budget import ReadBudget
from app.events.follow.ring import Ring
from app.events.follow.states import StateReads
from app.events.push import Frame, Message
from app.events.read import EVERYTHING, Filter, StreamState, read_frames, read_page
from app.events.types import Recorded

GAP_SECONDS = 0.02
"""Publishes of concurrent producers arrive out of order; nearly all gaps close by themselves in this time."""
BATCH_BYTES = 128 * 1024
"""About what a reader is handed at once."""
MAX_RECENT = 16
Take = Callable[[bytes], bool]
_MAY_CLOSE = frozenset({"session_event", "batch_event"})

_until_it_answers = retry(
    retry=retry_if_exception_type(DATABASE_AWAY), wait=wait_random_exponential(multiplier=0.05, max=2)
)


@dataclass(frozen=True, slots=True)
class Page:
    """The wanted frames up to the offset `reached`, joined once for all readers at the same place."""

    frames: bytes
    last: int
    """The offset of the last frame, if there is one."""
    reached: int

    @classmethod
    def of(cls, frames: list[Frame], reached: int) -> Self:
        return cls(b"".join(frame.data for frame in frames), frames[-1].offset if frames else 0, reached)


class _Waiting:
    """A reader that has all there was. `take` gets frames there and then; False: the reader has to be woken."""

    __slots__ = ("cursor", "take", "woken")

    def __init__(self, cursor: int, take: Take | None) -> None:
        self.cursor = cursor
        self.take = take
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():  # cancelled, and not yet gone
            self.woken.set_result(None)


class LiveStream:
    """Shared by all readers of a stream in this process. `restarts` counts how often its offsets began anew."""

    def __init__(self, reads: ReadBudget, states: StateReads, state: StreamState, settings: Settings) -> None:
        self._reads = reads
        self._states = states
        self._settings = settings
        self._frame_bytes = 4096.0  # a running mean; begins on the careful side
        self._pages: dict[tuple[int, Filter], asyncio.Task[Page]] = {}
        self._recent: dict[tuple[int, Filter], Page] = {}
        self._waiting = set[_Waiting]()
        self._wake = asyncio.Event()
        self.state = state
        self.restarts = 0
        self.readers = 0
        self.left_at = 0.0
        self.changes = 0
        self.is_closed = False
        self._begin(state)

    def _begin(self, state: StreamState) -> None:
        self.state = state
        self.ring = Ring(max_frames=self._settings.ring_frames, max_bytes=self._settings.ring_bytes)
        self.ring.restart(state.head)
        self.doubt()

    def doubt(self) -> None:
        """Something may have been missed: look into Postgres."""
        self._doubtful = True
        self._wake.set()

    def heard(self, message: Message | None) -> None:
        """Takes what was published; None stands for something unreadable."""
        if message is None:
            self.doubt()
            return
        self.ring.offer(message.frames)
        self.ring.heard(message.last)
        if any(frame.t in _MAY_CLOSE for frame in message.frames):
            self.doubt()  # whether that was the end is only in Postgres
        if self.ring.is_behind:
            self._wake.set()
        self._hand_out()

    def saw(self, state: StreamState) -> None:
        """Takes what was read from Postgres, in any order."""
        if (state.epoch, state.head) < (self.state.epoch, self.state.head) or state == self.state:
            return
        only_grew = replace(self.state, head=state.head, head_chain=state.head_chain) == state
        if state.epoch > self.state.epoch:
            self.restarts += 1
            self._begin(state)
        self.state = state
        self.ring.heard(state.head)
        if self.ring.is_behind:
            self._wake.set()
        if not only_grew:
            self.notify()

    def notify(self) -> None:
        """Wakes all readers that wait."""
        self.changes += 1
        self._recent.clear()
        for waiting in self._waiting:
            waiting.wake()
        self._waiting.clear()

    def _hand_out(self) -> None:
        """Gives new frames to all who can take them where they wait, and wakes the others."""
        self.changes += 1
        self._recent.clear()
        awake = [waiting for waiting in self._waiting if not self._serve(waiting)]
        for waiting in awake:
            waiting.wake()
        self._waiting.difference_update(awake)

    def _serve(self, waiting: "_Waiting") -> bool:
        """Whether it has all there is now, and can wait on."""
        if waiting.take is None or self.state.closed or not self.ring.covers(waiting.cursor):
            return False
        page = self.recent(waiting.cursor, EVERYTHING)
        if page.frames and not waiting.take(page.frames):
            return False
        waiting.cursor = page.reached
        return page.reached == self.ring.last

    async def more(self, cursor: int, *, seen: int, take: Take | None) -> int:
        """Waits for a change later than the `changes` that were `seen`; the reader's cursor after that."""
        if self.changes != seen:
            return cursor
        waiting = _Waiting(cursor, take)
        self._waiting.add(waiting)
        try:
            await waiting.woken
        finally:
            self._waiting.discard(waiting)
        return waiting.cursor

    async def keep_up(self) -> None:
        """Fetches what publishes did not bring: one read for all readers. Until cancelled."""
        while not asked_to_end():
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GAP_SECONDS)
            if self._doubtful or self.ring.is_behind:
                await self._refresh()
                if self.ring.is_behind:
                    self._wake.set()

    @_until_it_answers
    async def _refresh(self) -> None:
        self._doubtful = False
        limit = min(self._page_limit, self._settings.ring_frames)
        last, heard = self.ring.last, self.ring.head
        try:
            state = await self._states.read(self.state.stream_id)
            after = max(last, state.head - limit)
            events = list[Recorded]()
            if state.head > after:
                async with self._reads.connection() as db:
                    events = await read_page(db, state, after=after, limit=limit)
        except DATABASE_AWAY:
            self._doubtful = True
            raise
        if heard > state.head:
            # What is published was committed before, so Postgres has lost it since (a failover).
            self.restarts += 1
            self._begin(state)
            self._doubtful = False
            self.notify()
            return
        if after > self.ring.last:
            self.ring.restart(after)
        self.ring.offer([Frame.of(event) for event in events])
        self.saw(state)
        self._hand_out()

    def recent(self, after: int, only: Filter) -> Page:
        """From the ring, which must cover `after`."""
        key = (after, only)
        if key not in self._recent:
            frames = self.ring.after(after, max_bytes=BATCH_BYTES)
            wanted = [f for f in frames if only.matches(f.t, f.agent, f.phase)] if only else frames
            if len(self._recent) >= MAX_RECENT:  # readers at so many places do not go along with each other
                self._recent.clear()
            self._recent[key] = Page.of(wanted, frames[-1].offset if frames else after)
        return self._recent[key]

    @_until_it_answers
    async def page(self, after: int, only: Filter) -> Page:
        """From Postgres; readers at the same place share one read."""
        # Shielded: one reader that leaves must not take the page from the others.
        return await asyncio.shield(self._reading_page(after, only))

    def read_ahead(self, after: int, only: Filter) -> "asyncio.Task[Page] | None":
        """Begins to read what a reader wants when it has sent what it got."""
        if self.ring.covers(after) or not self._reads.may_go_ahead:
            return None
        task = self._reading_page(after, only)
        self._reads.goes_ahead(task)
        return task

    def _reading_page(self, after: int, only: Filter) -> "asyncio.Task[Page]":
        key = (after, only)
        if key not in self._pages:
            task = self._pages[key] = asyncio.create_task(self._read_page(after, only))
            task.add_done_callback(lambda done: self._on_page(key, done))
        return self._pages[key]

    def _on_page(self, key: tuple[int, Filter], done: asyncio.Task[Page]) -> None:
        del self._pages[key]
        if not done.cancelled():
            done.exception()  # seen, even if all its readers have left

    async def _read_page(self, after: int, only: Filter) -> Page:
        limit, until = self._page_limit, max(self.ring.last, self.state.head)
        async with self._reads.connection() as db:
            rows = await read_frames(db, self.state, after=after, until=until, limit=limit, only=only)
        is_full = len(rows) == limit
        if not is_full or rows[0][0] != after + 1:
            # Retention may have taken events away, or the epoch is another. Read afterwards: now it must show.
            self.saw(await self._states.read(self.state.stream_id))
        frames = b"".join([frame for _, frame in rows])
        if rows:
            self._frame_bytes += (len(frames) / len(rows) - self._frame_bytes) / 2
        last = rows[-1][0] if rows else 0
        return Page(frames, last, last if is_full else until)

    @property
    def _page_limit(self) -> int:
        """As many events as have about BATCH_BYTES."""
        return max(1, min(self._settings.catch_up_page, int(BATCH_BYTES / self._frame_bytes)))

    def close(self) -> None:
        """Sends the readers away; if they come back they get a new LiveStream, or the reason."""
        self.is_closed = True
        self.notify()
