"""The log against a real Postgres: one door, dense offsets, exact bytes, the chain, exactly once, the feed."""

import asyncio
import json
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import DATABASE_AWAY, create_engine, libpq_url, transaction
from app.errors import InvalidEvent, LeaseLost, NotFound, SchemaTooNew, StreamClosed
from app.events import append, arrays, artifacts, chain, cursors, encoding, feed, read
from app.events.encoding import Recorded
from app.events.group_commit import GroupCommit
from app.events.types import StreamKind
from app.progress import SessionId
from app.roles import OWNER
from app.schema import check_schema, downgrade, migrate
from app.sessions.facts import agent_event
from app.sessions.model import new_session_id
from tests.following import set_closed
from tests.roles import as_app, tampering


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    created = create_engine(as_app(database_url), pool_size=12)
    yield created
    await created.dispose()


async def new_stream(engine: AsyncEngine) -> SessionId:
    stream_id = new_session_id()
    async with transaction(engine) as db:
        await append.create_stream(db, stream_id, "session")
    return stream_id


def entry(stream_id: SessionId, message: str = "hello", **options: Any) -> encoding.Item:
    event = agent_event(
        agent="tester", phase="progress", msg=message, progress=0.5, total=1.0, details={}, step=1, attempt=1
    )
    return encoding.item(stream_id, event, **options)


async def call(engine: AsyncEngine, *items: encoding.Item, **options: Any) -> list[arrays.Answer]:
    async with transaction(engine) as db:
        raw = await db.get_raw_connection()
        assert isinstance(raw.driver_connection, psycopg.AsyncConnection)
        return await arrays.call_append(raw.driver_connection, items, **options)


async def read_all(engine: AsyncEngine, stream_id: SessionId) -> list[Recorded]:
    async with transaction(engine) as db:
        state = await read.stream_state(db, stream_id)
        return await read.read_page(db, state, after=0, limit=100_000)


async def verify_chain(engine: AsyncEngine, stream_id: SessionId) -> None:
    async with transaction(engine) as db:
        state = await read.stream_state(db, stream_id)
        rows = await db.execute(
            text('SELECT "offset", ts, data::text, salt, digest, chain FROM events WHERE stream_id = :id ORDER BY 1'),
            {"id": stream_id},
        )
        link = chain.genesis(stream_id)
        for number, (offset, ts, data, salt, digest, stored) in enumerate(rows, 1):
            assert offset == number
            assert digest == chain.digest(salt, data)
            link = chain.link(link, offset, ts, digest)
            assert stored == link
        assert state.head_chain == link


