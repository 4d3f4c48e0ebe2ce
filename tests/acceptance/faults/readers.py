"""Readers that follow sessions through everything, and remember what they got."""

import asyncio
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.acceptance.faults.sse import Cut, Frame, Refused, connected

Manner = Literal["steady", "restless", "sluggish", "forgetful"]
"""restless: hangs up all the time. sluggish: a small window and long pauses. forgetful: starts from 0 again."""
MANNERS: tuple[Manner, ...] = ("steady", "steady", "restless", "sluggish", "forgetful")
SILENCE_SECONDS = 8.0
"""Without even a comment for this long a line is dead; the gateway sends one every 2 s."""


def fingerprint(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:12]


@dataclass
class View:
    """What one reader saw of one stream: the fingerprint of each event's bytes, by offset − 1."""

    session_id: str
    manner: Manner
    seen: list[bytes] = field(default_factory=list)
    checked: int = 0
    """Events that came a second time, to a reader that had asked for them again, and were the same."""
    ended: dict[str, Any] | None = None
    faults: list[str] = field(default_factory=list)


class Reader:
    """Follows one session to its end over as many connections as that takes."""

    def __init__(self, session_id: str, ports: list[int], *, token: str, manner: Manner, chance: random.Random) -> None:
        self.view = View(session_id, manner)
        self.reconnections = 0
        self._ports = ports
        self._token = token
        self._chance = chance
        self._cursor = 0

    async def follow(self) -> None:
        while self.view.ended is None and not self.view.faults:
            try:
                await self._connection()
            except Refused as refused:
                await self._refused(refused.status)
            except (OSError, Cut, TimeoutError):
                pass
            self.reconnections += 1
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))

    async def _refused(self, status: int) -> None:
        if status == 204 and self.view.ended is None:
            self.view.ended = {"head": self._cursor}  # all was read; the `end` frame had been lost
        elif status < 500:
            self.view.faults.append(f"refused with {status}")

    async def _connection(self) -> None:
        if self.view.manner == "forgetful" and self._chance.random() < 0.3:
            self._cursor = 0
        path = f"/sessions/{self.view.session_id}/events"
        small = 4096 if self.view.manner == "sluggish" else None
        port = self._chance.choice(self._ports)
        patience = self._chance.randint(1, 30) if self.view.manner in {"restless", "forgetful"} else 1_000_000
        async with connected(port, path, token=self._token, after=self._cursor, receive_buffer=small) as connection:
            batches = connection.frames()
            while patience > 0:
                async with asyncio.timeout(SILENCE_SECONDS * 2):
                    frames = await anext(batches, None)
                if frames is None:
                    return
                for frame in frames:
                    self._take(frame)
                patience -= 1
                if small is not None:
                    await asyncio.sleep(self._chance.uniform(0, 0.5))

    def _take(self, frame: Frame) -> None:
        match frame.event:
            case "stream" | "cursor" | "heartbeat" | "away":
                pass
            case "end":
                self.view.ended = json.loads(frame.data)
            case "reset":
                self.view.faults.append(f"reset at {self._cursor}: {frame.data.decode()}")
            case _:
                self._take_event(frame)

    def _take_event(self, frame: Frame) -> None:
        seen, offset = self.view.seen, int(frame.id)
        if offset != self._cursor + 1:
            self.view.faults.append(f"offset {offset} came behind {self._cursor}")
            return
        self._cursor = offset
        if offset <= len(seen):
            self.view.checked += 1
            if seen[offset - 1] != fingerprint(frame.data):
                self.view.faults.append(f"offset {offset} had other bytes when it came again")
        else:
            seen.append(fingerprint(frame.data))


@dataclass
class Readers:
    """All readers of a run."""

    ports: list[int]
    token: str
    chance: random.Random
    views: list[View] = field(default_factory=list)
    reconnections: int = 0

    async def follow(self, session_id: str, manner: Manner) -> None:
        chance = random.Random(self.chance.random())
        reader = Reader(session_id, self.ports, token=self.token, manner=manner, chance=chance)
        self.views.append(reader.view)
        await reader.follow()
        self.reconnections += reader.reconnections
