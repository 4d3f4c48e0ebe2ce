"""The feed over real HTTP: one connection for the events of all streams, and pages of the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.errors import NotFound
from app.events import encoding
from app.events import feed as events_of_feed
from app.events.append import append as append_items
from app.events.append import create_stream
from app.events.cursors import FeedPlace
from app.events.epochs import observe_cluster
from app.events.feed import ALL_STREAMS, FeedFilter
from app.events.follow.updates import Frames
from app.events.types import StreamId, StreamKind
from app.gateway.openapi import document
from app.gateway.streaming import feed as feed_module
from app.gateway.streaming.feed import feed_page
from app.gateway.streaming.feed_start import FeedStart, visible
from app.principals.model import Principal, Scope
from tests.following import NO_SERVER, append, close, engine_of, new_stream
from tests.roles import bump_epoch, tampering
from tests.serving import Served, serving
from tests.wire import until_cut

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
    while frame.event == "cursor":
        frame = await anext(events)
    assert frame.event == kind, frame
    return frame


async def take(events: AsyncIterator[ServerSentEvent], count: int) -> list[ServerSentEvent]:
    """The next events, whatever else comes between them."""
    found = list[ServerSentEvent]()
    while len(found) < count:
        frame = await anext(events)
        assert frame.event != "reset", frame.data
        if frame.event not in {"stream", "cursor"}:
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
    async with feed(served, last=there[1].id, after="latest", tail=1) as events:
        assert (await next_of(events, "stream")).id == there[1].id
        assert numbers(await take(events, 3)) == [3, 4, 5]


async def test_pages_and_streams_carry_the_same_bytes(served: Served) -> None:
    engine = served.gateway.engine
    for number in range(4):
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(number))
        await append(engine, stream_id, [10 + number], size=100_000)
        await close(engine, stream_id)
    async with feed(served) as events:
        streamed = [event.data for event in await take(events, 14)]
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/FeedPage", "components": document(served.app)["components"]}
    )
    cursor, texts = "0", list[str]()
    while True:
        answer = await served.client.get("/events", params={"after": cursor, "limit": 3})
        found = answer.json()
        validator.validate(found)
        count = len(found["events"])
        joined = ",".join(streamed[len(texts) : len(texts) + count])
        assert answer.text.startswith(f'{{"events":[{joined}],"epoch":1,"head":')
        texts += streamed[len(texts) : len(texts) + count]
        if found["next"] == found["head"]:
            break
        cursor = found["next"]
    assert texts == streamed
    assert await page(served, after=found["next"]) == {"events": []} | {
        name: found[name] for name in ("epoch", "head", "next")
    }


async def test_a_page_that_has_nothing_yet_goes_on_and_large_ones_are_cut(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_id = await new_stream(served.gateway.engine)
    for _ in range(10):
        await append(served.gateway.engine, stream_id, range(5), size=10_000)
    await append(served.gateway.engine, stream_id, [1], agent="architect")
    rare = await page(served, agent="architect")
    assert len(rare["events"]) == 1 and rare["next"] == rare["head"]
    monkeypatch.setattr(feed_module, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(events_of_feed, "LOOKED_AT", 5)
    cursor, pages = "0", 0
    while not (rare := await page(served, agent="architect", after=cursor))["events"]:
        assert rare["next"] != rare["head"]
        cursor, pages = rare["next"], pages + 1
    assert pages == 10
    monkeypatch.setattr(feed_module, "PAGE_SECONDS", 20.0)
    monkeypatch.setattr(feed_module, "PAGE_BYTES", 50_000)
    monkeypatch.setattr(feed_module, "AT_ONCE", 2)
    assert len((await page(served, limit=1000))["events"]) == 6


async def test_starts(served: Served) -> None:
    engine = served.gateway.engine
    first, second = await new_stream(engine), await new_stream(engine)
    await append(engine, first, range(5), agent="architect")
    await append(engine, second, range(5, 10), agent="research")
    everything = await page(served)
    begin, middle = everything["events"][0]["ts"], everything["events"][5]["ts"]

    async def found(**query: Any) -> list[int]:
        return [event["details"]["number"] for event in (await page(served, **query))["events"]]

    assert await found() == await found(after="0") == await found(since=begin) == list(range(10))
    assert await found(since=middle) == await found(tail=5) == [5, 6, 7, 8, 9]
    assert await found(tail=2, agent="architect") == [3, 4]
    assert await found(tail=99, agent="architect") == [0, 1, 2, 3, 4]
    assert await found(tail=2, limit=1) == [8]
    assert await found(after="latest") == await found(tail=0) == await found(since="2990-01-01T00:00:00Z") == []
    assert (await page(served, after="latest"))["next"] == everything["next"] == everything["head"]
    async with feed(served, after="latest") as events:
        assert (await next_of(events, "stream")).id == everything["head"]
        served.gateway.backends.push.publish(await append(engine, first, [10]))
        assert numbers(await take(events, 1)) == [10]
    async with feed(served, tail=1, t="agent") as events:
        await next_of(events, "stream")
        assert numbers(await take(events, 1)) == [10]


async def test_cursors_that_cannot_be_served(served: Served) -> None:
    await append(served.gateway.engine, await new_stream(served.gateway.engine), [1])
    for query in ({"after": "41"}, {"after": "1-2"}, {"after": "x"}, {"tail": "x"}, {"after": "0", "tail": "1"}):
        for headers in ({}, SSE):
            answer = await served.client.get("/events", params=query, headers=headers)
            assert answer.status_code == 400 and answer.json()["type"].endswith(":bad-cursor"), query
    wrong = await served.client.get("/events", headers=SSE | {"Last-Event-ID": "41"})
    assert wrong.status_code == 400 and "1-4711-42" in wrong.json()["detail"]
    for cursor in ("2-1-1", f"1-{10**18}-1"):  # of a later epoch, and of a time that has not been
        answer = await served.client.get("/events", params={"after": cursor})
        assert answer.status_code == 410 and answer.json()["cursor"] == "0-0-0"
        assert "head" not in answer.json()
        async with feed(served, last=cursor) as events:
            assert (await next_of(events, "stream")).id == "0-0-0"
            reset = await next_of(events, "reset")
            assert reset.id == "0-0-0" and cursor in reset.json()["reason"]
            assert numbers(await take(events, 1)) == [1]


async def test_filters(served: Served) -> None:
    engine = served.gateway.engine
    acme = await stream_of(engine, project="acme", workflow="repair")
    other = await stream_of(engine, project="other", workflow="article")
    operators = await stream_of(engine, project="acme", kind="operators")
    await append(engine, acme, [1], agent="architect")
    await append(engine, other, [2])
    control: Any = {"t": "control_event", "action": "session.cancel", "outcome": "done"}
    async with transaction(engine) as db:
        await append_items(db, [encoding.item(operators, control, kind="operators")])

    async def kinds(**query: Any) -> list[str]:
        return [event["t"].removesuffix("_event") for event in (await page(served, **query))["events"]]

    assert await kinds() == ["session", "session", "agent", "agent", "control"]
    assert await kinds(project="acme") == ["session", "agent", "control"]
    assert (
        await kinds(project="acme,other", t="agent") == await kinds(t=["agent_event", "erased"]) == ["agent", "agent"]
    )
    assert await kinds(project="nobody's") == await kinds(workflow="x") == []
    assert await kinds(workflow="article") == ["session", "agent"]
    assert await kinds(status="created", workflow="repair") == ["session"]
    assert await kinds(agent="architect", phase="progress") == ["agent"]
    (event,) = (await page(served, t="control"))["events"]
    assert event["stream_id"] == str(operators) and "session_id" not in event
    async with feed(served, project="acme", t="agent", after="latest") as events:
        await next_of(events, "stream")
        served.gateway.backends.push.publish(await append(engine, other, [3]))
        served.gateway.backends.push.publish(await append(engine, acme, [4]))
        assert numbers(await take(events, 1)) == [4]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [({"read"}, ["agent"]), ({"audit"}, ["agent", "control"]), ({"admin"}, ["agent", "control"])],
)
async def test_what_belongs_to_others_is_never_sent(served: Served, scopes: set[Scope], expected: list[str]) -> None:
    engine, push = served.gateway.engine, served.gateway.backends.push
    acme, other = await stream_of(engine, project="acme"), await stream_of(engine, project="other")
    operators = await stream_of(engine, project="acme", kind="operators")
    of_others = await stream_of(engine, project="other", kind="operators")
    control: Any = {"t": "control_event", "action": "session.cancel", "outcome": "done"}

    async def write() -> None:
        push.publish(await append(engine, acme, [1]))
        push.publish(await append(engine, other, [2]))
        async with transaction(engine) as db:
            for stream_id in (of_others, operators):
                await append_items(db, [encoding.item(stream_id, control, kind="operators")])

    alice = Principal("k1", "alice", "acme", frozenset(scopes))
    await write()
    for start in (FeedStart(), FeedStart(tail=100), FeedStart(since=datetime(2000, 1, 1, tzinfo=UTC))):
        body = json.loads(bytes((await feed_page(served.gateway, alice, start, 100)).body))
        assert [event["t"].removesuffix("_event") for event in body["events"]] == expected
    updates = served.gateway.follower.feed.follow(FeedPlace(), visible(alice, ALL_STREAMS), epoch=1)
    frames = b""
    for count in range(1, 5):  # the first from Postgres, the others from the ring
        while frames.count(b"event: ") < count * len(expected):
            update = await anext(updates)
            assert isinstance(update, Frames)
            frames += update.frames
        await write()
    sent = [line[7:].decode() for line in frames.splitlines() if line.startswith(b"event: ")]
    assert sent[: 3 * len(expected)] == expected * 3
    assert str(other).encode() not in frames and str(of_others).encode() not in frames
    answers = set[str]()
    for project in ("other", "never-was"):
        with pytest.raises(NotFound) as refused:
            await feed_page(served.gateway, alice, FeedStart(only=FeedFilter(projects=frozenset({project}))), 100)
        answers.add(str(refused.value).replace(repr(project), "…"))
    assert answers == {"there is no project …"}


async def test_keys_open_the_feed_of_their_project(served: Served) -> None:
    """Over HTTP; the scope `read` is needed. A key that is revoked ends its connections."""
    engine, keys = served.gateway.engine, dict[str, tuple[str, str]]()
    acme, other = await stream_of(engine, project="acme"), await stream_of(engine, project="other")
    for scopes in ("read", "submit"):
        asked = {"name": scopes, "scopes": [scopes], "project": "acme"}
        made = (await served.client.post("/keys", json=asked)).json()
        keys[scopes] = made["key"], made["record"]["key_id"]
    await append(engine, acme, [1])
    await append(engine, other, [2])
    reader = {"Authorization": f"Bearer {keys['read'][0]}"}
    async with httpx.AsyncClient(base_url=served.url, headers=reader) as client:
        found = (await client.get("/events")).json()["events"]
        assert [event["details"]["number"] for event in found] == [
            1
        ]  # and no making of keys, on acme's operators' stream
        assert (await client.get("/events", params={"project": "other"})).status_code == 404
        async with aconnect_sse(client, "GET", "/events", headers=SSE) as source:
            events = source.aiter_sse()
            await next_of(events, "stream")
            assert numbers(await take(events, 1)) == [1]
            revoked = await served.client.post(f"/keys/{keys['read'][1]}/revoke", json={})
            assert revoked.status_code == 200
            *moves, away = [event.event for event in await until_cut(events)]
            assert away == "away" and set(moves) <= {"cursor"}
        refused = await client.get("/events", headers={"Authorization": f"Bearer {keys['submit'][0]}"})
        assert refused.status_code == 403 and refused.json()["type"].endswith(":missing-scope")


async def test_a_dump_with_higher_numbers_was_restored(database_url: str, redis_url: str) -> None:
    """What survived comes to a new reader, and to one of before only what it has not; both then get the new life's."""
    async with engine_of(database_url) as engine:
        streams = [await new_stream(engine) for _ in range(3)]
        for number in range(9):
            await append(engine, streams[number % 3], [number])
        async with transaction(engine) as db:  # as the old cluster had them, and a dump brings them back
            await db.execute(text("UPDATE events SET xid = (xid::text::bigint + 5000000)::text::xid8"))
            await db.execute(text("UPDATE epochs SET system_identifier = 42"))
            row = (await db.execute(text("SELECT epoch, xid::text, position FROM events WHERE position = 4"))).one()
        seen, lost = "-".join(map(str, row)), f"1-{int(row[1]) + 1000}-99"
    async with serving(database_url, redis_url) as served:
        engine, push = served.gateway.engine, served.gateway.backends.push
        assert len((await page(served))["events"]) == 9
        epoch = await observe_cluster(engine)
        for cursor, rest in ((seen, [4, 5, 6, 7, 8]), (lost, [])):
            async with feed(served, last=cursor) as events:
                opening = await next_of(events, "stream")
                assert (opening.id, opening.json()) == (f"{epoch}.{cursor}", {"head": f"{epoch}-0-0", "epoch": epoch})
                reset = await next_of(events, "reset")
                assert reset.id == f"{epoch}.{cursor}"
                assert (reset.json()["epoch"], reset.json()["head"]) == (epoch, f"{epoch}-0-0")
                assert numbers(await take(events, len(rest))) == rest
                push.publish(await append(engine, streams[0], [100]))
                (new,) = await take(events, 1)
                assert numbers([new]) == [100] and new.id.startswith(f"{epoch}-")
            async with feed(served, last=f"{epoch}.{cursor}") as events:  # told of it once
                await next_of(events, "stream")
                found = await take(events, len(rest) + 1)
                assert numbers(found) == [*rest, 100]
                assert [event.id.startswith(f"{epoch}.1-") for event in found] == [*[True] * len(rest), False]
            async with tampering(engine) as db:
                await db.execute(text("DELETE FROM events WHERE epoch > 1"))
                await db.execute(text("UPDATE streams SET head = 3"))
            old = await page(served, after=cursor)
            assert [event["details"]["number"] for event in old["events"]] == rest and old["epoch"] == epoch
        async with feed(served) as events:  # a new reader is told of no reset
            await next_of(events, "stream")
            assert numbers(await take(events, 9)) == list(range(9))