async def test_what_is_stored_is_what_was_given_and_the_chain_holds(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    items = [entry(stream_id, message) for message in ("plain", 'quotes " and \\', "emoji 🎯 \u2028", "tab\tline\nend")]
    answers = await call(engine, *items)
    assert [(a.status, a.offset) for a in answers] == [("appended", n) for n in (1, 2, 3, 4)]
    assert [event.data for event in await read_all(engine, stream_id)] == [item.data for item in items]
    await verify_chain(engine, stream_id)


async def test_one_item_that_is_refused_does_not_touch_the_others(engine: AsyncEngine) -> None:
    first, second, closed = [await new_stream(engine) for _ in range(3)]
    async with tampering(engine) as db:
        await set_closed(db, closed, True)
    broken = encoding.Item(first, "session", '{"x":1}', "agent_event")
    answers = await call(
        engine,
        entry(second, "a"),
        entry(closed, "b"),
        entry(first, "c", lease=uuid4()),
        broken,
        entry(new_session_id(), "no such stream"),
        entry(first, "d"),
        entry(second, "e"),
    )
    assert [a.status for a in answers] == [
        "appended", "closed", "fenced", "invalid", "invalid", "appended", "appended",
    ]  # fmt: skip
    assert [a.offset for a in answers if a.status == "appended"] == [1, 1, 2]
    for stream_id in (first, second, closed):
        await verify_chain(engine, stream_id)


@pytest.mark.parametrize("together", [True, False])
async def test_a_dedupe_key_gives_the_first_event_once(engine: AsyncEngine, together: bool) -> None:
    stream_id = await new_stream(engine)
    items = [
        entry(stream_id, dedupe_key="k"),
        entry(stream_id, dedupe_key="k"),
        entry(stream_id, "other", dedupe_key="k"),
    ]
    answers = await call(engine, *items) if together else [(await call(engine, item))[0] for item in items]
    assert [a.status for a in answers] == ["appended", "duplicate", "invalid"]
    assert answers[1].offset == answers[0].offset == 1 and answers[1].ts == answers[0].ts
    assert len(await read_all(engine, stream_id)) == 1


async def test_a_repeated_call_is_answered_and_not_run_again(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    writer = uuid4()
    items = [entry(stream_id, "once"), entry(stream_id, "fenced", lease=uuid4())]
    first = await call(engine, *items, writer=writer, call_no=1)
    assert await call(engine, *items, writer=writer, call_no=1) == first
    assert (await call(engine, entry(stream_id, "next"), writer=writer, call_no=2))[0].offset == 2
    with pytest.raises(psycopg.errors.RaiseException):
        await call(engine, *items, writer=writer, call_no=1)
    assert len(await read_all(engine, stream_id)) == 2


async def test_appends_whose_connections_are_killed_are_there_exactly_once(
    database_url: str, engine: AsyncEngine
) -> None:
    streams = [await new_stream(engine) for _ in range(5)]
    published: list[Recorded] = []
    appends = GroupCommit(as_app(database_url), published.extend)
    acknowledged: dict[SessionId, list[tuple[int, str]]] = defaultdict(list)
    kills = 0

    async def produce(number: int) -> None:
        count = 0
        while count < 60 or kills <= 3:  # on a busy machine the killer may be the slower one
            stream_id = streams[(number + count) % len(streams)]
            item = entry(stream_id, f"{number} {count}")
            done = await appends.append(item)
            acknowledged[stream_id].append((done.offset, item.data))
            count += 1

    async def kill(producers: "asyncio.Future[Any]") -> None:
        nonlocal kills
        while not producers.done():
            async with engine.connect() as db:
                rows = await db.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'stellwerk-log'"
                    )
                )
                kills += len(rows.all())
            await asyncio.sleep(random.random() * 0.05)

    producers = asyncio.gather(*(produce(number) for number in range(20)))
    await asyncio.gather(producers, kill(producers))
    await appends.close()
    for stream_id in streams:
        stored = await read_all(engine, stream_id)
        assert sorted(acknowledged[stream_id]) == [(event.offset, event.data) for event in stored]
        await verify_chain(engine, stream_id)
    appended = sum(map(len, acknowledged.values()))
    assert len({(event.stream_id, event.offset) for event in published}) == len(published) == appended >= 1200


async def test_group_commit_tells_each_producer_its_own_fate(database_url: str, engine: AsyncEngine) -> None:
    stream_id, closed = await new_stream(engine), await new_stream(engine)
    async with tampering(engine) as db:
        await set_closed(db, closed, True)
    appends = GroupCommit(as_app(database_url))
    results = await asyncio.gather(
        appends.append(entry(stream_id)),
        appends.append(entry(closed)),
        appends.append(entry(stream_id, lease=uuid4())),
        appends.append(encoding.Item(stream_id, "session", "{}", "agent_event")),
        # no JSON at all: the database refuses the whole call, which must not take the neighbours along
        appends.append(encoding.Item(stream_id, "session", '{"t":"agent_event",', "agent_event")),
        appends.append(entry(stream_id, "last")),
        return_exceptions=True,
    )
    await appends.close()
    assert [type(r) for r in results[1:4]] == [StreamClosed, LeaseLost, InvalidEvent]
    assert isinstance(results[4], Exception)
    good = [r for r in (results[0], results[5]) if isinstance(r, Recorded)]
    assert sorted(r.offset for r in good) == [1, 2]


