"""The bare ASGI cursor server: what Redis publishes on one channel, to every client; /50 asks for 50 before, too.

The least that such a server can do: one ring of ready frames, a cursor for each client, all that is pending in
one write, joined once for all clients at the same place. No log, no names, no filters, no access.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

RING_FRAMES = 4096
Message = MutableMapping[str, Any]
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class Stream:
    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._dropped = 0
        self._joined: dict[int, bytes] = {}
        self.changed = asyncio.Event()

    @property
    def head(self) -> int:
        return self._dropped + len(self._frames)

    def append(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._joined.clear()
        if len(self._frames) > 2 * RING_FRAMES:
            del self._frames[:RING_FRAMES]
            self._dropped += RING_FRAMES
        self.changed.set()
        self.changed = asyncio.Event()

    def after(self, cursor: int) -> bytes:
        if cursor not in self._joined:
            self._joined[cursor] = b"".join(self._frames[cursor - self._dropped :])
        return self._joined[cursor]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    cursor = stream.head - int(scope["path"][1:] or 0)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    cycle = send.__self__  # type: ignore[attr-defined]  # uvicorn's; a task that waits for the end would cost more
    while not cycle.disconnected:
        changed = stream.changed
        if cursor == stream.head:
            await changed.wait()
        head = stream.head
        await send({"type": "http.response.body", "body": stream.after(cursor), "more_body": True})
        cursor = head


async def main() -> None:
    config = uvicorn.Config(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning", lifespan="off")
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(os.environ["CHANNEL"])
        listening = asyncio.create_task(listen(pubsub))
        await uvicorn.Server(config).serve()
        listening.cancel()


async def listen(pubsub: PubSub) -> None:
    async for message in pubsub.listen():
        if message["type"] == "message":
            stream.append(message["data"])


if __name__ == "__main__":
    stream = Stream()
    asyncio.run(main())
