"""Following streams: catch-up from Postgres, then live from Redis, without a gap or a repeat between them.

A reader is a cursor. What it gets next comes from the stream's ring if that covers the cursor, else from
Postgres. The ring is fed by publishes, which may be lost, late or doubled, and is mended from Postgres
whenever something is missing: at a gap, at every confirmation of a subscription (what was published before
it may have been missed) and when the head poll finds the stream further on.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app import metrics
from app.cancelling import asked_to_end
from app.config import Settings
from app.database import DATABASE_AWAY
from app.errors import NotFound
from app.events.cursors import Cursor
from app.events.follow.feed_follower import FeedFollower
from app.events.follow.live import LiveStream, Take
from app.events.follow.read_budget import ReadBudget
from app.events.follow.reader import ANYONE, Reader
from app.events.follow.ring import Page
from app.events.follow.states import StateReads
from app.events.follow.subscriptions import Subscriptions
from app.events.follow.updates import GONE, LAPSED, STOPPING, Away, Beat, End, Frames, Renewed, Reset
from app.events.read import EVERYTHING, Filter, StreamState
from app.events.seals import SealKeys
from app.events.types import StreamId

logger = structlog.get_logger(__name__)

LINGER_SECONDS = 10.0
"""A stream stays subscribed this long without a reader: most come back at once."""
LOG_SECONDS = 30.0
_RESETS = {reason: metrics.resets.labels(reason) for reason in ("other_epoch", "expired")}


class Follower:
    """One for each process: `async with Follower(…) as follower`."""

    def __init__(self, engine: AsyncEngine, redis_url: str, settings: Settings) -> None:
        self.states = StateReads(engine)
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._id_every = settings.id_every.total_seconds()
        # Catching up leaves connections to everything else.
        self._budget = ReadBudget(engine, at_once=max(1, settings.database_pool_size // 2))
        self._streams: dict[StreamId, LiveStream] = {}
        self._keepers: dict[StreamId, asyncio.Task[None]] = {}
        self._seal_keys = SealKeys(engine)
        self.subscriptions = Subscriptions(redis_url, self._seal_keys)
        self.feed = FeedFollower(self._budget, self.subscriptions, settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._readers = 0
        self._hung_up = False
        self._beats = 0

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._seal_keys.run(), name="seal-keys"),
            asyncio.create_task(self.subscriptions.run(), name="subscriptions"),
            asyncio.create_task(self._poll_heads(), name="head-poll"),
            asyncio.create_task(self._beat(), name="heartbeat"),
        ]
        for task in self._tasks:
            task.add_done_callback(_report)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.hang_up()
        for stream_id in list(self._streams):
            self._close(stream_id)
        self.feed.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._budget.close()

    @property
    def readers(self) -> int:
        """How many streams are followed here, the feed included, each by one reader."""
        return self._readers + self.feed.readers

    async def follow(
        self,
        state: StreamState,
        after: int,
        only: Filter = EVERYTHING,
        take: Take | None = None,
        reader: Reader = ANYONE,
        *,
        stays: bool = False,
    ) -> AsyncGenerator[Frames | Reset | Renewed | End | Beat | Away, None]:
        """What comes after the offset `after`, which `state` (read just before) can serve.

        The last is `End`, after which a reader that `stays` gets what comes when the stream is reopened; or `Away`
        when this process stops, the stream is gone or the reader may not go on: the client is to come back. While it
        waits, new frames are first offered to `take`, which costs no switch of tasks; False: they come as Frames.
        """
        live = self._join(state)
        reader.came()
        try:
            epoch, losses = state.epoch, len(live.lost)
            cursor = told = after  # told: the last id that the client knows
            ended: int | None = None  # the head with which the client was told the end
            ahead: asyncio.Task[Page] | None = None
            beats = self._beats
            tell_at = self._clock() + self._id_every
            while (why := self._why_away(live.is_closed, reader)) is None:
                seen = live.changes  # taken before looking: what happens meanwhile is not slept over
                page = await live.next_page(Cursor(epoch, told), losses, cursor, only, ahead)
                if page is None or not reader.may_go_on():  # the database lets it wait
                    if beats != self._beats:
                        beats = self._beats
                        yield Beat(live.ring.head)
                    continue
                ahead = None
                # The order of the branches is that of urgency. A reset comes first: of a stream that began anew, no
                # frame may go out under the old cursor. Then what there is, and the moves of a cursor over what the
                # filter dropped; only a reader that has everything up to the head is told the end, or a heartbeat,
                # or sleeps.
                if isinstance(page, Reset | Renewed):
                    losses, ended = len(live.lost), None
                    epoch, cursor = page.cursor.epoch, page.cursor.offset
                    told = cursor
                    yield _counted(page)
                elif page.frames:
                    cursor, told = page.reached, page.last
                    tell_at = self._clock() + self._id_every
                    ahead = None if live.ring.covers(cursor) else live.pages.read_ahead(cursor, only)
                    yield Frames(Cursor(epoch, told), page.frames)
                elif told < page.reached and (self._clock() >= tell_at or live.is_end(page.reached)):
                    cursor = told = page.reached
                    tell_at = self._clock() + self._id_every
                    yield Frames(Cursor(epoch, cursor), b"")
                elif cursor < page.reached:
                    cursor = page.reached
                elif live.is_end(cursor) and cursor != ended:
                    ended = cursor
                    yield End(live.state)
                    if not stays:
                        return
                elif beats != self._beats:
                    beats = self._beats
                    yield Beat(live.ring.head)
                elif told < cursor:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(tell_at):
                            await live.more(cursor, seen=seen, take=None)
                else:
                    cursor = told = await live.more(cursor, seen=seen, take=None if only else take)
            yield Away(why, Cursor(epoch, told))
        finally:
            reader.left()
            self._leave(live)

    def _why_away(self, is_closed: bool, reader: Reader) -> str | None:
        """Why a reader is to be sent away, if it is."""
        return STOPPING if self._hung_up else GONE if is_closed else None if reader.may_go_on() else LAPSED

    def hang_up(self) -> None:
        """Sends all readers away, between two batches."""
        self._hung_up = True
        self.feed.hang_up()
        self.look_again()

    def look_again(self) -> None:
        """Wakes all readers of streams and of the feed, so that each asks whether it may go on."""
        for live in self._streams.values():
            live.notify()
        self.feed.look_again()

    @property
    def push_round_trip(self) -> float | None:
        """How many seconds a message takes from this process through Redis and back; None while Redis is away."""
        return self.subscriptions.round_trip

    def _join(self, state: StreamState) -> LiveStream:
        live = self._streams.get(state.stream_id)
        if live is not None and live.is_closed:
            self._close(state.stream_id)
        if live is None or live.is_closed:
            live = self._open(state)
        live.saw(state)
        live.readers += 1
        self._readers += 1
        return live

    def _leave(self, live: LiveStream) -> None:
        live.readers -= 1
        self._readers -= 1
        live.left_at = self._clock()

    def _open(self, state: StreamState) -> LiveStream:
        stream_id = state.stream_id
        live = self._streams[stream_id] = LiveStream(self._budget, self.states, state, self._settings)
        self.subscriptions.add(stream_id, live)
        keeper = self._keepers[stream_id] = asyncio.create_task(live.keep_up(), name=f"live-{stream_id}")
        keeper.add_done_callback(lambda task: self._on_keeper_ended(live, task))
        return live

    def _close(self, stream_id: StreamId) -> None:
        self.subscriptions.remove(stream_id)
        self._keepers.pop(stream_id).cancel()
        self._streams.pop(stream_id).close()

    def _on_keeper_ended(self, live: LiveStream, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if not isinstance(error := task.exception(), NotFound):
            logger.error("a followed stream broke", stream_id=str(live.state.stream_id), exc_info=error)
        self._close(live.state.stream_id)

    async def _beat(self) -> None:
        # One timer for all readers: one for each would cost more than what they are sent.
        while not asked_to_end():
            await asyncio.sleep(self._settings.heartbeat.total_seconds())
            self._beats += 1
            self.feed.beat()
            for live in self._streams.values():
                live.notify()

    async def _poll_heads(self) -> None:
        """One query for all followed streams covers lost publishes, and all of them while Redis is down."""
        quiet_until = 0.0
        while not asked_to_end():
            await asyncio.sleep(self._settings.head_poll.total_seconds())
            now = self._clock()
            for stream_id, live in list(self._streams.items()):
                if not live.readers and now - live.left_at > LINGER_SECONDS:
                    self._close(stream_id)
            self.feed.close_unread(left_before=now - LINGER_SECONDS)
            try:
                # Not over a connection of its own: another one would be opened just when a thousand readers come.
                asked = list(self._streams)
                states = await self.states.read_all(asked)
            except DATABASE_AWAY as error:
                if now >= quiet_until:
                    logger.warning("postgres is away; followers wait", error=str(error))
                    quiet_until = now + LOG_SECONDS
                continue
            for state in states:
                if live_or_none := self._streams.get(state.stream_id):
                    live_or_none.saw(state)
            for stream_id in set(asked).difference(state.stream_id for state in states):
                if stream_id in self._streams:  # Postgres has lost it: its readers come back, and are told so
                    self._close(stream_id)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.critical("following is broken; restart this process", task=task.get_name(), exc_info=error)


def _counted(news: Reset | Renewed) -> Reset | Renewed:
    if isinstance(news, Reset):
        _RESETS[news.reason].inc()
    return news
