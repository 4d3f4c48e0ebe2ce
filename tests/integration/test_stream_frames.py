"""What stands between events: nothing that a common client takes for a message, and nothing that hides one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import product

import httpx
import pytest
from httpx_sse import EventSource

from app.embedded.postgres import EmbeddedPostgres
from app.events.cursors import Cursor, FeedPlace
from app.events.feed import FeedFilter
from app.events.follow.follower import Follower
from app.events.follow.updates import LAPSED, STOPPING, Away, Beat, Frames
from app.events.read import Filter
from app.gateway import events
from app.gateway.server import Http
from tests.acceptance.faults.proxy import Proxy
from tests.following import NO_SERVER, append, close, engine_of, new_stream, quick, state_of
from tests.roles import bump_epoch
from tests.serving import Served, serving
from tests.wire import Wire, blocks, fields, wire

SERVERS: tuple[Http, ...] = ("httptools", "h11")
BEAT = b": heartbeat\n"


@pytest.fixture(params=SERVERS)
async def served(database_url: str, redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, http=request.param, heartbeat=0.05) as served:
        yield served


async def test_no_block_is_without_data_and_a_heartbeat_is_one_line(served: Served) -> None:
    """On a filtered stream and the feed, whose cursors move, too; an event after heartbeats is still one event."""
    engine = served.gateway.engine
    for path in ("/sessions/{}/events?agent=research", "/sessions/{}/events?t=agent", "/events?agent=research"):
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3), agent="architect")
        async with wire(served, path.format(stream_id)) as line:
            await line.read_head()
            seen = await until_all(line, BEAT, BEAT)
            await append(engine, stream_id, [7], agent="research")
            seen += await until_all(line, b'"number":7', BEAT)
            await append(engine, stream_id, [8], agent="architect")
            seen += await until_all(line, b"event: cursor\n" if "research" in path else b'"number":8', BEAT)
            served_body = plain(seen)
        assert b": heartbeat\n\n" not in served_body and b"\n\n\n" not in served_body
        assert all("data" in fields(block) for block in blocks(served_body))
        parsed = list(EventSource(httpx.Response(200, headers=SSE, content=served_body)).iter_sse())
        assert [event.event for event in parsed] == [fields(block)["event"] for block in blocks(served_body)]
        assert [event.json()["details"]["number"] for event in parsed if event.event == "agent"][-1] in {7, 8}


SSE = {"Content-Type": "text/event-stream"}


def plain(chunks: bytes) -> bytes:
    """What has come of a body in chunks, up to its last whole line."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        part, chunks = chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
        body += part
    return body[: body.rindex(b"\n") + 1]


async def until_all(line: Wire, *texts: bytes) -> bytes:
    return b"".join([await line.until(text) for text in texts])


async def test_a_heartbeat_that_a_page_can_see_tells_the_head(served: Served) -> None:
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(3))
    for path, head in ((f"/sessions/{stream_id}/events?t=step&", '"head":3'), ("/events?t=step&", '"head":"1-')):
        async with wire(served, f"{path}heartbeat=event") as line:
            await line.read_head()
            await line.until(b"event: heartbeat\n")
            block = (await line.until(b"\n\n")).decode()
            assert block.startswith(f"data: {{{head}") and "id:" not in block and "retry:" not in block
            await line.until(b"event: heartbeat\n")
    assert (await served.client.get(f"/events?session_id={stream_id}&heartbeat=loud")).status_code == 422


LAST = "lastEventId"


