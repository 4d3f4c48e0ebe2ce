"""Server-sent events and pages over real HTTP."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import product
from typing import Any, cast
from uuid import uuid4

import httpx
import jsonschema
import pytest
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse
from sqlalchemy import text

from app.database import transaction
from app.events import encoding
from app.events.append import append as append_items
from app.events.proof.entries import verify_stream
from app.events.proof.export import ExportVerifier, export
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import StreamId
from app.gateway import events
from app.gateway.openapi import document
from app.metrics import REGISTRY
from app.principals.model import OWNER
from tests.cluster import OF_TOMORROW
from tests.following import append, close, engine_of, new_stream, state_of, stored_frames
from tests.roles import as_app, bump_epoch, tampering
from tests.serving import BEARER, TOKEN, Served, serving
from tests.wire import until_cut


@pytest.fixture(params=["httptools", "h11"])
async def served(database_url: str, redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """On uvicorn as the gateway runs it, and as any other ASGI server has it."""
    async with serving(database_url, redis_url, http=request.param) as served:
        yield served


@asynccontextmanager
async def sse(
    served: Served, stream_id: StreamId, *, last: str | None = None, **query: Any
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    path = f"/sessions/{stream_id}/events"
    async with aconnect_sse(served.client, "GET", path, params=query, headers=headers) as source:
        yield source.aiter_sse()


async def seen(served: Served, stream_id: StreamId, *, last: str | None = None, **query: Any) -> list[tuple[str, str]]:
    """Event names and ids, to the end."""
    async with sse(served, stream_id, last=last, **query) as events:
        return [(event.event, event.id) async for event in events]


async def filled(served: Served, *, closed: bool = True) -> StreamId:
    """Five events of the architect, five of research; then the end."""
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(5), agent="architect")
    await append(engine, stream_id, range(5), agent="research")
    if closed:
        await close(engine, stream_id)
    return stream_id


async def test_the_bytes_of_a_whole_stream(served: Served) -> None:
    stream_id = await filled(served)
    answer = await served.client.get("/events", params={"session_id": str(stream_id)})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert "connection" not in answer.headers  # HTTP/2 has none, and some proxies take it amiss
    assert b"\r" not in answer.content
    opening, _, rest = answer.content.partition(b"\n\n")
    events, _, closing = rest.removesuffix(b"\n\n").rpartition(b"\n\n")
    assert events + b"\n\n" == await stored_frames(served.gateway.engine, stream_id)
    stream, end = fields(opening), fields(closing)
    assert (stream["event"], stream["id"]) == ("stream", "0")
    assert 0 < int(stream["retry"]) < 10_000
    data = json.loads(stream["data"])
    assert data == {"earliest": 1, "head": 11, "head_chain": data["head_chain"], "status": "succeeded", "epoch": 1}
    assert (end["event"], end["id"]) == ("end", "11")
    assert json.loads(end["data"]) == {"head": 11, "head_chain": data["head_chain"], "status": "succeeded"}


def fields(frame: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in frame.decode().splitlines())


@pytest.mark.parametrize("cut_after", [1, 4])
async def test_resumed_by_last_event_id_while_events_are_appended(
    served: Served, redis_url: str, cut_after: int
) -> None:
    engine = served.gateway.engine
    push = Push(redis_url, SealKeys(engine))
    stream_id = await new_stream(engine)

    async def produce() -> None:
        for number in range(40):
            push.publish(await append(engine, stream_id, [number]))
        push.publish(await close(engine, stream_id))

    producing = asyncio.create_task(produce())
    received, cursor, ended = b"", "0", False
    while not ended:
        async with served.client.stream(
            "GET", f"/events?session_id={stream_id}", headers={"Last-Event-ID": cursor}
        ) as answer:
            if answer.status_code == 204:  # the cut came just before the end
                break
            count = 0
            async for event in EventSource(answer).aiter_sse():
                if event.event == "stream":
                    assert event.id == cursor
                    continue
                if event.event == "end":
                    ended = True
                    break
                received += f"id: {event.id}\nevent: {event.event}\ndata: {event.data}\n\n".encode()
                cursor, count = event.id, count + 1
                if count == cut_after:
                    break
    await producing
    await push.close()
    assert received == await stored_frames(engine, stream_id)
    gone = await served.client.get("/events", params={"session_id": str(stream_id)}, headers={"Last-Event-ID": cursor})
    assert gone.status_code == 204


async def test_start_parameters(served: Served) -> None:
    stream_id = await filled(served)
    page = (await served.client.get(f"/sessions/{stream_id}/events")).json()
    second_batch = page["events"][5]["ts"]
    after_it = datetime.fromisoformat(second_batch) + timedelta(hours=1)

    async def first_id(**parameters: Any) -> str:
        return (await seen(served, stream_id, **parameters))[0][1]

    assert await first_id() == "0"
    assert await first_id(after="7") == "7"
    assert await first_id(tail="3") == "8"
    assert await first_id(tail="300") == "0"
    assert await first_id(since=second_batch) == "5"
    assert await first_id(since="2020-01-01T00:00:00Z") == "0"
    assert await first_id(last="9", after="2") == "9"
    for parameters in ({"after": "latest"}, {"after": "11"}, {"tail": "0"}, {"since": after_it.isoformat()}):
        answer = await stream_of(served, stream_id, **parameters)
        assert answer.status_code == 204, parameters


async def stream_of(served: Served, stream_id: StreamId, **query: Any) -> httpx.Response:
    return await served.client.get("/events", params={"session_id": str(stream_id)} | query)


async def test_latest_gives_only_what_comes(served: Served) -> None:
    stream_id = await filled(served, closed=False)
    async with sse(served, stream_id, after="latest") as events:
        opening = await anext(events)
        assert (opening.event, opening.id) == ("stream", "10")
        await close(served.gateway.engine, stream_id)
        assert [(event.event, event.id) async for event in events] == [("session", "11"), ("end", "11")]


async def test_filters_and_id_only_frames(served: Served) -> None:
    stream_id = await filled(served)
    answer = await stream_of(served, stream_id, agent="architect,nobody", t="agent")
    frames = [frame for frame in answer.text.split("\n\n") if frame]
    assert [frame.splitlines()[0] for frame in frames[1:6]] == [f"id: {offset}" for offset in range(1, 6)]
    assert frames[6] == "id: 11\nevent: cursor\ndata: {}"
    assert frames[7].startswith("id: 11\nevent: end\n")
    assert (await stream_of(served, stream_id, agent="architect", after="5")).status_code == 204
    assert (await stream_of(served, stream_id, t="session_event", after="10")).status_code == 200
    assert (await stream_of(served, stream_id, phase="decision")).status_code == 204


async def test_an_open_filtered_stream_moves_its_cursor(served: Served) -> None:
    stream_id = await filled(served, closed=False)
    params = {"session_id": str(stream_id), "agent": "architect"}
    async with served.client.stream("GET", "/events", params=params) as answer:
        async for line in answer.aiter_lines():
            if line == "id: 10":
                break


async def test_cursors_that_cannot_be_served(served: Served) -> None:
    stream_id = await filled(served)
    pages = f"/sessions/{stream_id}/events"
    for cursor in ("x", "1.5.2", "１", "", "9" * 51):
        assert (await served.client.get(pages, params={"after": cursor})).status_code in {400, 422}, cursor
    assert (await stream_of(served, stream_id, after="abc")).status_code == 400
    assert (await stream_of(served, stream_id, after="1", tail="1")).status_code == 400
    for cursor in ("12", "-1", str(2**70)):
        page = await served.client.get(pages, params={"after": cursor})
        assert page.status_code == 410
        assert (page.json()["earliest"], page.json()["head"], page.json()["cursor"]) == (1, 11, "0")
        frames = await seen(served, stream_id, after=cursor)
        assert frames[:3] == [("stream", "0"), ("reset", "0"), ("agent", "1")]
        assert frames[-1] == ("end", "11")
    frames = await seen(served, stream_id, after="11", epoch="7")
    assert frames[:3] == [("stream", "0"), ("reset", "0"), ("agent", "1")]
    assert (await served.client.get(pages, params={"after": "3", "epoch": "7"})).status_code == 410


async def test_a_second_life_of_the_offsets_is_told_in_every_cursor(served: Served, redis_url: str) -> None:
    """As after a restore: ten events survived, the eleventh is another one now."""
    engine = served.gateway.engine
    push = Push(redis_url, SealKeys(engine))
    stream_id = await filled(served, closed=False)
    epoch = await bump_epoch(engine, "restored")
    async with sse(served, stream_id, last="10") as events:
        assert [await next_of(events, "stream")] == [f"{epoch}.10"]  # what survived is not replayed
        push.publish(await append(engine, stream_id, [11], agent="research"))
        assert await next_of(events, "agent") == f"{epoch}.11"
        push.publish(await close(engine, stream_id))
        assert await next_of(events, "session") == f"{epoch}.12"
        assert await next_of(events, "end") == f"{epoch}.12"
    for cursor in ("11", "12"):  # of readers from before the restore, who had other events there
        frames = await seen(served, stream_id, last=cursor)
        assert frames[:3] == [("stream", f"{epoch}.0"), ("reset", f"{epoch}.0"), ("agent", f"{epoch}.1")]
        refused = await served.client.get(f"/sessions/{stream_id}/events", params={"after": cursor})
        assert (refused.status_code, refused.json()["cursor"]) == (410, f"{epoch}.0")
    page = (await served.client.get(f"/sessions/{stream_id}/events", params={"after": "9", "limit": "2"})).json()
    assert ([event["offset"] for event in page["events"]], page["next"]) == ([10, 11], f"{epoch}.11")
    assert (page["epoch"], page["earliest"], page["status"]) == (epoch, 1, "succeeded")
    assert await seen(served, stream_id, last=page["next"]) == [
        ("stream", f"{epoch}.11"),
        ("session", f"{epoch}.12"),
        ("end", f"{epoch}.12"),
    ]
    await push.close()


async def next_of(events: AsyncIterator[ServerSentEvent], kind: str) -> str:
    """The id of the next frame, which is of this kind."""
    frame = await anext(events)
    assert frame.event == kind
    return frame.id


async def test_readers_of_a_stream_that_a_restore_took_away_are_sent_away(served: Served) -> None:
    stream_id = await filled(served, closed=False)
    async with sse(served, stream_id) as events:
        while (await anext(events)).id != "10":
            pass
        async with tampering(served.gateway.engine) as db:  # as the copy was made before the stream was
            await db.execute(text("DELETE FROM events"))
            await db.execute(text("DELETE FROM streams"))
        async with asyncio.timeout(20):
            assert [event.event for event in await until_cut(events)] == ["away"]
    assert (await served.client.get(f"/sessions/{stream_id}/events")).status_code == 404


async def test_pages(served: Served) -> None:
    stream_id = await filled(served)
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/EventPage", "components": document(served.app)["components"]}
    )
    cursor, offsets = "0", list[int]()
    while True:
        page = (await served.client.get(f"/sessions/{stream_id}/events", params={"after": cursor, "limit": "4"})).json()
        validator.validate(page)
        if not page["events"]:
            break
        offsets += [event["offset"] for event in page["events"]]
        cursor = page["next"]
    assert offsets == list(range(1, 12))
    assert page["closed"] is True and (page["head"], page["next"]) == (11, "11")
    filtered = await served.client.get(f"/sessions/{stream_id}/events", params={"agent": "research", "limit": "9"})
    assert [event["offset"] for event in filtered.json()["events"]] == [6, 7, 8, 9, 10]
    assert filtered.json()["next"] == "11"


async def test_head_does_not_hang(served: Served) -> None:
    stream_id = await filled(served, closed=False)
    for path in (f"/events?session_id={stream_id}", f"/sessions/{stream_id}/events"):
        answer = await served.client.head(path, headers={"Accept": "text/event-stream"})
        assert answer.status_code == 200 and answer.content == b""


async def test_unknown_and_malformed_sessions(served: Served) -> None:
    for path in (f"/events?session_id={uuid4()}", f"/sessions/{uuid4()}/events"):
        answer = await served.client.get(path, headers={"Accept": "text/event-stream"})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await served.client.get("/events?session_id=x")).status_code == 422


async def test_events_of_a_kind_that_is_not_known_yet(served: Served, redis_url: str) -> None:
    """From the log, pushed, in pages and in exports. As a filter this gateway does not know it."""
    engine = served.gateway.engine
    push = Push(redis_url, SealKeys(engine))
    stream_id = await new_stream(engine)

    async def append_one() -> None:
        async with transaction(engine) as db:
            push.publish(await append_items(db, [encoding.item(stream_id, cast("Any", OF_TOMORROW))]))

    await append_one()
    refused = await served.client.get(f"/events?session_id={stream_id}&t=weather")
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:stellwerk:problem:bad-query")
    async with sse(served, stream_id) as events:
        assert (await anext(events)).event == "stream"
        for offset in ("1", "2"):
            event = await anext(events)
            assert (event.event, event.id, event.json()["sky"]) == ("weather", offset, OF_TOMORROW["sky"])
            if offset == "1":
                await append_one()
    exported = b"".join([part async for part in export(engine, await state_of(engine, stream_id))])
    lines = exported.splitlines(keepends=True)
    assert list(ExportVerifier(lines[0]).check(lines[1:])) == []
    assert [fault async for fault in verify_stream(engine, stream_id)] == []
    await close(engine, stream_id)
    assert await seen(served, stream_id) == [
        ("stream", "0"), ("weather", "1"), ("weather", "2"), ("session", "3"), ("end", "3"),
    ]  # fmt: skip
    page = (await served.client.get(f"/sessions/{stream_id}/events")).json()
    assert [event["t"] for event in page["events"]] == ["weather_event", "weather_event", "session_event"]
    await push.close()


def cut_readers() -> float:
    return REGISTRY.get_sample_value("stellwerk_cut_readers_total", {"reason": "stuck"}) or 0


@pytest.mark.parametrize("is_live", [False, True])
async def test_a_stuck_client_is_cut(database_url: str, redis_url: str, is_live: bool) -> None:
    before = cut_readers()
    async with serving(database_url, redis_url, send_timeout=0.3) as served:
        engine = served.gateway.engine
        stream_id = await new_stream(engine)

        async def fill() -> None:
            for _ in range(20):
                served.gateway.backends.push.publish(await append(engine, stream_id, range(10), size=100_000))

        if not is_live:
            await fill()
        with socket.create_connection(("127.0.0.1", served.client.base_url.port or 0)) as client:
            client.setblocking(False)
            request = f"GET /events?session_id={stream_id} HTTP/1.1\r\nHost: localhost\r\n"
            client.sendall(f"{request}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            while not served.gateway.follower.readers:
                await asyncio.sleep(0.01)
            if is_live:
                await fill()
            while served.gateway.follower.readers or served.server.server_state.connections:
                await asyncio.sleep(0.01)
    assert cut_readers() == before + 1


async def test_a_client_that_leaves_is_let_go_while_nothing_happens(served: Served) -> None:
    stream_id = await filled(served, closed=False)
    async with sse(served, stream_id) as events:
        await anext(events)
        assert served.gateway.follower.readers == 1
    while served.gateway.follower.readers:
        await asyncio.sleep(0.01)


async def test_sigterm_sends_readers_away(database_url: str, redis_url: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "STELLWERK_DATABASE_URL": as_app(database_url),
        "STELLWERK_REDIS_URL": redis_url,
        "STELLWERK_TOKEN": TOKEN,
        "STELLWERK_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        while b"running" not in await process.stderr.readline():
            assert process.returncode is None
        async with engine_of(database_url) as engine:
            stream_id = await new_stream(engine)
            await append(engine, stream_id, range(3))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=BEARER) as client,
            aconnect_sse(client, "GET", f"/events?session_id={stream_id}") as source,
        ):
            events = source.aiter_sse()
            assert [(await anext(events)).event for _ in range(4)] == ["stream", "agent", "agent", "agent"]
            process.send_signal(signal.SIGTERM)
            assert [event.event for event in await until_cut(events)] == ["away"]
        _, log = await asyncio.wait_for(process.communicate(), 20)
        assert TOKEN.encode() not in log
        assert b"Traceback" not in log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_without_a_token_it_does_not_start(database_url: str, redis_url: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "STELLWERK_TOKEN"} | {
        "STELLWERK_DATABASE_URL": as_app(database_url),
        "STELLWERK_REDIS_URL": redis_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert b"STELLWERK_TOKEN" in log and b"Traceback" not in log


STARTS = [
    "", "after=3", "after=0&lastEventId=4", "on_end=200", "after=latest&on_end=200&heartbeat=event", "after=latest",
    "after=11", "tail=4", "after=0&epoch=1", "epoch=2", "after=99", "after=007",
]  # fmt: skip
NOT_PLAIN = [
    "after=x", "after=-1", "after=", "tail=many", "epoch=one", "after=1&after=2", "after=1&tail=1", "since=2020",
    "after=9999999999999999999999999999999", "t=agent", "lastEventId=", "lastEventId=x", "on_end=300", "heartbeat=",
    "follow=it", "session_id=x", "after=%31", "after", "&", "after=1&",
]  # fmt: skip
LAST_EVENT_IDS = ["", "4", "11", "12", "x", "-1", "0" * 31]


async def said(served: Served, path: str, **headers: str) -> tuple[int, str, str]:
    """All of an answer but what is random in it."""
    answer = await served.client.get(path, headers={"Accept": "text/event-stream"} | headers)
    assert answer.headers["cache-control"].startswith("no-store")
    return answer.status_code, answer.headers.get("content-type", ""), re.sub(r"retry: \d+", "", answer.text)


@pytest.mark.parametrize("of_path", [False, True])
async def test_both_ways_to_a_stream_say_the_same(served: Served, of_path: bool) -> None:
    """An empty filter makes FastAPI resolve the parameters."""
    for stream_id in (await filled(served), uuid4()):
        path = f"/sessions/{stream_id}/events?" if of_path else f"/events?session_id={stream_id}&"
        for query, last in [*((query, None) for query in STARTS + NOT_PLAIN), *product(STARTS[:4], LAST_EVENT_IDS)]:
            headers = {} if last is None else {"Last-Event-ID": last}
            short, long = path + query, f"{path}{query}&phase="
            assert await said(served, short, **headers) == await said(served, long, **headers), (query, last)


async def test_who_may_pass_is_the_same_both_ways(served: Served) -> None:
    stream_id = await filled(served)
    short, long = f"/events?session_id={stream_id}", f"/events?session_id={stream_id}&phase="
    cookie = f"stellwerk_{served.client.base_url.port}={served.gateway.access.cookie_for(OWNER)}"
    async with httpx.AsyncClient(base_url=served.url) as stranger:
        for headers, status in (
            ({}, 401),
            ({"Cookie": "stellwerk=x"}, 401),
            ({"Cookie": cookie}, 200),
            ({"Cookie": cookie, "Authorization": "Bearer wrong"}, 401),
            ({"Cookie": cookie, "Authorization": "Basic x"}, 200),
            ({"Authorization": f"bearer {TOKEN}"}, 200),
            ({"Authorization": f"Bearer {TOKEN}x"}, 401),
            (BEARER | {"Origin": "https://evil.example"}, 403),
            (BEARER | {"Host": "evil.example"}, 421),
        ):
            for path in (short, long):
                assert (await stranger.get(path, headers=headers)).status_code == status, (path, headers)
            bodies = [(await stranger.get(path, headers=headers)).text for path in (short, long)]
            assert status == 200 or bodies[0] == bodies[1]
        assert (await stranger.get(f"{short}&token={TOKEN}")).status_code == 401
        assert (await stranger.get(f"{short}&authorization=Bearer+{TOKEN}")).status_code == 401


async def test_what_readers_nearly_always_send_needs_no_resolving(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_id = await filled(served)
    monkeypatch.setattr(events, "event_stream", None)
    for path in (f"/events?session_id={stream_id}&after=5", f"/sessions/{stream_id}/events?epoch=1&on_end=200"):
        status, _, text = await said(served, path, **{"Last-Event-ID": "4"})
        assert status == 200 and text.startswith("id: 4\n")
