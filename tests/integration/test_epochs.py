"""The epoch rises with a restored database, once, and when an operator says so."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import DATABASE_AWAY, create_engine, transaction
from app.embedded.postgres import EmbeddedPostgres
from app.events import encoding
from app.events.append import append as append_items
from app.events.cursors import FeedPlace
from app.events.epochs import bump_epoch, current_epoch, observe_cluster, watch_cluster
from app.events.feed import feed_head, read_feed
from app.events.group_commit import GroupCommit
from app.events.honouring import epoch_of
from app.events.seals import SealKeys
from app.schema import migrate
from tests.following import new_stream, progress

_IS_WAITED_FOR = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'epochs'::regclass AND NOT granted)"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    created = create_engine(database_url)
    yield created
    await created.dispose()


async def test_the_same_cluster_keeps_its_epoch(engine: AsyncEngine) -> None:
    assert [await observe_cluster(engine), await observe_cluster(engine)] == [1, 1]


ELSEWHERE = {
    "another cluster": "UPDATE epochs SET system_identifier = 42, xid = pg_current_xact_id()",
    "another timeline": "UPDATE epochs SET timeline = 42, xid = pg_current_xact_id()",
    "its own cluster, from a dump": "UPDATE epochs SET reason = reason",  # as COPY does, in a transaction of its own
}


@pytest.mark.parametrize("statement", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_several_processes_on_a_restored_dump_raise_it_once(engine: AsyncEngine, statement: str) -> None:
    before = int(time.time())
    async with transaction(engine) as db:
        await db.execute(text(statement))
    epochs = await asyncio.gather(*(observe_cluster(engine) for _ in range(4)))
    assert len(set(epochs)) == 1
    assert before <= epochs[0] <= time.time() + 1  # so two restores of one dump never share a number
    assert await observe_cluster(engine) == epochs[0]


def test_a_cluster_that_was_promoted_is_noticed_at_once(home: Path) -> None:
    """As after a failover, or when an archive was restored: the same cluster, on the next timeline."""

    async def observed(database_url: str) -> int:
        engine = create_engine(database_url)
        try:
            async with engine.connect() as db:
                while await db.scalar(text("SELECT pg_is_in_recovery()")):
                    await asyncio.sleep(0.01)
            return await observe_cluster(engine)
        finally:
            await engine.dispose()

    server = EmbeddedPostgres(home)
    server.start()
    migrate(server.superuser_url, app=server.url)
    assert asyncio.run(observed(server.url)) == 1
    server.stop()
    data = (home / "postgres" / "data").resolve()
    (data / "recovery.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\n")
    server.start()
    try:
        epoch = asyncio.run(observed(server.url))
        assert epoch > 1 and asyncio.run(observed(server.url)) == epoch
    finally:
        server.stop()


async def test_a_table_that_is_written_anew_in_place_keeps_its_epoch(engine: AsyncEngine) -> None:
    async with engine.connect() as db:
        await db.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("VACUUM (FULL, FREEZE) epochs", "CLUSTER epochs USING epochs_pkey"):
            await db.execute(text(statement))
    assert await observe_cluster(engine) == 1


async def test_two_epochs_of_one_second_have_two_numbers(engine: AsyncEngine) -> None:
    first, second = await bump_epoch(engine, "failover"), await bump_epoch(engine, "another one")
    assert first < second <= first + 2


@pytest.mark.parametrize("statement", list(ELSEWHERE.values())[1:], ids=list(ELSEWHERE)[1:])
async def test_nothing_is_written_under_the_epoch_of_another_life(engine: AsyncEngine, statement: str) -> None:
    """Processes that run through a failover or a restore would go on: what they wrote would look like what was lost."""
    stream_id = await new_stream(engine)
    async with transaction(engine) as db:
        await db.execute(text(statement))
    with pytest.raises(DATABASE_AWAY, match="a new epoch has to begin first"):
        async with transaction(engine) as db:
            await append_items(db, [encoding.item(stream_id, progress(1))])
    log = GroupCommit(str(engine.url.render_as_string(hide_password=False)))
    writing = asyncio.create_task(log.append(encoding.item(stream_id, progress(1))))
    epoch = await observe_cluster(engine)
    await writing  # it waited
    await log.close()
    async with transaction(engine) as db:
        assert await epoch_of(db, stream_id, 1, known=1) == epoch


async def test_a_process_that_runs_notices_another_timeline(engine: AsyncEngine) -> None:
    watching = asyncio.create_task(watch_cluster(engine, every=timedelta(milliseconds=10)))
    async with transaction(engine) as db:
        await db.execute(text(ELSEWHERE["another timeline"]))
    async with asyncio.timeout(20), engine.connect() as watcher:
        await watcher.execution_options(isolation_level="AUTOCOMMIT")
        while await current_epoch(watcher) == 1:
            await asyncio.sleep(0.01)
    watching.cancel()


async def test_who_learns_of_an_epoch_seals_by_its_key_at_once(engine: AsyncEngine) -> None:
    """Else a gateway that does not know of it yet would take its events for ones of the epoch before."""
    keys = SealKeys(engine)
    assert (await keys.current()).epoch == 1
    epoch = await bump_epoch(engine, "failover")
    keys.expect(epoch)
    assert (await keys.current()).epoch == epoch


async def test_without_the_rights_to_ask_an_operator_still_raises_it(engine: AsyncEngine) -> None:
    """As on managed servers. A dump that is restored on its own cluster is noticed all the same."""
    functions = ("pg_control_system()", "pg_walfile_name(pg_lsn)")
    async with transaction(engine) as db:
        for function in functions:
            await db.execute(text(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"))
    assert await observe_cluster(engine) == 1
    raised = await bump_epoch(engine, "an operator knows")
    async with transaction(engine) as db:
        assert await current_epoch(db) == raised
        told = text("SELECT system_identifier, timeline, reason FROM epochs ORDER BY epoch DESC LIMIT 1")
        assert (await db.execute(told)).one() == (None, None, "an operator knows")
        for function in functions:
            await db.execute(text(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC"))
    assert await observe_cluster(engine) == raised  # what was not known then tells nothing now
    async with transaction(engine) as db:
        await db.execute(text(ELSEWHERE["its own cluster, from a dump"]))
    assert await observe_cluster(engine) > raised


async def test_an_operator_raises_it_with_a_reason(engine: AsyncEngine) -> None:
    epoch = await bump_epoch(engine, "failover")
    async with transaction(engine) as db:
        assert await current_epoch(db) == epoch
        assert await db.scalar(text("SELECT reason FROM epochs WHERE epoch = :epoch"), {"epoch": epoch}) == "failover"
    assert await observe_cluster(engine) == epoch


async def test_a_new_epoch_waits_for_what_writes_under_the_old_one(engine: AsyncEngine) -> None:
    """Else an event of the old epoch would appear after readers of the feed had gone on to the new one."""
    stream_id = await new_stream(engine)
    async with engine.connect() as stalled:
        await append_items(stalled, [encoding.item(stream_id, progress(1))])  # and it stands still before its commit
        raising = asyncio.create_task(bump_epoch(engine, "failover"))
        async with engine.connect() as watcher:
            while not await watcher.scalar(text(_IS_WAITED_FOR)):
                assert not raising.done()
        await stalled.commit()
    assert await raising > 1
    async with engine.connect() as db:
        assert (await feed_head(db)).last.epoch == 1
        assert len((await read_feed(db, FeedPlace(), limit=10)).frames) == 1


async def test_a_try_to_raise_the_epoch_keeps_readers_waiting_for_a_moment_only(engine: AsyncEngine) -> None:
    stream_id = await new_stream(engine)
    async with engine.connect() as stalled:
        await append_items(stalled, [encoding.item(stream_id, progress(1))])
        raising = asyncio.create_task(bump_epoch(engine, "failover"))
        async with engine.connect() as watcher:
            await watcher.execution_options(isolation_level="AUTOCOMMIT")
            while not await watcher.scalar(text(_IS_WAITED_FOR)):
                assert not raising.done()
            assert await current_epoch(watcher) == 1  # while the transaction stands still
        assert not raising.done()
        await stalled.rollback()
    assert await raising > 1
