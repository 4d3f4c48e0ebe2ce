"""How streams end: only after `end` is a body complete, and what was sent before an end always arrives."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from app.events.types import StreamId
from app.gateway.server import Http
from app.gateway.streaming import asgi_response, parting
from app.progress import SessionId
from app.sessions import attempts
from tests.following import append, close, new_stream, quick
from tests.keyed import make_key, revoke, ticket_of
from tests.populating import SERVED, created, ended
from tests.serving import TOKEN, Served, serving, serving_app
from tests.wire import Ended, Wire, blocks, fields, request, wire

SERVERS: tuple[Http, ...] = ("httptools", "h11")
SHORT = 0.3
PATHS = {"feed": "/events", "operators": "/operators/events"}


@pytest.fixture(params=SERVERS)
async def served(database_url: str, redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, http=request.param) as served:
        yield served


@asynccontextmanager
async def gateway(database_url: str, redis_url: str, http: Http, **changes: Any) -> AsyncIterator[Served]:
    """One of several on the same database."""
    settings = quick(database_url=database_url, redis_url=redis_url, token=TOKEN, **changes)
    async with serving_app(settings, http) as served:
        yield served


@pytest.fixture
def short_parting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parting, asgi_response):
        monkeypatch.setattr(module, "PARTING_SECONDS", SHORT)


async def of_one(served: Served, *, closed: bool = False) -> StreamId:
    stream_id = await new_stream(served.gateway.engine)
    await append(served.gateway.engine, stream_id, [1])
    if closed:
        await close(served.gateway.engine, stream_id)
    return stream_id


def assert_away(rest: Ended, cursor: str | None, reason: str) -> None:
    """Told why and where, with the cursor untouched, in a body that is not complete."""
    last = rest.last
    assert last["event"] == "away" and "id" not in last and 0 < int(last["retry"]) < 20_000
    said = "null" if cursor is None else f'"{cursor}"'
    assert last["data"] == f'{{"reason":"{reason}","cursor":{said}}}'
    assert not rest.is_complete


async def test_a_body_is_complete_after_the_end(served: Served) -> None:
    stream_id = await of_one(served, closed=True)
    async with wire(served, f"/events?session_id={stream_id}", "Connection: close") as line:
        head = await line.read_head()
        rest = await line.end()
    assert rest.is_complete and rest.last["event"] == "end"
    assert "cache-control: no-store, no-transform\r\n" in head.lower()


@pytest.mark.parametrize("kind", ["stream", "feed", "operators"])
async def test_a_gateway_that_stops_sends_its_readers_away(database_url: str, redis_url: str, kind: str) -> None:
    for http in SERVERS:
        async with gateway(database_url, redis_url, http) as served:
            stream_id = await of_one(served)
            path = {"stream": f"/sessions/{stream_id}/events", "feed": "/events", "operators": "/operators/events"}[
                kind
            ]
            async with wire(served, path) as line:
                await line.read_head()
                seen = await line.until(b"event: agent\n") if kind != "operators" else await line.until(b"\n\n")
                served.server.should_exit = True
                rest = await line.end(seen)
        cursor = re.findall(r"^id: (.*)$", rest.text, re.MULTILINE)[-1]
        assert_away(rest, cursor, "the gateway is stopping")


@pytest.mark.parametrize("what", ["revoked", "ticket"])
async def test_who_may_read_no_more_is_sent_away(served: Served, what: str) -> None:
    session_id = await created(served.gateway.backends, project="web")
    key = await make_key(served, "read")
    path, token = f"/events?session_id={session_id}", f"Bearer {key.key}"
    if what == "ticket":
        path, token = f"{path}&ticket={await ticket_of(served, key, session_id, expires_in=1)}", "none"
    async with wire(served, path, token=token) as line:
        await line.read_head()
        seen = await line.until(b"event: session\n")
        if what == "revoked":
            await revoke(served, key)
        assert_away(
            await line.end(seen), "1", "the key, ticket or cookie is no longer in force, or could not be checked"
        )


async def test_a_gateway_with_too_many_readers_says_when_to_come_back(database_url: str, redis_url: str) -> None:
    for http in SERVERS:
        async with gateway(database_url, redis_url, http, max_readers=1) as served:
            stream_id = await of_one(served)
            path = f"/events?session_id={stream_id}"
            async with wire(served, path) as first:
                await first.read_head()
                async with wire(served, path, "Last-Event-ID: 1") as second:
                    await second.read_head()
                    assert second.status == 200 and served.gateway.follower.readers == 1
                    rest = await second.end()
            assert len(blocks(rest.body)) == 1
            assert_away(rest, "1", "too many readers")
            head = await served.client.head(path)
            assert head.status_code == 200 and head.headers["content-type"].startswith("text/event-stream")


async def test_unread_requests_do_not_destroy_what_was_sent(
    database_url: str, redis_url: str, short_parting: None
) -> None:
    """A client pipelines requests, and reads the answer to the first when its gateway is gone: Linux would reset."""
    for http in SERVERS:
        async with gateway(database_url, redis_url, http) as served:
            stream_id = await new_stream(served.gateway.engine)
            await append(served.gateway.engine, stream_id, range(40), size=2_000)
            path = f"/events?session_id={stream_id}"
            async with wire(served, path, receive_buffer=8192) as line:
                while not served.gateway.follower.readers:
                    await asyncio.sleep(0.01)
                line.writer.write(request(path, f"X-Filler: {'x' * 20_000}") * 30)
                await asyncio.sleep(0.1)  # the first few are read, and then no more
                served.server.should_exit = True
                while served.server.servers[0].sockets:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(2 * SHORT)
                await line.read_head()
                assert_away(await line.end(), "40", "the gateway is stopping")


async def test_what_comes_after_a_complete_body_is_answered(served: Served) -> None:
    """Pipelined, as HTTP/1.1 has it."""
    stream_id = await of_one(served, closed=True)
    path = f"/events?session_id={stream_id}"
    async with wire(served, path) as line:
        line.writer.write(request(path, "Last-Event-ID: 2"))
        await line.read_head()
        await line.until(b"\r\n0\r\n\r\n")
        await line.read_head()
        assert line.status == 204


async def test_a_client_of_http_1_0_gets_no_chunks(served: Served) -> None:
    """It knows by `end` alone."""
    for closed in (True, False):
        stream_id = await of_one(served, closed=closed)
        async with wire(served, f"/events?session_id={stream_id}", version="1.0") as line:
            head = (await line.read_head()).lower()
            seen = await line.until(b"event: agent\n")
            if not closed:
                for number in (2, 3):  # live ones come without chunks, too
                    await append(served.gateway.engine, stream_id, [number])
                    seen += await line.until(b'"number":%d' % number)
                await close(served.gateway.engine, stream_id)
            rest = await line.end(seen)
        assert "chunked" not in head and "keep-alive" not in head
        assert rest.body.startswith(b"id: 0\nevent: stream\n")
        names = [fields(block)["event"] for block in blocks(rest.body)]
        assert names == ["stream", *(["agent"] if closed else ["agent"] * 3), "session", "end"]


def stuck_readers() -> float:
    return REGISTRY.get_sample_value("stellwerk_cut_readers_total", {"reason": "stuck"}) or 0


async def test_a_reader_that_takes_a_little_is_not_cut(database_url: str, redis_url: str) -> None:
    """Its page is larger than what it takes in several times of `send_timeout`."""
    before = stuck_readers()
    async with serving(database_url, redis_url, send_timeout=1.5) as served:
        stream_id = await new_stream(served.gateway.engine)
        for _ in range(7):
            await append(served.gateway.engine, stream_id, range(10), size=60_000)
        async with wire(served, f"/events?session_id={stream_id}", receive_buffer=32_768) as line:
            await line.read_head()
            until = time.monotonic() + 4.5
            while time.monotonic() < until:
                await line.reader.read(6_000)
                await asyncio.sleep(0.05)
            assert any(stream.is_sending for stream in served.gateway.streams._open)  # type: ignore[attr-defined]  # uvicorn's
    assert stuck_readers() == before


@pytest.mark.parametrize("http", SERVERS)
async def test_a_stuck_reader_does_not_hold_up_a_gateway_that_stops(
    database_url: str, redis_url: str, http: Http, short_parting: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(database_url, redis_url, http) as served:
        stream_id = await new_stream(served.gateway.engine)
        for _ in range(20):
            await append(served.gateway.engine, stream_id, range(10), size=60_000)
        async with wire(served, f"/events?session_id={stream_id}", receive_buffer=4096) as line:
            await line.read_head()
            await asyncio.sleep(0.3)  # until all buffers are full
            stopped = time.monotonic()
            served.server.should_exit = True
            while served.server.server_state.connections:
                await asyncio.sleep(0.01)
            assert time.monotonic() - stopped < 3  # uvicorn would wait for five seconds
            rest = await line.end()
    whole = blocks(rest.body)
    assert not rest.is_complete and [fields(block)["id"] for block in whole if b"id: " in block][-1] > "0"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_slow_reader_of_a_gateway_that_stops_gets_what_was_sent_and_is_told(
    database_url: str, redis_url: str
) -> None:
    """It is sent away between two frames, with the id of the last one."""
    async with serving(database_url, redis_url) as served:
        stream_id = await new_stream(served.gateway.engine)
        for _ in range(20):
            await append(served.gateway.engine, stream_id, range(10), size=60_000)
        async with wire(served, f"/events?session_id={stream_id}", receive_buffer=4096) as line:
            await line.read_head()
            await asyncio.sleep(0.3)
            served.server.should_exit = True
            while served.gateway.follower.readers:
                await asyncio.sleep(0.01)
            rest = await line.end()
    ids = re.findall(r"^id: (\d+)$", rest.text, re.MULTILINE)
    assert ids == [str(n) for n in range(len(ids))] and 0 < len(ids) < 200
    assert_away(rest, ids[-1], "the gateway is stopping")


async def test_clients_that_leave_while_the_first_frames_are_written(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    stream_id = await new_stream(served.gateway.engine)
    await append(served.gateway.engine, stream_id, range(50), size=20_000)
    for _ in range(10):
        async with wire(served, f"/events?session_id={stream_id}"):
            await asyncio.sleep(0)
        async with wire(served, f"/events?session_id={stream_id}") as line:
            await line.read_head()
    async with asyncio.timeout(10):
        while served.gateway.follower.readers or served.server.server_state.tasks:
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_head_request_of_a_stream_has_its_headers_and_no_body(served: Served) -> None:
    for closed in (True, False):
        stream_id = await of_one(served, closed=closed)
        for path in (f"/events?session_id={stream_id}", f"/sessions/{stream_id}/events"):
            answer = await served.client.head(path, headers={"Accept": "text/event-stream"})
            assert answer.status_code == 200 and answer.content == b""
            assert answer.headers["cache-control"] == "no-store, no-transform"
            assert "connection" not in answer.headers
    assert not served.gateway.follower.readers


async def test_what_is_over_is_told_by_204_or_by_its_end(served: Served) -> None:
    stream_id = await of_one(served, closed=True)
    for query in ("after=2", "after=latest", "after=0&t=agent&agent=nobody"):
        path = f"/events?session_id={stream_id}&{query}"
        assert (await served.client.get(path)).status_code == 204
        assert (await served.client.get(f"{path}&on_end=204")).status_code == 204
        answer = await served.client.get(f"{path}&on_end=200")  # complete, or httpx would raise
        assert [fields(block)["event"] for block in blocks(answer.content) if b"cursor" not in block] == [
            "stream", "end",
        ]  # fmt: skip
    assert (await served.client.get(f"/events?session_id={stream_id}&on_end=no")).status_code == 422


@pytest.mark.parametrize("http", SERVERS)
async def test_a_client_that_stays_goes_on_when_a_retry_reopens_the_stream(
    database_url: str, redis_url: str, http: Http
) -> None:
    async with serving(database_url, redis_url, http=http, heartbeat=0.1) as served:
        backends = served.gateway.backends
        session_id = await ended(backends, "failed")
        head = (await served.client.get(f"/sessions/{session_id}")).json()["head"]
        path = f"/events?session_id={session_id}&after={head}&follow=reopened"
        async with wire(served, path) as line:
            await line.read_head()
            seen = await until_all(line, b"event: stream\n", b"event: end\n", b": heartbeat\n")
            for attempt in (2, 3):
                assert (await served.client.post(f"/sessions/{session_id}/retry")).status_code == 200
                seen += await line.until(b"event: session\n")
                await fail_again(served, session_id, attempt)
                seen += await until_all(line, b"event: end\n", b": heartbeat\n")
            served.server.should_exit = True
            rest = await line.end(seen)
        heads = [fields(block)["id"] for block in blocks(rest.body) if b"event: end" in block]
        assert len(heads) == 3 and heads == sorted(heads, key=int) and heads[0] == str(head)
        assert_away(rest, heads[-1], "the gateway is stopping")


async def until_all(line: Wire, *texts: bytes) -> bytes:
    return b"".join([await line.until(text) for text in texts])


async def fail_again(served: Served, session_id: SessionId, attempt: int) -> None:
    claim = await attempts.claim_step(
        served.gateway.backends, session_id, 1, attempt,
        agent="architect", lease=uuid4(), worker="worker-1", served=SERVED, alone=False,
    )  # fmt: skip
    assert claim is not None
    await attempts.fail_step(served.gateway.backends, claim, "no such tool", retryable=False)
