"""Heads are recorded of what moved, once and whole; the stream of them disturbs no reader of others."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.database import transaction
from app.events import read
from app.events.cursors import FeedPlace
from app.events.feed import ALL_STREAMS, feed_head, read_feed
from app.events.feed_places import before_last
from app.events.proof.heads import LOOKED_AT, record_heads
from app.events.proof.heads_check import check_heads, count_unrecorded
from app.events.types import HEADS_STREAM
from app.principals.model import DEPLOYMENT
from app.sessions.verifying import verify_all
from tests.keyed import make_key, showing
from tests.populating import Population, created, populate, report
from tests.serving import Served, serving
from workers.maintenance.heads_recorder import HeadsRecorder

Record = Callable[..., Awaitable[int]]


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
async def population(served: Served) -> Population:
    return await populate(served.gateway.backends)


@pytest.fixture
def record(served: Served) -> Record:
    async def record(**changes: Any) -> int:
        options = {"max_bytes": 100_000, "at_most": LOOKED_AT} | changes
        return await record_heads(served.gateway.engine, DEPLOYMENT, **options)

    return record


async def recorded(served: Served) -> list[dict[str, Any]]:
    async with transaction(served.gateway.engine) as db:
        if not (found := await read.stream_states(db, [HEADS_STREAM])):
            return []
        return [read.parse(event) for event in await read.read_page(db, found[0], after=0, limit=1000)]


async def heads(served: Served) -> dict[str, tuple[int, str]]:
    async with transaction(served.gateway.engine) as db:
        rows = await db.execute(
            text("SELECT stream_id::text, head, encode(head_chain, 'hex') FROM streams WHERE kind <> 'heads'")
        )
        return {row[0]: (row[1], row[2]) for row in rows}


async def test_what_moved_is_recorded_and_nothing_when_idle(
    served: Served, population: Population, record: Record
) -> None:
    before = await heads(served)
    assert await record() == len(before)
    (event,) = await recorded(served)
    assert {head["stream_id"]: (head["head"], head["chain"]) for head in event["heads"]} == before
    assert event["events"] == sum(head for head, _ in before.values()) and event["after"] == "0-0-0"
    for _ in range(3):
        assert await record() == 0
    assert await recorded(served) == [event]

    await report(served.gateway.backends, population.running, 0.7)
    moved = str(population.running.session.session_id)
    assert await record() == 1
    *_, last = await recorded(served)
    assert [head["stream_id"] for head in last["heads"]] == [moved] and last["after"] == event["until"]
    assert last["events"] == 2  # its own last event is one of them
    async with transaction(served.gateway.engine) as db:
        assert await count_unrecorded(db, at_most=10) == 0
    assert [fault async for fault in check_heads(served.gateway.engine)] == []


async def test_many_heads_are_parts_that_fit_into_events(
    served: Served, population: Population, record: Record
) -> None:
    before = await heads(served)
    assert await record(max_bytes=1500) == len(before)
    events = await recorded(served)
    assert len(events) > 1
    assert [(event["part"], event["parts"]) for event in events] == [
        (n, len(events)) for n in range(1, len(events) + 1)
    ]
    assert {head["stream_id"] for event in events for head in event["heads"]} == before.keys()
    assert all(len(str(event)) < 1500 for event in events)
    assert [found.faults async for found in verify_all(served.gateway.engine) if found.faults] == []


async def test_what_may_still_come_before_is_left_for_later(
    served: Served, population: Population, record: Record
) -> None:
    assert await record()
    async with transaction(served.gateway.engine) as stalled:
        await stalled.execute(text("SELECT pg_current_xact_id()"))
        later = await created(served.gateway.backends)
        assert await record() == 0
    assert await record() == 2  # the session's, and that of its project's operators
    *_, last = await recorded(served)
    assert str(later) in {head["stream_id"] for head in last["heads"]}
    assert [fault async for fault in check_heads(served.gateway.engine)] == []


async def test_of_several_workers_one_records_in_a_minute(
    served: Served, population: Population, record: Record
) -> None:
    recorder = HeadsRecorder(served.gateway.backends)
    assert recorder.duty.is_exclusive
    await recorder.round()
    assert len(await recorded(served)) == 1
    await created(served.gateway.backends)
    await recorder.round()
    assert len(await recorded(served)) == 1
    assert await record(not_within=timedelta(0)) == 2


async def test_the_feed_knows_nothing_of_it(served: Served, population: Population, record: Record) -> None:
    async with transaction(served.gateway.engine) as db:
        head = await feed_head(db)
        frames = (await read_feed(db, FeedPlace(), limit=1000)).frames
    assert await record()
    async with transaction(served.gateway.engine) as db:
        assert (await feed_head(db)).last == head.last
        assert (await read_feed(db, FeedPlace(), limit=1000)).frames == frames
        assert (await read_feed(db, head.last, limit=1000)).frames == []
    place = await before_last(lambda: transaction(served.gateway.engine), head, ALL_STREAMS, 2)
    async with transaction(served.gateway.engine) as db:
        assert (await read_feed(db, place, limit=1000)).frames == frames[-2:]
    page = (await served.client.get("/events", params={"tail": 2})).json()
    assert len(page["events"]) == 2 and page["next"] == page["head"]
    sessions = (await served.client.get("/sessions")).json()["sessions"]
    assert str(HEADS_STREAM) not in {session["session_id"] for session in sessions}


async def test_who_reads_it(served: Served, population: Population, record: Record) -> None:
    assert await record()
    path = f"/sessions/{HEADS_STREAM}/events"
    page = await served.client.get(path)
    assert page.status_code == 200 and page.json()["events"][0]["t"] == "heads_event"
    for key in (await make_key(served, "read"), await make_key(served, "audit", "admin", "read", project="default")):
        async with showing(served, key) as client:
            assert (await client.get(path)).status_code == 404  # it names the streams of all projects
