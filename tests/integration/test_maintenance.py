"""The room of the maintainers, and what a worker process tells of itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.support.doctor import examine_workers
from app.cli.support.finding import FAIL, OK, WARN
from app.config import Settings
from app.database import is_lost, transaction
from app.sessions import worker_repository
from app.sessions.model import RefusedWorkflow, RegisteredWorkflow
from app.unit_of_work import Backends
from tests.graphs import everything
from tests.graphs.driving import loaded
from tests.roles import tampering
from tests.serving import serving
from workers.maintenance.maintainer import Duty
from workers.maintenance.registration import Registration
from workers.maintenance.room import Room

SOON = timedelta(milliseconds=10)
WORKER = "a-host:1"


@pytest.fixture
async def backends(database_url: str, redis_url: str) -> AsyncIterator[Backends]:
    async with serving(database_url, redis_url) as served:
        yield replace(served.gateway.backends, settings=Settings(rescue_every=SOON))


@dataclass
class Rounds:
    """A maintainer that only counts its rounds, and does in them what the test says."""

    duty: Duty
    does: Callable[[], Awaitable[None]] | None = None
    begun: list[float] = field(default_factory=list)

    async def round(self) -> None:
        self.begun.append(monotonic())
        if self.does:
            await self.does()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.begun) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def kept(backends: Backends, *maintainers: Rounds) -> AsyncIterator[None]:
    room = asyncio.create_task(Room(backends, maintainers).run())
    try:
        yield
        assert not room.done()
    finally:
        room.cancel()
        with suppress(asyncio.CancelledError):
            await room


async def never_ends() -> None:
    await asyncio.Event().wait()


async def test_what_one_maintainer_raises_ends_only_its_round(backends: Backends) -> None:
    async def fails() -> None:
        raise LookupError("a fault of the maintainer's")

    async def is_refused() -> None:
        async with transaction(backends.engine) as db:
            await db.execute(text("SELECT no_such_column FROM workers"))

    faulty = [Rounds(Duty(does.__name__, SOON, 1), does) for does in (fails, is_refused)]
    stuck = Rounds(Duty("stuck", SOON, 1), never_ends)
    good = Rounds(Duty("good", SOON, 1, rests=timedelta(hours=1)))
    async with kept(backends, *faulty, stuck, good):
        for maintainer in (*faulty, good):
            await maintainer.until(2)
    assert len(stuck.begun) == 1


@pytest.mark.parametrize("is_exclusive", [False, True])
async def test_a_round_that_cancels_itself_is_not_the_last(backends: Backends, is_exclusive: bool) -> None:
    async def awaits_what_was_cancelled() -> None:
        task = asyncio.create_task(never_ends())
        task.cancel()
        await task

    rounds = Rounds(Duty("cancels", every=SOON, at_most=1, is_exclusive=is_exclusive), awaits_what_was_cancelled)
    async with kept(backends, rounds):
        await rounds.until(3)


async def test_after_the_database_was_away_each_rests_as_long_as_it_says(backends: Backends) -> None:
    """Also the one that noticed nothing: a rescuer must not take leases that could not be renewed."""
    away = asyncio.Event()

    async def notices() -> None:
        if away.is_set():
            away.clear()
            raise exc.OperationalError("SELECT 1", None, psycopg.OperationalError("the connection is lost"))

    noticing = Rounds(Duty("noticing", SOON, 1), notices)
    resting = Rounds(Duty("resting", SOON, 1, rests=timedelta(seconds=0.5)))
    async with kept(backends, noticing, resting):
        await resting.until(2)
        away.set()
        await noticing.until(len(noticing.begun) + 2)
        noticed, before = monotonic(), len(resting.begun)
        await resting.until(before + 2)
    assert resting.begun[before] >= noticed + 0.4
    assert sum(noticed < begun < noticed + 0.4 for begun in noticing.begun) > 2


async def test_an_exclusive_round_is_in_one_process_at_a_time(backends: Backends) -> None:
    """Two processes take turns; what another name does is not held up."""
    inside: set[object] = set()
    most = 0

    async def enters() -> None:
        nonlocal most
        inside.add(me := object())
        most = max(most, len(inside))
        try:
            await asyncio.sleep(0.03)
        finally:
            inside.remove(me)

    exclusive = Duty("one of all", SOON, 1, is_exclusive=True)
    first, second = Rounds(exclusive, enters), Rounds(exclusive, enters)
    async with kept(backends, second):
        async with kept(backends, first):
            await first.until(3)
            await second.until(3)
        await second.until(len(second.begun) + 3)

    assert most == 1
    staying, shut_out = Rounds(exclusive, never_ends), Rounds(exclusive)
    other = Rounds(replace(exclusive, name="another"))
    async with kept(backends, staying):
        await staying.until(1)
        async with kept(backends, shut_out, other):
            await other.until(5)
            assert shut_out.begun == []
    async with kept(backends, shut_out):
        await shut_out.until(1)


async def test_an_exclusive_round_that_does_not_end_is_given_up(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.maintenance.room.LONGEST_EXCLUSIVE_ROUND", timedelta(seconds=0.2))
    staying = Rounds(Duty("one of all", SOON, 1, is_exclusive=True), never_ends)
    async with kept(backends, staying):
        await staying.until(2)
        assert staying.begun[1] >= staying.begun[0] + 0.2
    async with transaction(backends.engine) as db:
        assert await db.scalar(text("SHOW idle_in_transaction_session_timeout")) == "20s"


async def test_a_worker_is_counted_from_its_start_to_its_end(backends: Backends) -> None:
    workflow = loaded(everything.build())
    registration = Registration(backends, {(workflow.name, workflow.version): workflow}, WORKER)
    async with tampering(backends.engine) as db:
        await db.execute(text("DELETE FROM workers"))
        await db.execute(text("DELETE FROM workflows"))
        assert await worker_repository.count_workers(db) == 0
        assert not await worker_repository.has_ever_registered(db)
        await insert_worker(db, "killed:1", "5 minutes")
        await insert_worker(db, "forgotten:1", "25 hours")
        await insert_worker(db, WORKER, "1 hour")  # of an earlier process with its name
    await registration.begin()
    async with transaction(backends.engine) as db:
        assert await worker_repository.count_workers(db) == 1
        assert await worker_repository.has_ever_registered(db)
        assert await worker_repository.is_served(db, workflow.name, workflow.version)
        assert set(await db.scalars(text("SELECT worker FROM workers"))) == {"killed:1", WORKER}
        started, seen = await times_of(db, WORKER)
        assert seen - started < timedelta(minutes=1)
    await registration.round()
    async with transaction(backends.engine) as db:
        again, later = await times_of(db, WORKER)
        assert again == started
        assert later > seen
    await registration.end()
    async with transaction(backends.engine) as db:
        assert await worker_repository.count_workers(db) == 0
        assert await worker_repository.has_ever_registered(db)


async def test_what_a_worker_refuses_is_told_without_secrets_until_it_ends(backends: Backends) -> None:
    backends = replace(backends, settings=Settings(token=SecretStr("a-secret-token")))
    refused = RefusedWorkflow("odd", "a.module", "the token is a-secret-token")
    registration = Registration(backends, {}, WORKER, [refused])
    await registration.begin()
    await registration.round()
    told = replace(refused, reason="the token is [redacted]")
    async with transaction(backends.engine) as db:
        assert await worker_repository.refused_workflows(db) == [told]
        assert await worker_repository.refusals(db, "odd") == [told]
    await registration.end()
    async with transaction(backends.engine) as db:
        assert await worker_repository.refused_workflows(db) == []


async def test_whoever_serves_a_workflow_wins_and_who_is_gone_does_not_count(backends: Backends) -> None:
    known = RegisteredWorkflow("odd", "1", "1.2", [])
    why = RefusedWorkflow("odd", "a.module", "for a reason")

    async def told(*statements: str) -> tuple[int, int, bool]:
        async with tampering(backends.engine) as db:
            for statement in statements:
                await db.execute(text(statement))
            refused, refusals = (
                await worker_repository.refused_workflows(db),
                await worker_repository.refusals(db, "odd"),
            )
            return len(refused), len(refusals), await worker_repository.serve_nothing(db)

    async def worker(name: str, served: list[str], refused: list[RefusedWorkflow]) -> None:
        async with transaction(backends.engine) as db:
            await worker_repository.register_worker(db, name, starts=True, served=served, refused=refused)

    assert await told("DELETE FROM workers") == (0, 0, False)
    await worker("refuses:1", [], [why])
    await worker("refuses:2", [], [why])
    async with transaction(backends.engine) as db:
        await worker_repository.register_workflows(db, [known])
    assert await told() == (1, 1, True), "that it was served a moment ago does not help"
    await worker("serves:1", ["odd"], [])
    assert await told() == (1, 0, False)
    await worker("serves:1", ["another"], [])
    assert await told() == (1, 1, False)
    await worker("serves:1", ["odd"], [why])  # its modules have two of this name
    assert await told() == (1, 0, False)
    assert await told("UPDATE workers SET served = NULL WHERE worker = 'serves:1'") == (1, 0, False), "an older version"
    gone = "UPDATE workers SET last_seen = now() - interval '3 minutes' WHERE worker LIKE '{}:%'"
    assert await told(gone.format("serves")) == (1, 1, True)
    assert await told(gone.format("refuses")) == (0, 0, False)


async def test_doctor_warns_of_what_another_worker_serves_and_fails_for_the_rest(
    backends: Backends, database_url: str
) -> None:
    async with tampering(backends.engine) as db:
        await db.execute(text("DELETE FROM workflows"))
        await worker_repository.register_workflows(db, [RegisteredWorkflow("odd", "1", "1.2", [])])
        refused = [RefusedWorkflow("odd", "a.module", "why"), RefusedWorkflow(None, "b.module", "why")]
        await worker_repository.register_worker(db, "refuses:1", starts=True, served=[], refused=refused)
        await worker_repository.register_worker(db, "serves:1", starts=True, served=["odd"], refused=[])
    serving_it, module, workflow = await examine_workers(database_url)
    assert (serving_it.level, serving_it.detail) == (OK, "serve odd (1)")
    assert (module.level, module.detail) == (FAIL, "the module b.module is refused: why")
    assert workflow.level == WARN and "another worker, or another module, has one of this name" in workflow.detail
    async with transaction(backends.engine) as db:
        await worker_repository.remove_worker(db, "serves:1")
        await worker_repository.remove_worker(db, "worker-1")
    none, module, workflow = await examine_workers(database_url)
    assert none.level == module.level == workflow.level == FAIL
    assert "all that they were given is refused" in none.detail


async def insert_worker(db: AsyncConnection, worker: str, ago: str) -> None:
    await db.execute(
        text(
            "INSERT INTO workers (worker, started_at, last_seen)"
            " SELECT :worker, t, t FROM (SELECT clock_timestamp() - CAST(:ago AS interval)) AS past(t)"
        ),
        {"worker": worker, "ago": ago},
    )


async def times_of(db: AsyncConnection, worker: str) -> tuple[datetime, datetime]:
    row = await db.execute(text("SELECT started_at, last_seen FROM workers WHERE worker = :worker"), {"worker": worker})
    started_at, last_seen = row.one()
    return started_at, last_seen


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError("the connection is closed"), True),
        (psycopg.errors.AdminShutdown("terminating connection"), True),
        (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), False),
        (psycopg.errors.QueryCanceled("canceling statement"), False),
        (psycopg.errors.UndefinedColumn("there is no such column"), False),
    ],
)
def test_a_lost_connection_is_told_from_what_postgres_refuses(error: psycopg.Error, expected: bool) -> None:
    assert is_lost(exc.DBAPIError.instance("SELECT 1", None, error, psycopg.Error)) is expected
