"""Streams on a server that is not uvicorn: all that ASGI can say is that a body is complete, or nothing."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.events.cursors import Cursor
from app.events.follow.live import Take
from app.events.follow.reader import ANYONE
from app.events.follow.updates import Away, Beat, End, Frames, Update
from app.events.read import StreamState
from app.events.types import StreamId
from app.gateway.responses import STREAM
from app.gateway.streaming.asgi_response import AsgiStreams
from app.gateway.streaming.manner import manner_of
from app.gateway.streaming.parting import cycle_of

STATE = StreamState(StreamId(UUID(int=1)), "session", 1, bytes(32), 1, True, "succeeded", 1)
EVENT = Frames(Cursor(1, 1), b'id: 1\nevent: agent\ndata: {"offset":1}\n\n')
SCOPE: Scope = {"type": "http", "method": "GET", "path": "/events", "headers": [], "http_version": "1.1"}


async def sent(*given: Update, beats: str = "comment") -> list[Message]:
    async def updates(*, take: Take | None = None) -> AsyncGenerator[Update, None]:
        for update in given:
            yield update

    messages = list[Message]()

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await run(AsgiStreams(5).response(b"first\n\n", updates, ANYONE, manner_of(heartbeat=beats).encode), receive, send)
    return messages


async def run(response: object, receive: Receive, send: Send) -> None:
    scope = dict(SCOPE)
    await response(scope, receive, send)  # type: ignore[operator]  # any ASGI application
    assert cycle_of(send) is None
    await scope[STREAM].run(scope, receive, send, scope[STREAM].raw_headers)


@pytest.mark.parametrize(
    ("last", "is_complete"),
    [(End(STATE), True), (Away("the gateway is stopping", Cursor(1, 1)), False), (EVENT, False)],
)
async def test_a_body_is_complete_only_after_end(last: Update, is_complete: bool) -> None:
    start, *parts = await sent(EVENT, last)
    assert (b"cache-control", b"no-store, no-transform") in start["headers"]
    assert b"connection" not in dict(start["headers"])
    assert [part["more_body"] for part in parts] == [True] * 3 + [False] * is_complete


async def test_a_heartbeat_as_it_was_asked_for() -> None:
    for beats, expected in (("comment", b": heartbeat\n"), ("event", b'event: heartbeat\ndata: {"head":7}\n\n')):
        *_, part = await sent(Beat(7), beats=beats)
        assert part["body"] == expected