async def test_what_polyfills_send_for_last_event_id(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their first parameters, which it beats; on the long way and on the fast one, of a session and the feed."""
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(9))
    await close(engine, stream_id)
    first = (await served.client.get("/events?limit=1")).json()["next"]
    streams, ways = (f"/events?session_id={stream_id}&", f"/sessions/{stream_id}/events?"), ("", "&agent=codesmith")
    for (path, way), fast in product(product(streams, ways), (False, True)):
        if way and fast:
            continue
        with monkeypatch.context() as patched:
            if fast:
                patched.setattr(events, "event_stream", None)
            for query in ("after=0&", "tail=3&", "after=latest&", "epoch=1&", ""):
                assert await first_id(served, f"{path}{query}{LAST}=5{way}") == "5", (path, query, way)
            assert await first_id(served, f"{path}after=0&{LAST}=5{way}", "7") == "7"
    assert await first_id(served, f"/events?after=0&{LAST}={first}") == first
    for path in (f"/sessions/{stream_id}/events?", "/events?"):
        assert (await served.client.get(f"{path}{LAST}=5x")).status_code == 400
        assert await first_id(served, f"{path}{LAST}=") in {"0", "0-0-0"}  # before its first event it has none
    page = (await served.client.get(f"/sessions/{stream_id}/events?after=0&{LAST}=8")).json()
    assert [event["offset"] for event in page["events"]] == [9, 10]


async def first_id(served: Served, path: str, last: str | None = None) -> str:
    headers = [] if last is None else [f"Last-Event-ID: {last}"]
    async with wire(served, path, *headers) as line:
        await line.read_head()
        assert line.status == 200, line.head
        found = await line.until(b"\n\n")
    return fields(plain(found + b"\r\n").partition(b"\n\n")[0])["id"]


class Key:
    """A reader that may go on until it may not."""

    is_good = True

    def may_go_on(self) -> bool:
        return self.is_good

    def came(self) -> None: ...

    def left(self) -> None: ...


async def test_a_reader_that_the_database_lets_wait_still_gets_heartbeats_and_is_sent_away(
    database_url: str, postgres: EmbeddedPostgres
) -> None:
    """It has to read a page, and the database is swallowed, or gone: of a stream, filtered or not, and of the feed."""
    port = httpx.URL(postgres.url).port or 5432
    settings = quick(ring_frames=1, heartbeat=0.05)
    async with (
        engine_of(database_url) as direct,
        Proxy(port) as proxy,
        engine_of(database_url.replace(f":{port}/", f":{proxy.port}/")) as engine,
        Follower(engine, NO_SERVER, settings) as follower,
    ):
        stream_id = await new_stream(direct)
        await append(direct, stream_id, range(5))
        state, keys = await state_of(direct, stream_id), [Key() for _ in range(3)]
        updates = [
            follower.follow(state, 0, reader=keys[0]),
            follower.follow(state, 0, Filter(t=frozenset({"agent_event"})), reader=keys[1]),
            follower.feed.follow(FeedPlace(), FeedFilter(), epoch=1, reader=keys[2]),
        ]
        for way in ("swallows", "refuses"):
            proxy.swallow(way == "swallows")
            proxy.refuses = way == "refuses"
            if proxy.refuses:
                proxy.cut()
            async with asyncio.timeout(5):
                for following in updates:
                    assert [type(await anext(following)) for _ in range(3)] == [Beat] * 3
        proxy.refuses = False
        async with asyncio.timeout(10):  # and then they get what they waited for
            firsts = [await next_frames(following) for following in updates[:2]]
        assert [first.cursor for first in firsts] == [Cursor(1, 5), Cursor(1, 5)]
        proxy.swallow(True)
        late = follower.follow(state, 0, reader=keys[0])
        assert isinstance(await anext(late), Beat)
        keys[0].is_good = keys[2].is_good = False
        follower.look_again()
        async with asyncio.timeout(2):
            assert await away(late) == Away(LAPSED, Cursor(1, 0))
            assert isinstance(await away(updates[2]), Away)
            follower.hang_up()
            assert await away(updates[1]) == Away(STOPPING, Cursor(1, 5))
        proxy.swallow(False)


async def next_frames(updates: AsyncIterator[object]) -> Frames:
    async for update in updates:
        if isinstance(update, Frames):
            return update
    raise AssertionError("it ended")


async def away(updates: AsyncIterator[object]) -> object:
    """The last of them."""
    last = None
    async for update in updates:
        last = update
    return last


async def test_an_epoch_that_rose_before_the_first_read_is_told(database_url: str, redis_url: str) -> None:
    """The state was read in one epoch, and the follower knows the next one already."""
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3))
        before = await state_of(engine, stream_id)
        risen = await bump_epoch(engine, "restored")
        async with aclosing(follower.follow(await state_of(engine, stream_id), 0)) as of_now:
            assert isinstance(await anext(of_now), Frames)
            async with aclosing(follower.follow(before, 3)) as late:
                told = await anext(late)
                assert (type(told).__name__, told.state.epoch) == ("Renewed", risen)  # type: ignore[union-attr]
