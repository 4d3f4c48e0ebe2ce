"""What the tests of the feed share: readers of it, and its frames as the rows have them."""

import json
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.events import encoding
from app.events.append import append as append_items
from app.events.cursors import FeedCursor, FeedPlace
from app.events.encoding import Recorded
from app.events.epochs import current_epoch
from app.events.feed import ALL_STREAMS, FeedFilter, read_feed
from app.events.follow.follower import Follower
from app.events.follow.reader import ANYONE
from app.events.follow.reader import Reader as MayRead
from app.events.follow.updates import Frames
from app.events.types import AnyStreamId, StoredEvent, StreamKind


class FeedReader:
    """Follows the feed and keeps what came."""

    def __init__(
        self,
        following: Follower,
        after: FeedPlace | None = None,
        only: FeedFilter = ALL_STREAMS,
        *,
        epoch: int = 1,
        reader: MayRead = ANYONE,
    ) -> None:
        self.place = after or FeedPlace()
        self.updates = following.feed.follow(self.place, only, epoch=epoch, reader=reader)
        self.frames = list[bytes]()

    async def read(self, *, to: int) -> None:
        """Until so many frames have come."""
        while len(self.frames) < to:
            update = await anext(self.updates)
            assert isinstance(update, Frames), update
            self.take(update)

    def take(self, update: Frames) -> None:
        assert isinstance(update.cursor, FeedCursor) and update.cursor.place > self.place
        self.place = update.cursor.place
        self.frames += [frame + b"\n\n" for frame in update.frames.split(b"\n\n")[:-1]]

    @property
    def numbers(self) -> list[int]:
        return [event["details"]["number"] for event in map(event_of, self.frames)]


def event_of(frame: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(frame.split(b"\ndata: ")[1])
    return event


async def all_frames(engine: AsyncEngine, only: FeedFilter = ALL_STREAMS) -> list[bytes]:
    async with engine.connect() as db:
        return (await read_feed(db, FeedPlace(), only, limit=1_000_000)).frames


async def stored(engine: AsyncEngine) -> list[bytes]:
    """The frames as they must arrive, put together here from the rows, not by the code under test."""
    query = (
        'SELECT epoch, xid::text, position, e.stream_id, s.kind, "offset", ts, t, agent, phase, data::text'
        " FROM events e JOIN streams s USING (stream_id) ORDER BY epoch, e.xid, position"  # not the text
    )
    async with engine.connect() as db:
        rows = (await db.execute(text(query))).all()
        present = await current_epoch(db)
    return [
        f"id: {'' if row[0] == present else f'{present}.'}{row[0]}-{row[1]}-{row[2]}\n"
        f"event: {row[7].removesuffix('_event')}\n"
        f"data: {Recorded(*row[3:]).wire()}\n\n".encode()
        for row in rows
    ]


async def write(
    db: AsyncConnection, stream_id: AnyStreamId, event: StoredEvent, kind: StreamKind = "session"
) -> list[Recorded]:
    return await append_items(db, [encoding.item(stream_id, event, kind=kind)])
