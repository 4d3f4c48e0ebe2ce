"""A followed stream as this process knows it: its last known state and a ring of its recent frames."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import structlog

from app.cancelling import asked_to_end
from app.config import Settings
from app.database import DATABASE_AWAY
from app.errors import NotFound
from app.events.cursors import FIRST_EPOCH, Cursor
from app.events.encoding import Recorded
from app.events.follow.pages import Pages
from app.events.follow.read_budget import ReadBudget
from app.events.follow.ring import Page, Ring
from app.events.follow.shared_reads import PAGE_BYTES, SharedReads, until_it_answers
from app.events.follow.states import StateReads
from app.events.follow.updates import Renewed, Reset
from app.events.honouring import doubtful_offset, epoch_of, why_not
from app.events.push import Frame, decode_message
from app.events.read import EVERYTHING, Filter, StreamState, read_page
from app.events.seals import Published

logger = structlog.get_logger(__name__)

GAP_SECONDS = 0.02
"""Publishes of concurrent producers arrive out of order; nearly all gaps close by themselves in this time."""
MAX_RECENT = 16
Take = Callable[[bytes], bool]
_MAY_CLOSE = frozenset({"session_event", "batch_event"})


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


class _Survival(NamedTuple):
    """The epoch in which what stands at a reader's cursor was written, where that has to be known."""

    written_in: int | None


