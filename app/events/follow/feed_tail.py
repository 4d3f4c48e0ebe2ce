"""The end of the feed as this process knows it: what is new is read once, for all readers of the feed.

What is published is only a bell. A publish may come before the event is complete, as an older transaction may still
write; then nothing tells when that one ends, and it is looked again after a while.
"""

import asyncio
from contextlib import suppress

from app.cancelling import asked_to_end
from app.config import Settings
from app.events.cursors import FeedPlace
from app.events.feed import FeedFilter, FeedHead, News, feed_head, read_feed, read_news
from app.events.follow.feed_ring import FeedPage, FeedRing
from app.events.follow.read_budget import ReadBudget
from app.events.follow.shared_reads import PAGE_BYTES, PageSize, SharedReads, until_it_answers

GATHER_SECONDS = 0.005
"""What comes in this time after a look is read by one look."""
FIRST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 1.0
"""How long to wait for events to become complete: a transaction is over in milliseconds, or stands still."""
MAX_RECENT = 16

Place = tuple[FeedPlace, FeedFilter]


class FeedTail:
    """Shared by all readers of the feed in this process. `lost` has, for each time that commits were found lost, the
    place that remained."""

    def __init__(self, budget: ReadBudget, settings: Settings) -> None:
        self._budget = budget
        self._poll = settings.head_poll.total_seconds()
        self._size = PageSize(settings.catch_up_page)
        self._shared = SharedReads(budget, self._read)
        self._recent: dict[Place, FeedPage] = {}
        self._bell = asyncio.Event()
        self._changed = asyncio.Event()
        self.ring = FeedRing(max_frames=settings.ring_frames, max_bytes=settings.ring_bytes)
        self.epoch = 0
        self.lost = list[FeedPlace]()
        self.changes = 0
        self.readers = 0
        self.left_at = 0.0
        self.is_closed = False

    def ring_bell(self) -> None:
        """There may be something new."""
        self._bell.set()

    def notify(self) -> None:
        """Wakes all readers that wait for news."""
        self.changes += 1
        self._recent.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def more(self, *, seen: int) -> None:
        """Waits for a change later than the `changes` that were `seen`."""
        if self.changes == seen:
            await self._changed.wait()

    def close(self) -> None:
        """Sends the readers away; if they come back they get a new tail."""
        self.is_closed = True
        self.wake()

    async def keep_up(self) -> None:
        """Looks at each bell, and now and then without one. Until cancelled."""
        wait = FIRST_WAIT_SECONDS
        while not asked_to_end():
            self._bell.clear()
            reached = self.ring.reached
            is_waiting = await self._look()
            wait = min(2 * wait, LONGEST_WAIT_SECONDS) if self.ring.reached == reached else FIRST_WAIT_SECONDS
            await asyncio.sleep(GATHER_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if is_waiting else self._poll):
                    await self._bell.wait()

    @until_it_answers
    async def _look(self) -> bool:
        """Reads all that is new. Says whether there is more that is not complete yet."""
        while True:
            async with self._budget.connection() as db:
                if not self.ring.has_begun:
                    self._begin(await feed_head(db))
                limit = self._size.limit
                news = await read_news(db, self.ring.reached, limit=limit)
                if news.bound <= self.ring.reached:
                    # What was complete is so no more: Postgres has lost commits (a failover).
                    self.lost.append(news.bound)
                    self._begin(await feed_head(db))
                    return True
            self._take(news, is_full=len(news.frames) == limit)
            if len(news.frames) < limit:
                return news.is_waiting

    def _begin(self, head: FeedHead) -> None:
        self.epoch = head.epoch
        self.ring.restart(head.place)
        self.notify()

    def _take(self, news: News, *, is_full: bool) -> None:
        reached = news.frames[-1].place if news.frames else self.ring.reached
        if not is_full:
            reached = max(reached, FeedPlace(news.epoch))
        if (reached, news.epoch) == (self.ring.reached, self.epoch):
            return
        self._size.saw([frame.data for frame in news.frames])
        if news.epoch > self.epoch:
            self.ring.restart(self.ring.reached)  # the ids of what it holds are those of the epoch before
        self.epoch = news.epoch
        self.ring.offer(news.frames, reached=reached)
        self.notify()

    async def next_page(
        self, after: FeedPlace, only: FeedFilter, ahead: "asyncio.Task[FeedPage] | None"
    ) -> FeedPage | None:
        """What a reader gets next, from the ring or from Postgres; None: it was woken while it waited."""
        if self.ring.covers(after):
            return self._from_ring((after, only))
        return await self._shared.read((after, only), ahead)

    def wake(self) -> None:
        """Wakes all readers, those included that wait for the database."""
        self._shared.wake()
        self.notify()

    def read_ahead(self, after: FeedPlace, only: FeedFilter) -> "asyncio.Task[FeedPage] | None":
        """Begins to read the page after this place, unless the ring covers it or others need the means more."""
        return None if self.ring.covers(after) else self._shared.read_ahead((after, only))

    def _from_ring(self, place: Place) -> FeedPage:
        if place not in self._recent:
            if len(self._recent) >= MAX_RECENT:  # readers at so many places do not go along with each other
                self._recent.clear()
            after, only = place
            self._recent[place] = self.ring.page(after, only, epoch=self.epoch, max_bytes=PAGE_BYTES)
        return self._recent[place]

    async def _read(self, place: Place) -> FeedPage:
        after, only = place
        async with self._budget.connection() as db:
            found = await read_feed(db, after, only, limit=self._size.limit)
        self._size.saw(found.frames)
        return FeedPage(found.epoch, b"".join(found.frames), found.last, found.reached)
