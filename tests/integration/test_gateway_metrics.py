"""GET /metrics of a real gateway: the numbers are right, who sees which, and what is there while a server is away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from app.events.feed import feed_lag
from app.gateway import access, figures
from app.principals.model import EVERY_SCOPE, Principal, Scope
from app.schema import migrate
from app.sessions import service
from app.sessions.model import NewSession, NewStep
from tests.acceptance.faults.proxy import Proxy
from tests.following import NO_SERVER, append, new_stream
from tests.populating import advance, populate, running, waiting
from tests.roles import bump_epoch, tampering
from tests.scraping import Scrape, scrape
from tests.serving import BEARER, Served, serving

METRICS_TOKEN = "the-metrics-token"
BY_TOKEN = {"Authorization": f"Bearer {METRICS_TOKEN}"}


@pytest.fixture
async def served(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(figures, "KEPT_SECONDS", 0.0)
    async with serving(database_url, redis_url, metrics_token=METRICS_TOKEN) as served:
        yield served


def as_principal(monkeypatch: pytest.MonkeyPatch, *scopes: Scope, project: str | None) -> None:
    """The next requests are made by this principal."""
    principal = Principal(key_id="a-key", name="prometheus", project=project, scopes=frozenset(scopes))
    monkeypatch.setattr(access.Access, "_principal_of", lambda self, request: principal)


async def submit(served: Served, project: str, *, agent: str, queue: str) -> None:
    """A session of the project with a queued step."""
    submitter = Principal(key_id=None, name="submitter", project=project, scopes=EVERY_SCOPE)
    view, _ = await service.create_session(served.gateway.backends, NewSession(task="x"), principal=submitter)
    step = NewStep("node:x", agent, queue, None, 3, timedelta(hours=1))
    await advance(served.gateway.backends, view.session_id, steps=[step])


async def test_sessions_steps_and_approvals_are_counted(served: Served) -> None:
    population = await populate(served.gateway.backends)
    await submit(served, "default", agent="codesmith", queue="slow")
    found = await scrape(served.client)
    statuses = {"created": 1, "running": 2, "waiting": 1, "succeeded": 1, "failed": 1, "cancelled": 1, "paused": 0}
    for status, number in statuses.items():
        assert found.value("stellwerk_sessions", project="default", status=status) == number, status
    steps = {
        ("running", "architect", "default"): 1,
        ("waiting", "architect", "default"): 1,
        ("queued", "codesmith", "slow"): 1,
    }
    assert found.total("stellwerk_steps") == sum(steps.values())
    for (status, agent, queue), number in steps.items():
        assert found.value("stellwerk_steps", project="default", status=status, agent=agent, queue=queue) == number
    assert found.value("stellwerk_approvals_waiting", project="default") == 1
    for name in ("stellwerk_oldest_approval_seconds", "stellwerk_oldest_queued_step_seconds"):
        age = found.value(name, project="default")
        assert age is not None and 0 <= age < 60, name
    for what in ("turn", "answer"):
        age = found.value("stellwerk_oldest_waiting_session_seconds", project="default", waits_for=what)
        assert age is not None and 0 <= age < 60, what
    async with tampering(served.gateway.engine) as db:  # one whose turn has not come
        await db.execute(
            text(
                "UPDATE sessions SET admitted_at = NULL, created_at = created_at - interval '1 hour'"
                " WHERE session_id = :id"
            ),
            {"id": population.created},
        )
    waited = (await scrape(served.client)).value("stellwerk_oldest_waiting_session_seconds", waits_for="turn")
    assert waited is not None and 3600 <= waited < 3660
    assert found.value("stellwerk_workers") == found.value("stellwerk_database_up") == 1
    assert found.value("stellwerk_redis_up") == 1


async def test_ages_are_the_oldest_ones(served: Served) -> None:
    backends = served.gateway.backends
    asked = [await waiting(backends) for _ in range(2)]
    await submit(served, "default", agent="a", queue="q")
    await submit(served, "default", agent="b", queue="q")
    async with tampering(backends.engine) as db:
        for statement in (
            "UPDATE steps SET ended_at = ended_at - interval '1 hour' WHERE session_id = :id",
            "UPDATE steps SET available_at = available_at - interval '2 hours' WHERE agent = 'a'",
            "UPDATE steps SET available_at = available_at + interval '2 hours' WHERE agent = 'b'",
        ):
            await db.execute(text(statement), {"id": asked[0]} if ":id" in statement else {})
    found = await scrape(served.client)
    ages = {
        "stellwerk_oldest_approval_seconds": 3600,
        "stellwerk_oldest_waiting_session_seconds": 3600,
        "stellwerk_oldest_queued_step_seconds": 7200,
    }
    for name, age in ages.items():
        assert age <= (found.value(name, project="default") or 0) < age + 60, name
    assert found.value("stellwerk_approvals_waiting", project="default") == 2


async def test_readers_resets_and_appends_are_counted(served: Served) -> None:
    before = await scrape(served.client)
    session_id = (await running(served.gateway.backends)).session.session_id
    async with served.client.stream("GET", f"/events?session_id={session_id}&after=99") as answer:
        lines = answer.aiter_lines()  # kept: what is collected closes the connection
        await anext(lines)
        found = await until(served, "stellwerk_readers", is_=1)
        async with tampering(served.gateway.engine) as db:  # as after a failover: other events at these offsets
            await db.execute(text("UPDATE events SET epoch = 2"))
        await bump_epoch(served.gateway.engine, "a failover")
        risen = before.total("stellwerk_resets_total", reason="other_epoch") + 1
        await until(served, "stellwerk_resets_total", is_=risen, reason="other_epoch")
    await until(served, "stellwerk_readers", is_=0)

    def more(name: str, **labels: str) -> float:
        return found.total(name, **labels) - before.total(name, **labels)

    assert more("stellwerk_resets_total", reason="cursor") == 1
    assert more("stellwerk_append_seconds_count") > 0
    assert more("stellwerk_step_wait_seconds_count", agent="architect", queue="default") == 1


async def test_the_feed_lags_behind_an_open_transaction(served: Served) -> None:
    engine = served.gateway.engine
    async with engine.connect() as db:
        assert await feed_lag(db) == 0
    async with transaction(engine) as older:
        await older.execute(text("SELECT pg_current_xact_id()"))
        await append(engine, await new_stream(engine), range(1))
        lag = (await scrape(served.client)).value("stellwerk_feed_lag_seconds")
        assert lag is not None and 0 < lag < 60
    assert (await scrape(served.client)).value("stellwerk_feed_lag_seconds") == 0


async def test_queues_have_the_lengths_that_the_broker_tells(served: Served, redis_url: str) -> None:
    await submit(served, "default", agent="codesmith", queue="slow")
    async with Redis.from_url(redis_url) as redis:
        await redis.delete("advance", "default", "slow")
        await redis.rpush("slow", "a", "b", "c")
    found = await scrape(served.client)
    lengths = {name: found.value("stellwerk_queue_messages", queue=name) for name in ("advance", "default", "slow")}
    assert lengths["slow"] is not None and lengths["slow"] >= 3  # and perhaps the bell for the step
    assert lengths["advance"] is not None and lengths["default"] == 0


@pytest.mark.parametrize("agent", ['a"b\\', "a\nb", "\u2028\u202e\ufeff\u0085", "🚂{}=,# ", ""])
async def test_odd_names_parse_back(served: Served, agent: str) -> None:
    await submit(served, "default", agent=agent, queue=agent)
    found = await scrape(served.client)
    assert found.value("stellwerk_steps", status="queued", agent=agent, queue=agent) == 1
    assert found.value("stellwerk_queue_messages", queue=agent) is not None


async def test_who_gets_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with httpx.AsyncClient(base_url=served.url) as stranger:
        for authorization in (None, "Bearer wrong", f"Basic {METRICS_TOKEN}", "Bearer", "Bearer \xe9"):
            headers = {b"Authorization": authorization.encode("latin-1")} if authorization else {}
            answer = await stranger.get("/metrics", headers=headers)
            assert answer.status_code == 401 and "stellwerk_" not in answer.text
        elsewhere = BY_TOKEN | {"Host": "10.0.0.1:8000"}
        assert (await stranger.get("/metrics", headers=elsewhere)).status_code == 200
        assert (await stranger.get("/metrics", headers=BEARER)).status_code == 200
        document = (await stranger.get("/openapi.json", headers=BEARER)).json()
        for path in document["paths"].keys() - {"/metrics", "/healthz", "/readyz"}:
            some_id = "0" * 8 + "-0000-7000-8000-" + "0" * 12
            address = path.format(session_id=some_id, key_id=some_id, step=1, digest="0" * 64, offset=1)
            for method in document["paths"][path]:
                refused = await stranger.request(method, address, headers=BY_TOKEN)
                assert refused.status_code in {401, 422}, (method, path)
        assert (await stranger.get("/openapi.json", headers=BY_TOKEN)).status_code == 401
    as_principal(monkeypatch, "read", "submit", "operate", "admin", project=None)
    refused = await served.client.get("/metrics")
    assert refused.status_code == 403 and refused.json()["type"] == "urn:stellwerk:problem:missing-scope"
    as_principal(monkeypatch, "audit", project=None)
    assert (await scrape(served.client)).value("stellwerk_readers") == 0


@pytest.mark.parametrize("token", [None, ""])
async def test_where_there_is_no_metrics_token_none_opens(database_url: str, redis_url: str, token: str | None) -> None:
    async with serving(database_url, redis_url, metrics_token=token) as served:
        for given in ("Bearer", "Bearer None"):
            assert (await served.client.get("/metrics", headers={"Authorization": given})).status_code == 401


async def test_a_project_sees_nothing_of_another(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await submit(served, "ours", agent="our-agent", queue="our-queue")
    await submit(served, "theirs", agent="their-agent", queue="their-queue")
    await populate(served.gateway.backends)  # of the project default
    as_principal(monkeypatch, "audit", project="ours")
    found = await scrape(served.client)
    for word in ("their", "default", "architect"):
        assert word not in found.text
    assert set(found.metrics) == {
        "stellwerk_database_up", "stellwerk_sessions", "stellwerk_steps", "stellwerk_approvals_waiting",
        "stellwerk_oldest_queued_step_seconds",
    }  # fmt: skip
    assert all(s.labels["project"] == "ours" for s in found.samples if s.name != "stellwerk_database_up")
    assert found.value("stellwerk_steps", agent="our-agent", queue="our-queue") == 1
    assert found.value("stellwerk_approvals_waiting") == 0
    as_principal(monkeypatch, "audit", project="empty")
    empty = await scrape(served.client)
    assert empty.total("stellwerk_sessions", project="empty") == empty.total("stellwerk_sessions") == 0


async def test_openmetrics_for_those_who_accept_it(served: Served) -> None:
    accepts = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    answer = await served.client.get("/metrics", headers=accepts)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    answer = await served.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


async def test_many_scrapes_cost_one_reading(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = list[None]()
    read = figures.SharedFigures._read_stored

    async def counting(self: figures.SharedFigures) -> figures.Stored | None:
        readings.append(None)
        return await read(self)

    monkeypatch.setattr(figures.SharedFigures, "_read_stored", counting)
    await scrape(served.client)
    await scrape(served.client)
    assert len(readings) == 2
    served.app.state.figures.kept.seconds = 60.0
    await asyncio.gather(*(scrape(served.client) for _ in range(20)))
    await scrape(served.client)
    assert len(readings) == 3


async def test_redis_away(database_url: str, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "KEPT_SECONDS", 0.0)
    async with serving(database_url, own_valkey.url) as served:
        found = await scrape(served.client)
        while found.value("stellwerk_push_round_trip_seconds") is None:
            found = await scrape(served.client)
        assert found.value("stellwerk_redis_up") == 1 and found.value("stellwerk_queue_messages", queue="advance") == 0
        own_valkey.stop()
        found = await until(served, "stellwerk_push_round_trip_seconds", is_=None)
        assert found.value("stellwerk_redis_up") == 0 and found.total("stellwerk_sessions") == 0
        assert "stellwerk_queue_messages" not in found.metrics
        before = found.value("stellwerk_push_lost_total") or 0
        await running(served.gateway.backends)
        while ((await scrape(served.client)).value("stellwerk_push_lost_total") or 0) <= before:
            await asyncio.sleep(0.02)


async def until(served: Served, name: str, *, is_: float | None, **labels: str) -> Scrape:
    """Scrapes until the metric has this value; None: until it is not there."""
    async with asyncio.timeout(20):
        while (found := await scrape(served.client)).value(name, **labels) != is_:
            await asyncio.sleep(0.02)
    return found


async def test_another_broker_than_redis_tells_no_lengths(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, broker_url="memory://") as served:
        assert "stellwerk_queue_messages" not in (await scrape(served.client)).metrics


async def test_the_database_away(home: Path, redis_url: str) -> None:
    server = EmbeddedPostgres(home)
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(migrate, server.superuser_url)
        async with serving(server.url, redis_url, metrics_token=METRICS_TOKEN) as served:
            await asyncio.to_thread(server.stop)
            found = await scrape(served.client, headers=BY_TOKEN)
            assert found.value("stellwerk_database_up") == 0
            assert found.value("stellwerk_append_seconds_count") is not None
            assert found.value("stellwerk_readers") == 0 and found.value("stellwerk_redis_up") == 1
            assert found.value("stellwerk_queue_messages", queue="advance") is not None
            assert found.metrics.keys().isdisjoint(
                {"stellwerk_sessions", "stellwerk_workers", "stellwerk_feed_lag_seconds"}
            )
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_database_that_does_not_answer_is_away(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "DATABASE_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(figures, "KEPT_SECONDS", 0.0)
    address = urlsplit(database_url)
    async with Proxy(address.port or 0) as proxy:
        through = database_url.replace(f":{address.port}", f":{proxy.port}")
        async with serving(through, redis_url) as served:
            assert (await scrape(served.client)).value("stellwerk_database_up") == 1
            async with proxy.swallowing():
                for _ in range(3):  # and one that hangs is not asked again
                    assert (await scrape(served.client)).value("stellwerk_database_up") == 0
                reading = served.app.state.figures._stored
                assert reading is not None and not reading.done()
            async with asyncio.timeout(20):
                while (await scrape(served.client)).value("stellwerk_database_up") == 0:
                    await asyncio.sleep(0.02)


async def test_it_begins_while_redis_is_away(database_url: str) -> None:
    async with serving(database_url, NO_SERVER) as served:
        found = await scrape(served.client)
        assert found.value("stellwerk_redis_up") == 0 and found.value("stellwerk_database_up") == 1