async def test_the_feed_keeps_each_streams_order_and_skips_nothing(engine: AsyncEngine) -> None:
    """Concurrent transactions over several streams, one of them stalled between its append and its commit."""
    streams = [await new_stream(engine) for _ in range(6)]
    stalled, go_on = asyncio.Event(), asyncio.Event()
    seen: list[dict[str, Any]] = []
    writing = True

    async def stall() -> None:
        async with transaction(engine) as db:
            await append.append(db, [entry(streams[0], "stalled"), entry(streams[1], "stalled")])
            stalled.set()
            await go_on.wait()

    async def write(number: int) -> None:
        choice = random.Random(number)
        for count in range(40):
            chosen = choice.sample(streams[2:] if count < 20 else streams, 3)
            async with transaction(engine) as db:
                await append.append(db, [entry(stream_id, f"{number} {count}") for stream_id in chosen])

    async def follow() -> None:
        cursor, rounds_after_end = cursors.FeedPlace(), 0
        while rounds_after_end < 2:
            async with transaction(engine) as db:
                page = await feed.read_feed(db, cursor, limit=50)
            seen.extend(json.loads(frame.split(b"\ndata: ")[1]) for frame in page.frames)
            cursor = page.reached
            if not page.frames:
                rounds_after_end += not writing
                await asyncio.sleep(0.01)

    stalling = asyncio.create_task(stall())
    await stalled.wait()
    following = asyncio.create_task(follow())
    writers = [asyncio.create_task(write(number)) for number in range(6)]
    while not all(await heads(engine, streams[2:])):
        await asyncio.sleep(0.01)
    assert not seen  # everything is younger than the stalled transaction
    go_on.set()
    await asyncio.gather(stalling, *writers)
    writing = False
    await following
    by_stream: dict[UUID, list[int]] = defaultdict(list)
    for event in seen:
        by_stream[UUID(event["session_id"])].append(event["offset"])
    expected = dict(zip(streams, await heads(engine, streams), strict=True))
    assert {stream_id: list(range(1, head + 1)) for stream_id, head in expected.items()} == by_stream


async def heads(engine: AsyncEngine, streams: list[SessionId]) -> list[int]:
    async with transaction(engine) as db:
        states = {state.stream_id: state.head for state in await read.stream_states(db, streams)}
    return [states[stream_id] for stream_id in streams]  # type: ignore[index]  # a session's id is its stream's


