"""What the tests of push, follow and the gateway share: streams with events, and readers of them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.config import Settings
from app.database import create_engine, transaction
from app.events import encoding, read
from app.events.append import append as append_items
from app.events.append import create_stream
from app.events.cursors import Cursor
from app.events.encoding import Recorded, format_ts
from app.events.follow.follower import Follower
from app.events.follow.live import Take
from app.events.follow.updates import End, Frames, Update
from app.events.read import EVERYTHING, Filter, StreamState
from app.events.types import AgentEvent, AnyStreamId, StreamId
from app.sessions.facts import agent_event

NO_SERVER = "redis://127.0.0.1:1/0"


@asynccontextmanager
async def engine_of(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    try:
        yield engine
    finally:
        await engine.dispose()


def quick(**changes: Any) -> Settings:
    """Settings with short waits."""
    return Settings(**({"head_poll": 0.1, "id_every": 0.1} | changes))


def progress(number: int, *, agent: str = "codesmith", size: int = 0) -> AgentEvent:
    return agent_event(
        agent=agent,
        phase="progress",
        msg=f"📡 step {number} " + "x" * size,
        progress=number,
        total=None,
        details={"number": number},
        step=1,
        attempt=1,
    )


async def new_stream(engine: AsyncEngine) -> StreamId:
    stream_id = StreamId(uuid4())
    async with transaction(engine) as db:
        await create_stream(db, stream_id, "session")
    return stream_id


async def append(engine: AsyncEngine, stream_id: StreamId, numbers: Iterable[int], **shape: Any) -> list[Recorded]:
    async with transaction(engine) as db:
        return await append_items(db, [encoding.item(stream_id, progress(n, **shape)) for n in numbers])


async def close(
    engine: AsyncEngine, stream_id: StreamId, *, status: Literal["succeeded", "failed"] = "succeeded"
) -> list[Recorded]:
    """The last event, and the end."""
    async with transaction(engine) as db:
        return await append_items(
            db, [encoding.item(stream_id, {"t": "session_event", "status": status}, kind="session")]
        )


async def set_closed(db: AsyncConnection, stream_id: AnyStreamId, closed: bool) -> None:
    """Closes or reopens a stream without an event."""
    await db.execute(
        text("UPDATE streams SET closed = :closed WHERE stream_id = :id"), {"id": stream_id, "closed": closed}
    )


async def state_of(engine: AsyncEngine, stream_id: StreamId) -> StreamState:
    async with engine.connect() as db:
        return await read.stream_state(db, stream_id)


async def stored_frames(engine: AsyncEngine, stream_id: StreamId, after: int = 0) -> bytes:
    """The frames as they must arrive, put together here from the rows, not by the code under test."""
    async with engine.connect() as db:
        state = await read.stream_state(db, stream_id)
        events = await read.read_page(db, state, after=after, limit=1_000_000)
    assert [e.offset for e in events] == list(range(after + 1, state.head + 1))
    return "".join(
        f"id: {e.offset}\nevent: {e.t.removesuffix('_event')}\n"
        f'data: {{"offset":{e.offset},"session_id":"{stream_id}","ts":"{format_ts(e.ts)}",{e.data[1:]}\n\n'
        for e in events
    ).encode()


async def logged(engine: AsyncEngine, stream_id: AnyStreamId, *, until: int | None = None) -> list[str]:
    """The events as they must arrive, each as the `data` of its frame."""
    async with engine.connect() as db:
        state = await read.stream_state(db, stream_id)
        return [event.wire() for event in await read.read_page(db, state, after=0, limit=1000, until=until)]


class Reader:
    """Follows a stream and keeps what came."""

    def __init__(
        self,
        follower: Follower,
        state: StreamState,
        after: int = 0,
        only: Filter = EVERYTHING,
        take: Take | None = None,
    ) -> None:
        self.updates = follower.follow(state, after, only, take)
        self.frames = b""
        self.cursor = after

    async def read(self, *, to: int) -> None:
        """Until the cursor is at `to` or beyond."""
        while self.cursor < to:
            update = await anext(self.updates)
            assert isinstance(update, Frames), update
            self._take(update)

    async def read_all(self) -> End:
        """Until the end."""
        async for update in self.updates:
            match update:
                case Frames():
                    self._take(update)
                case End():
                    return update
                case _:
                    raise AssertionError(update)
        raise AssertionError("the stream ended without End")

    async def next(self) -> Update:
        return await anext(self.updates)

    def _take(self, batch: Frames) -> None:
        assert isinstance(batch.cursor, Cursor) and batch.cursor.offset > self.cursor
        self.cursor = batch.cursor.offset
        self.frames += batch.frames


def offsets_in(frames: bytes) -> Sequence[int]:
    return [int(line[4:].rpartition(b".")[2]) for line in frames.split(b"\n") if line.startswith(b"id: ")]
