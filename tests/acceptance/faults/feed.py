"""A reader of the feed of all streams over HTTP, which is cut and goes on from its last id, through everything."""

import asyncio
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field

from tests.acceptance.faults.readers import SILENCE_SECONDS, fingerprint
from tests.acceptance.faults.sse import Cut, Frame, Refused, connected


@dataclass
class Feed:
    ports: list[int]
    token: str
    chance: random.Random
    patience: int | None = None
    """How many batches it takes from one connection; a few that are drawn anew each time, if not given."""
    seen: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """The fingerprint of each event's bytes by stream and offset − 1."""
    faults: list[str] = field(default_factory=list)
    reconnections: int = 0
    _cursor: str = "0-0-0"

    @property
    def events(self) -> int:
        return sum(map(len, self.seen.values()))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._connection()
            except Refused as refused:
                if refused.status < 500:
                    self.faults.append(f"refused with {refused.status} at {self._cursor}")
            except (OSError, Cut, TimeoutError):
                pass
            self.reconnections += 1
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    async def _connection(self) -> None:
        port, patience = self.chance.choice(self.ports), self.patience or self.chance.randint(1, 60)
        async with connected(port, "/events", token=self.token, after=self._cursor) as connection:
            batches = connection.frames()
            while patience > 0:
                async with asyncio.timeout(SILENCE_SECONDS * 2):
                    frames = await anext(batches, None)
                if frames is None:
                    return
                for frame in frames:
                    self._take(frame)
                patience -= 1

    def _take(self, frame: Frame) -> None:
        match frame.event:
            case "stream":
                if frame.id != self._cursor:
                    self.faults.append(f"{self._cursor} was understood as {frame.id}")
            case "reset" | "end":
                self.faults.append(f"{frame.event} at {self._cursor}: {frame.data.decode()}")
            case "cursor":
                self._move(frame.id)
            case "heartbeat" | "away":
                pass
            case _:
                self._move(frame.id)
                self._take_event(frame.data)

    def _move(self, cursor: str) -> None:
        before, after = ([int(part) for part in text.split("-")] for text in (self._cursor, cursor))
        if after <= before:
            self.faults.append(f"{cursor} came after {self._cursor}")
        self._cursor = cursor

    def _take_event(self, data: bytes) -> None:
        event = json.loads(data)
        seen = self.seen[event.get("session_id") or event["stream_id"]]
        if event["offset"] != len(seen) + 1:
            self.faults.append(f"{self._cursor}: offset {event['offset']} came after {len(seen)}")
        seen.append(fingerprint(data))
