"""Following the feed: a reader is a cursor and a filter, and gets what comes after the one and matches the other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, suppress

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import Settings
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import ALL_STREAMS, FeedFilter
from app.events.follow.feed_ring import FeedPage
from app.events.follow.feed_tail import FeedTail
from app.events.follow.live import Take
from app.events.follow.read_budget import ReadBudget
from app.events.follow.reader import ANYONE, Reader
from app.events.follow.subscriptions import Subscriptions
from app.events.follow.updates import GONE, LAPSED, STOPPING, Away, Beat, FeedReset, Frames

logger = structlog.get_logger(__name__)

NEW_EPOCH = "the database was restored, or lost commits: streams may be shorter than they were"
LOST = "the database lost events that were sent: streams may be shorter than they were"


class FeedFollower:
    """One for each process, a part of its Follower. There is a tail only while there are readers, and for a while."""

    def __init__(self, budget: ReadBudget, subscriptions: Subscriptions, settings: Settings) -> None:
        self._budget = budget
        self._subscriptions = subscriptions
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._id_every = settings.id_every.total_seconds()
        self._tail: FeedTail | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._hung_up = False
        self._beats = 0

    @property
    def readers(self) -> int:
        return 0 if self._tail is None else self._tail.readers

    async def follow(
        self,
        after: FeedPlace,
        only: FeedFilter = ALL_STREAMS,
        *,
        epoch: int,
        reader: Reader = ANYONE,
        take: Take | None = None,
    ) -> AsyncGenerator[Frames | FeedReset | Beat | Away, None]:
        """What comes after `after` and matches. `epoch` is the one that the client was told.

        The last is `Away`. `take` is not used: the feed hands all out as Frames.
        """
        tail = self._join()
        reader.came()
        try:
            losses, cursor, told = len(tail.lost), after, after  # told: the last id that the client knows
            ahead: asyncio.Task[FeedPage] | None = None
            beats = self._beats
            tell_at = self._clock() + self._id_every
            while (why := self._why_away(tail.is_closed, reader)) is None:
                seen = tail.changes  # taken before looking: what happens meanwhile is not slept over
                page = await tail.next_page(cursor, only, ahead)
                if page is None or not reader.may_go_on():  # the database lets it wait
                    if beats != self._beats:
                        beats = self._beats
                        yield Beat(max(tail.ring.reached, cursor))
                    continue
                ahead = None
                # The order of the branches is that of Follower.follow. A page says in which epoch it was read, so no
                # frame of a new one goes out before its reset. What is told is what a reader that comes back is told.
                if len(tail.lost) > losses or page.epoch > epoch:
                    is_lost, has_begun = any(cursor >= place for place in tail.lost[losses:]), page.epoch > epoch
                    losses, epoch = len(tail.lost), max(epoch, page.epoch)
                    cursor = told = FeedPlace() if is_lost else told
                    if is_lost or has_begun:
                        head, goes_on = max(tail.ring.reached, FeedPlace(epoch)), FeedCursor(epoch, cursor)
                        yield FeedReset(LOST if is_lost else NEW_EPOCH, epoch, head, goes_on)
                elif page.frames:
                    assert page.last is not None
                    cursor, told = page.reached, page.last
                    tell_at = self._clock() + self._id_every
                    ahead = tail.read_ahead(cursor, only)
                    yield Frames(FeedCursor(epoch, told), page.frames)
                elif told < page.reached and self._clock() >= tell_at:
                    cursor = told = page.reached
                    tell_at = self._clock() + self._id_every
                    yield Frames(FeedCursor(epoch, cursor), b"")
                elif cursor < page.reached:
                    cursor = page.reached
                elif beats != self._beats:
                    beats = self._beats
                    yield Beat(max(tail.ring.reached, cursor))
                elif told < cursor:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(tell_at):
                            await tail.more(seen=seen)
                else:
                    await tail.more(seen=seen)
            yield Away(why, FeedCursor(epoch, told))
        finally:
            reader.left()
            self._leave(tail)

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for one statement about the feed, within what catching up may take."""
        return self._budget.connection()

    def _why_away(self, is_closed: bool, reader: Reader) -> str | None:
        """Why a reader is to be sent away, if it is."""
        return STOPPING if self._hung_up else GONE if is_closed else None if reader.may_go_on() else LAPSED

    def hang_up(self) -> None:
        """Sends all readers away, between two batches."""
        self._hung_up = True
        self.look_again()

    def look_again(self) -> None:
        """Wakes all readers, so that each asks whether it may go on."""
        if self._tail is not None:
            self._tail.wake()

    def beat(self) -> None:
        """Lets those that wait show that they live."""
        self._beats += 1
        self.look_again()

    def close_unread(self, *, left_before: float) -> None:
        """Ends the tail if its last reader left before this time."""
        if self._tail is not None and not self._tail.readers and self._tail.left_at < left_before:
            self.close()

    def close(self) -> None:
        if self._tail is None or self._keeper is None:
            return
        self._subscriptions.hear_all(None)
        self._keeper.cancel()
        tail, self._tail, self._keeper = self._tail, None, None
        tail.close()

    def _join(self) -> FeedTail:
        if self._tail is None:
            self._tail = FeedTail(self._budget, self._settings)
            self._subscriptions.hear_all(self._tail.ring_bell)
            self._keeper = asyncio.create_task(self._tail.keep_up(), name="feed")
            self._keeper.add_done_callback(self._on_keeper_ended)
        self._tail.readers += 1
        return self._tail

    def _leave(self, tail: FeedTail) -> None:
        tail.readers -= 1
        tail.left_at = self._clock()

    def _on_keeper_ended(self, task: asyncio.Task[None]) -> None:
        if task is self._keeper:
            logger.error("the feed broke", exc_info=None if task.cancelled() else task.exception())
            self.close()