class LiveStream:
    """Shared by all readers of a stream in this process. `lost` has, for each time that commits were found lost, the
    head that remained."""

    def __init__(self, budget: ReadBudget, states: StateReads, state: StreamState, settings: Settings) -> None:
        self._budget = budget
        self._states = states
        self._settings = settings
        self.pages = Pages(budget, states, settings, known=self._known, saw=self.saw)
        self._recent: dict[tuple[int, Filter], Page] = {}
        self._waiting = set[_Waiting]()
        self._wake = asyncio.Event()
        self.state = state
        self.lost = list[int]()
        self._survivals = SharedReads(budget, self._read_survival)
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

    def _in_this_epoch(self, frames: Iterable[Frame]) -> Iterable[Frame]:
        epoch = self.state.epoch
        return frames if epoch == FIRST_EPOCH else (frame.in_epoch(epoch) for frame in frames)

    def _known(self) -> tuple[StreamState, int]:
        return self.state, max(self.ring.last, self.state.head)

    def doubt(self) -> None:
        """Something may have been missed: look into Postgres."""
        self._doubtful = True
        self._wake.set()

    def heard(self, news: Published) -> None:
        """Takes what was published. Raises ValueError for what it cannot read."""
        message = decode_message(news.payload)
        if news.epoch != self.state.epoch:  # one of the two is not yet known here
            self.doubt()
            return
        self.ring.offer(self._in_this_epoch(message.frames))
        self.ring.heard(message.last)
        if any(frame.t in _MAY_CLOSE for frame in message.frames):
            self.doubt()  # whether that was the end is only in Postgres
        if self.ring.is_lagging:
            self._wake.set()
        self._hand_out()

    def saw(self, state: StreamState) -> None:
        """Takes what was read from Postgres, in any order."""
        if (state.epoch, state.head) < (self.state.epoch, self.state.head) or state == self.state:
            return
        only_grew = replace(self.state, head=state.head, head_chain=state.head_chain) == state
        if state.epoch > self.state.epoch:
            self._begin(state)
        self.state = state
        self.ring.heard(state.head)
        if self.ring.is_lagging:
            self._wake.set()
        if not only_grew:
            self.notify()

    async def next_page(
        self, known: Cursor, losses: int, after: int, only: Filter, ahead: "asyncio.Task[Page] | None"
    ) -> Page | Reset | Renewed | None:
        """What a reader gets next, from the ring or from Postgres; None: it was woken while it waited.

        `known` is its last id, `losses` how many it knows of, and `after` how far it has come. Where this is not the
        stream any more that it knows, it gets what it has to be told of that.
        """
        if self.ring.covers(after):
            page: Page | None = self.recent(after, only)
        else:
            try:
                page = await self.pages.read(after, only, ahead)
            except NotFound:  # a restore took the stream away; who comes back is told so
                self.close()
                return None
        if page is None or self._is_as_known(known.epoch, losses, after):
            return page
        return await self._look_back(known, losses, after)

    def _is_as_known(self, epoch: int, losses: int, after: int) -> bool:
        """Says whether it still is the stream that a reader knows, up to where that one has come."""
        state = self.state
        return state.epoch <= epoch and len(self.lost) == losses and after >= state.earliest - 1

    async def _look_back(self, known: Cursor, losses: int, after: int) -> Reset | Renewed | None:
        """What a reader is to be told whose last id is `known`: what it would learn if it came back with it.

        What a filter dropped since `known` may be something else now. None: it was woken while it waited.
        """
        while True:
            state, found_lost = self.state, len(self.lost)
            if after < state.earliest - 1:
                return Reset("expired", state)
            if any(known.offset > head for head in self.lost[losses:]):
                return Reset("other_epoch", state)
            survival = await self._survivals.read(known)
            if survival is None:
                return None
            if (state.epoch, found_lost) == (self.state.epoch, len(self.lost)):
                break
        if why_not(self.state, known, written_in=survival.written_in):
            return Reset("other_epoch", self.state)
        return Renewed(self.state, Cursor(self.state.epoch, known.offset))

    async def _read_survival(self, known: Cursor) -> "_Survival":
        offset = doubtful_offset(self.state, known)
        if offset is None:
            return _Survival(None)
        async with self._budget.connection() as db:
            return _Survival(await epoch_of(db, self.state.stream_id, offset, known=known.epoch))

    def is_end(self, offset: int) -> bool:
        """Says whether nothing follows this offset, as the stream is closed."""
        return self.state.closed and offset == self.state.head

    def notify(self) -> None:
        """Wakes all readers that wait, for news or for the database."""
        self.pages.wake()
        self._survivals.wake()
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
        """Says whether the reader has all there is now, and can wait on."""
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
            if self._doubtful or self.ring.is_lagging:
                await self._refresh()
                if self.ring.is_lagging:
                    self._wake.set()

    @until_it_answers
    async def _refresh(self) -> None:
        self._doubtful = False
        limit = min(self.pages.limit, self._settings.ring_frames)
        last, heard = self.ring.last, self.ring.head
        try:
            state = await self._states.read(self.state.stream_id)
            after = max(last, state.head - limit)
            events = list[Recorded]()
            if state.head > after:
                async with self._budget.connection() as db:
                    events = await read_page(db, state, after=after, limit=limit)
        except DATABASE_AWAY:
            self._doubtful = True
            raise
        if heard > state.head:
            # What is published was committed before, so Postgres has lost it since (a failover).
            self.lost.append(state.head)
            self._begin(state)
            self._doubtful = False
            self.notify()
            return
        if after > self.ring.last:
            self.ring.restart(after)
        self.ring.offer(self._in_this_epoch(map(Frame.of, events)))
        self.saw(state)
        self._hand_out()

    def recent(self, after: int, only: Filter) -> Page:
        """Gives frames from the ring, which must cover `after`."""
        key = (after, only)
        if key not in self._recent:
            frames = self.ring.after(after, max_bytes=PAGE_BYTES)
            wanted = [f for f in frames if only.matches(f.t, f.agent, f.phase)] if only is not EVERYTHING else frames
            if len(self._recent) >= MAX_RECENT:  # readers at so many places do not go along with each other
                self._recent.clear()
            self._recent[key] = Page.of(wanted, frames[-1].offset if frames else after)
        return self._recent[key]

    def close(self) -> None:
        """Sends the readers away; if they come back they get a new LiveStream, or the reason."""
        self.is_closed = True
        self.notify()
