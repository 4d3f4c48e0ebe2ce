"""A reader across all streams by `epoch, xid, position`, through everything."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from app.database import create_engine
from app.events.cursors import FeedCursor
from app.events.feed import read_feed

PAGE = 500


@dataclass
class Feed:
    address: str
    last: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """The highest offset that was seen of each stream."""
    seen: int = 0
    faults: list[str] = field(default_factory=list)
    _cursor: FeedCursor = field(default_factory=FeedCursor)

    async def run(self) -> None:
        """Until cancelled."""
        engine = create_engine(self.address, pool_size=2)
        try:
            while True:
                try:
                    async with engine.connect() as db:
                        page = await read_feed(db, self._cursor, limit=PAGE)
                except (DBAPIError, OSError):
                    continue
                for frame in page.frames:
                    event = json.loads(frame.split(b"\ndata: ")[1])
                    self._take(event.get("session_id") or event["stream_id"], event["offset"])
                self._cursor = page.reached
                if len(page.frames) < PAGE:
                    await asyncio.sleep(0.1)
        finally:
            await engine.dispose()

    def _take(self, stream_id: str, offset: int) -> None:
        if offset != self.last[stream_id] + 1:
            self.faults.append(f"{stream_id}: offset {offset} came behind {self.last[stream_id]}")
        self.last[stream_id] = offset
        self.seen += 1