async def test_the_epoch_is_raised_while_connected(served: Served) -> None:
    engine, push = served.gateway.engine, served.gateway.backends.push
    stream_id = await new_stream(engine)
    await append(engine, stream_id, [1])
    async with feed(served) as events:
        await next_of(events, "stream")
        (first,) = await take(events, 1)
        epoch = await bump_epoch(engine, "failover")
        reset = await next_of(events, "reset")
        assert reset.id == f"{epoch}.{first.id}" and reset.json()["epoch"] == epoch and reset.json()["reason"]
        push.publish(await append(engine, stream_id, [2]))
        assert numbers(await take(events, 1)) == [2]


async def test_without_redis(database_url: str) -> None:
    async with serving(database_url, NO_SERVER) as served:
        stream_id = await new_stream(served.gateway.engine)
        async with feed(served) as events:
            await next_of(events, "stream")
            for number in range(3):
                await append(served.gateway.engine, stream_id, [number])
                assert numbers(await take(events, 1)) == [number]


async def test_heads_heartbeats_and_too_many_readers(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, heartbeat=0.05, max_readers=1) as served:
        for headers in ({}, SSE):
            answer = await served.client.head("/events", headers=headers)
            assert answer.status_code == 200 and answer.content == b""
        async with served.client.stream("GET", "/events", headers=SSE) as answer:
            async for line in answer.aiter_lines():
                if line == ": heartbeat":
                    break
            async with feed(served, after="1-4711-42") as events:
                (away,) = await until_cut(events)
            assert away.event == "away" and (away.retry or 0) >= 5_000
            assert away.json() == {"reason": "too many readers", "cursor": "1-4711-42"}
        while served.gateway.follower.readers:
            await asyncio.sleep(0.01)


async def test_it_is_for_those_who_may(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as stranger:
        for headers in ({}, SSE, {"Authorization": "Bearer x"}):
            assert (await stranger.get("/events", headers=headers)).status_code == 401