async def test_time_never_runs_backwards_within_a_stream(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    async with tampering(engine) as db:
        await db.execute(
            text("UPDATE streams SET last_ts = clock_timestamp() + interval '1 hour' WHERE stream_id = :id"),
            {"id": stream_id},
        )
    await call(engine, entry(stream_id))
    await call(engine, entry(stream_id))
    first, second = await read_all(engine, stream_id)
    assert first.ts <= second.ts
    async with transaction(engine) as db:
        assert await read.offset_before(db, stream_id, first.ts) == 0
        later = second.ts.replace(year=second.ts.year + 1)
        assert await read.offset_before(db, stream_id, later) == 2


async def test_the_table_refuses_what_is_no_event(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    for data in ('{"a":1}', '{"t":"x"\n}', "no json"):
        with pytest.raises(Exception, match=r"events_|invalid input syntax"):
            async with tampering(engine) as db:
                await db.execute(
                    text(
                        'INSERT INTO events (stream_id, "offset", epoch, ts, t, data, salt, digest, chain)'
                        " VALUES (:id, 1, 1, now(), 'x', CAST(:data AS json), '', '', '')"
                    ),
                    {"id": stream_id, "data": data},
                )


async def test_large_values_become_artifacts_and_come_back(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    lookalike = {"$artifact": "00", "size": 1}
    async with transaction(engine) as db:
        small = await artifacts.outsource(db, stream_id, {"a": 1}, max_bytes=100)
        large = await artifacts.outsource(db, stream_id, ["x" * 200], max_bytes=100)
        disguised = await artifacts.outsource(db, stream_id, lookalike, max_bytes=100)
    assert small == {"a": 1} and large["size"] == 204
    async with transaction(engine) as db:
        assert await artifacts.fetch(db, stream_id, large) == ["x" * 200]
        assert await artifacts.fetch(db, stream_id, disguised) == lookalike
        with pytest.raises(NotFound):
            await artifacts.get_artifact(db, stream_id, os.urandom(32))


async def test_filters_and_pages(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    await call(engine, *(entry(stream_id, str(number)) for number in range(10)))
    async with transaction(engine) as db:
        state = await read.stream_state(db, stream_id)
        page = await read.read_page(db, state, after=3, limit=4)
        assert [event.offset for event in page] == [4, 5, 6, 7]
        nothing = read.Filter(agent=frozenset({"somebody else"}))
        assert await read.read_page(db, state, after=0, limit=10, only=nothing) == []
        everything = read.Filter(
            t=frozenset({"agent_event"}), agent=frozenset({"tester"}), phase=frozenset({"progress"})
        )
        assert len(await read.read_page(db, state, after=0, limit=100, only=everything)) == 10


@pytest.mark.parametrize("kind", ["session", "batch", "operators"])
async def test_frames_from_postgres_are_those_that_python_makes(engine: AsyncEngine, kind: StreamKind) -> None:
    stream_id = new_session_id()
    async with transaction(engine) as db:
        await append.create_stream(db, stream_id, kind)
    texts = ['{"t":"agent_event","msg":"é 🎯 \\u2028 %s %% :id"}', '{"t":"odd"}', '{"t":"a_event_b"}', '{"t":"_event"}']
    items = [encoding.Item(stream_id, kind, data, data.split('"')[3], agent=f"%{n}") for n, data in enumerate(texts)]
    for one in items:
        await call(engine, one)
    async with transaction(engine) as db:
        state = await read.stream_state(db, stream_id)
        for only in (read.EVERYTHING, read.Filter(t=frozenset({"odd", "_event"}), agent=frozenset({"%1"}))):
            events = await read.read_page(db, state, after=0, limit=10, only=only)
            frames = await read.read_frames(db, state, after=0, until=4, limit=10, only=only)
            assert frames == [(event.offset, event.frame()) for event in events]
            assert len(frames) == (1 if only else 4)


def test_migrations_go_up_and_down(empty_database_url: str) -> None:
    migrate(empty_database_url)
    check_schema(empty_database_url)
    downgrade(empty_database_url, "base")
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        left = db.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone()
    assert left == (2,)  # alembic's own table and its index
    migrate(empty_database_url)
    check_schema(empty_database_url)


def test_a_database_that_a_newer_version_has_migrated_is_refused(empty_database_url: str) -> None:
    migrate(empty_database_url)
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="start that version"):
        migrate(empty_database_url)


def test_who_goes_down_and_up_again_finds_what_belongs_to_whom(empty_database_url: str) -> None:
    migrate(empty_database_url)
    owners = [("operators", "stellwerk"), ("operators", "web"), ("session", "default"), ("session", "web")]
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        for kind, project in owners:
            made = (
                "WITH s AS (INSERT INTO streams (stream_id, kind, head_chain, project)"
                " VALUES (gen_random_uuid(), %s, '', %s) RETURNING stream_id, project)"
                "SELECT stream_id, project FROM s"
            )
            stream_id = db.execute(made, (kind, project)).fetchone()
            assert stream_id is not None
            if kind == "session":  # in 0002 their keys would be one and the same
                db.execute(
                    "INSERT INTO sessions (session_id, project, status, task, input, priority, options, principal,"
                    " workflow, workflow_version, langgraph_version, idempotency_key, request_digest)"
                    " VALUES (%s, %s, 'created', 'x', '{}', 0, '{}', 'owner', 'w', '1', '1', 'k', '')",
                    stream_id,
                )
    downgrade(empty_database_url, "0002")
    migrate(empty_database_url)
    check_schema(empty_database_url)
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        assert db.execute("SELECT kind, project FROM streams ORDER BY kind, project").fetchall() == owners


def test_epochs_are_widened_also_after_a_try_that_broke_off(empty_database_url: str) -> None:
    widening = import_module("migrations.versions.0008_epochs_of_seconds")
    migrate(empty_database_url, "0006")
    written = (
        'INSERT INTO events (stream_id, "offset", epoch, ts, t, data, salt, digest, chain)'
        " SELECT '00000000-0000-7000-8000-000000000000', n, %s, clock_timestamp(), 'odd', '{\"t\":\"odd\"}', '', '', ''"
        " FROM generate_series(%s::int, %s::int) AS n"
    )
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        db.execute("INSERT INTO epochs (epoch, reason) VALUES (2, 'restored'), (3, 'restored again')")
        for epoch, first, last in ((1, 1, 9), (2, 10, 15), (3, 16, 17)):
            db.execute(written, (epoch, first, last))
        db.execute(f"SET ROLE {OWNER}")
        db.execute(widening._WIDEN.format(most=1))
        db.execute("RESET ROLE")
        db.execute(written, (3, 18, 20))  # by a neighbour of the version before, meanwhile
    with psycopg.connect(libpq_url(empty_database_url), application_name="stellwerk") as neighbour:
        migrate(empty_database_url)
        with pytest.raises(psycopg.errors.AdminShutdown):  # what it has prepared is refused for ever after
            neighbour.execute("SELECT max(epoch) FROM epochs")
    check_schema(empty_database_url)
    with psycopg.connect(libpq_url(empty_database_url)) as db:
        found = db.execute(
            'SELECT epoch, min("offset"), max("offset") FROM events GROUP BY epoch ORDER BY 1'
        ).fetchall()
        assert found == [(1, 1, 9), (2, 10, 15), (3, 16, 20)]
        present = db.execute(
            "SELECT epoch, xmin = xid(xid), timeline FROM epochs ORDER BY epoch DESC LIMIT 1"
        ).fetchone()
        assert present == (3, True, 1)


async def until_it_tries_to_lock(database_url: str) -> None:
    trying = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s AND state = 'active'"
    async with (
        asyncio.timeout(20),
        await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True) as db,
    ):
        while not (await db.execute(trying, ("%DO $$%LOCK TABLE streams, sessions%",))).rowcount:
            await asyncio.sleep(0.02)


async def test_an_upgrade_lets_transactions_finish_that_would_wait_for_it(empty_database_url: str) -> None:
    """They have written to one of its tables, and then write to the other one: Postgres would have to end one."""
    await asyncio.to_thread(migrate, empty_database_url, "0002")
    for first, second in (("sessions", "streams"), ("streams", "sessions")):
        async with await psycopg.AsyncConnection.connect(libpq_url(empty_database_url)) as db:
            await db.execute(f"LOCK TABLE {first} IN ROW EXCLUSIVE MODE")
            migrating = asyncio.create_task(asyncio.to_thread(migrate, empty_database_url))
            await until_it_tries_to_lock(empty_database_url)
            await db.execute(f"LOCK TABLE {second} IN ROW EXCLUSIVE MODE")
        await migrating
        await asyncio.to_thread(downgrade, empty_database_url, "0002")


async def test_a_connection_that_dies_before_an_append_is_an_error_that_callers_know(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    with pytest.raises(DATABASE_AWAY):
        async with transaction(engine) as db:
            pid = await db.scalar(text("SELECT pg_backend_pid()"))
            async with engine.connect() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            await append.append(db, [entry(stream_id)])
    assert await read_all(engine, stream_id) == []


async def test_a_connection_that_dies_before_frames_are_read_is_an_error_that_callers_know(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    async with engine.connect() as db:
        state = await read.stream_state(db, stream_id)
        pid = await db.scalar(text("SELECT pg_backend_pid()"))
        async with engine.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DATABASE_AWAY):
            await read.read_frames(db, state, after=0, until=1, limit=1, only=read.EVERYTHING)
        assert db.invalidated
