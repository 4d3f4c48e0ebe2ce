"""The feed over real HTTP: one connection for the events of all streams, and pages of the same."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.events import encoding
from app.events.append import append as append_items
from app.events.append import create_stream
from app.events.types import StreamId, StreamKind
from tests.following import append, close, new_stream
from tests.serving import Served, serving

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(params=["httptools", "h11"])
async def served(database_url: str, redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, http=request.param) as served:
        yield served


@asynccontextmanager
async def feed(
    served: Served, *, last: str | None = None, **query: Any
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    headers = SSE if last is None else SSE | {"Last-Event-ID": last}
    async with aconnect_sse(served.client, "GET", "/events", params=query, headers=headers) as source:
        yield source.aiter_sse()


async def page(served: Served, **query: Any) -> dict[str, Any]:
    answer = await served.client.get("/events", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def next_of(events: AsyncIterator[ServerSentEvent], kind: str) -> ServerSentEvent:
    """The next frame, which is of this kind."""
    frame = await anext(events)
    while frame.event == "message" and not frame.data:  # a heartbeat, or an id alone
        frame = await anext(events)
    assert frame.event == kind, frame
    return frame


async def take(events: AsyncIterator[ServerSentEvent], count: int) -> list[ServerSentEvent]:
    """The next events, whatever else comes between them."""
    found = list[ServerSentEvent]()
    while len(found) < count:
        frame = await anext(events)
        assert frame.event != "reset", frame.data
        if frame.data and frame.event != "stream":
            found.append(frame)
    return found


async def stream_of(
    engine: AsyncEngine, *, project: str = "default", kind: StreamKind = "session", workflow: str | None = None
) -> StreamId:
    stream_id = StreamId(uuid4())
    async with transaction(engine) as db:
        await create_stream(db, stream_id, kind, project=project)
        if workflow is not None:
            created = {"t": "session_event", "status": "created", "task": "a", "workflow": workflow}
            await append_items(db, [encoding.item(stream_id, created, kind=kind)])  # type: ignore[arg-type]  # shortened
    return stream_id


def numbers(events: Sequence[ServerSentEvent]) -> list[int]:
    return [event.json()["details"]["number"] for event in events]


async def test_what_there_is_then_what_comes(served: Served) -> None:
    engine, push = served.gateway.engine, served.gateway.backends.push
    first, second = await new_stream(engine), await new_stream(engine)
    await append(engine, first, [1, 2])
    await append(engine, second, [3])
    async with feed(served) as events:
        opening = await next_of(events, "stream")
        assert opening.id == "0-0-0" and 0 < (opening.retry or 0) < 10_000
        there = await take(events, 3)
        assert numbers(there) == [1, 2, 3]
        assert opening.json() == {"head": there[-1].id, "epoch": 1}
        push.publish(await append(engine, second, [4]))
        push.publish(await append(engine, first, [5]))
        push.publish(await close(engine, first))  # a feed has no end
        *came, last = await take(events, 3)
        assert numbers(came) == [4, 5] and last.json()["status"] == "succeeded"
        push.publish(await append(engine, second, [6]))
        assert numbers(await take(events, 1)) == [6]
    assert [event.json()["offset"] for event in there] == [1, 2, 1]
    async with feed(served, last=there[1].id) as events:
        assert (await next_of(events, "stream")).id == there[1].id
        assert numbers(await take(events, 3)) == [3, 4, 5]
