"""Sessions, reports and approvals over real HTTP; servers that go away; the OpenAPI document."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jsonschema
import pytest
from sqlalchemy import text

from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.events.artifacts import put_artifact
from app.gateway import health
from app.progress import SessionId
from app.schema import migrate
from app.sessions.admission import ADMISSION_LOCK, admit_sessions
from app.sessions.model import StepToken
from app.unit_of_work import unit_of_work
from tests.following import NO_SERVER
from tests.roles import tampering
from tests.serving import Served, serving

ADMITTED = text("SELECT count(*) FROM sessions WHERE admitted_at IS NOT NULL")


@pytest.fixture
async def served(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(health, "KEPT_SECONDS", 0.0)
    async with serving(database_url, redis_url) as served:
        yield served


async def test_created_listed_cancelled(served: Served) -> None:
    created = await served.create_session(path="/tmp")
    session_id = created["session_id"]
    assert created == {
        "session_id": session_id,
        "status": "created",
        "epoch": 1,
        "head": 1,
        "events": f"/sessions/{session_id}/events",
    }
    other = await served.create_session("something else")
    first = (await served.client.get("/sessions", params={"limit": 1})).json()
    assert [session["session_id"] for session in first["sessions"]] == [other["session_id"]]
    second = (await served.client.get("/sessions", params={"before": first["next"]})).json()
    assert [session["session_id"] for session in second["sessions"]] == [session_id]
    assert second["next"] is None

    one = (await served.client.get(f"/sessions/{session_id}")).json()
    assert (one["task"], one["status"], one["steps"]) == ("fix the lint errors", "created", [])
    assert (one["epoch"], one["earliest"], one["head"]) == (1, 1, 1)
    assert (await served.client.get(f"/sessions/{session_id}/patch")).status_code == 404

    cancelled = await served.client.post(f"/sessions/{session_id}/cancel", json={"reason": "enough"})
    assert cancelled.json()["status"] == "cancelled"
    assert (await served.client.post(f"/sessions/{session_id}/cancel")).status_code == 200
    listed = (await served.client.get("/sessions", params={"status": "cancelled"})).json()
    assert [session["session_id"] for session in listed["sessions"]] == [session_id]
    page = (await served.client.get(f"/sessions/{session_id}/events")).json()
    assert [event["status"] for event in page["events"]] == ["created", "cancelled"]
    assert page["events"][-1]["reason"] == "enough" and page["closed"]


async def test_an_idempotency_key(served: Served) -> None:
    async def post(task: str, key: str = "key-1") -> httpx.Response:
        return await served.client.post("/sessions", json={"task": task}, headers={"Idempotency-Key": key})

    first, again = await post("one"), await post("one")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["session_id"] == again.json()["session_id"]
    assert (await post("another")).status_code == 422
    assert (await post("one", "k" * 201)).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"task": ""}',
        '{"task": "x", "tsk": 1}',
        '{"task": "a\\u0000b"}',
        '{"task": "a\\ud800b"}',
        '{"task": "x", "\\ud800": 1}',
        '{"task": "x", "input": {"deep": ["\\ud800"]}}',
        '{"task": "x", "input": {"n": NaN}}',
        '{"task": "x", "input": {"n": 99999999999999999999999}}',
        '{"task": "x", "options": {"\\u0000": 1}}',
        '{"task": "x", "priority": 101}',
        '{"task": "x", "path": "relative"}',
        '{"task": "x", "path": "/a", "repo": "https://example.com/a.git"}',
        '{"task": "x", "repo": "file:///etc"}',
        '{"task": "x", "workflow": "nobody-serves-this"}',
        '{"task": "' + "x" * 100_001 + '"}',
        "[" * 100_000,
        "1" * 5000,
        "not json",
        "",
    ],
)
async def test_refused_at_the_door(served: Served, body: str) -> None:
    answer = await served.client.post("/sessions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await served.client.get("/sessions")).json()["sessions"] == []


async def test_paths(database_url: str, redis_url: str, tmp_path: Path) -> None:
    allowed = tmp_path / "projects"
    (allowed / "one").mkdir(parents=True)
    (allowed / "link").symlink_to("/etc")
    async with serving(database_url, redis_url, paths=str(allowed)) as served:
        await served.create_session(path=str(allowed / "one"))
        for path in ("/etc", str(allowed / "link"), f"{allowed}/../x", f"{allowed}-not"):
            answer = await served.client.post("/sessions", json={"task": "x", "path": path})
            assert answer.status_code == 422 and "STELLWERK_PATHS" in answer.json()["detail"]


async def test_a_report_by_step_token(served: Served) -> None:
    session_id = (await served.create_session())["session_id"]
    token = StepToken(SessionId(UUID(session_id)), 1, 1, "codesmith", uuid4())
    async with tampering(served.gateway.engine) as db:
        await db.execute(
            text(
                "INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, lease_token,"
                " max_attempts, time_limit_ms) VALUES (:id, 1, 1, 'p', 'codesmith', 'default', 'running', :lease, 3, 1)"
            ),
            {"id": session_id, "lease": token.lease},
        )

    async def report(bearer: str, session: str = session_id, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", "Idempotency-Key": "report-1"}
        said = {"progress": 0.4, "message": "📡 halfway", "details": {"files": ["a.py"]}} | body
        return await served.client.post(f"/sessions/{session}/events", json=said, headers=headers)

    assert (await report(str(token))).json() == {"offset": 2}
    assert (await report(str(token))).json() == {"offset": 2}
    event = (await served.client.get(f"/sessions/{session_id}/events", params={"after": "1"})).json()["events"][0]
    assert (event["agent"], event["msg"], event["pct"], event["step"]) == ("codesmith", "📡 halfway", 0.4, 1)
    assert (await report("the-owner's-token")).status_code == 401
    assert (await report(str(token), str(uuid4()))).status_code == 401
    assert (await report("step.x")).status_code == 401
    assert (await report(str(token), total=0)).status_code == 422
    assert (await report(str(token), agent="")).status_code == 422
    headers = {"Authorization": f"Bearer {token}"}
    assert (await served.client.get(f"/sessions/{session_id}", headers=headers)).status_code == 401
    await served.client.post(f"/sessions/{session_id}/cancel")
    headers["Idempotency-Key"] = "report-2"
    late = await served.client.post(
        f"/sessions/{session_id}/events", json={"progress": 1, "message": "late"}, headers=headers
    )
    assert late.status_code == 409


async def test_approvals(served: Served) -> None:
    session_id = (await served.create_session())["session_id"]
    assert (await served.client.get("/approvals")).json() == {"approvals": []}
    path = f"/sessions/{session_id}/approvals/1"
    assert (await served.client.post(path, json={"verdict": "approved"})).status_code == 404
    assert (await served.client.post(path, json={})).status_code == 422
    assert (await served.client.post(path, json={"verdict": "maybe"})).status_code == 422
    assert (await served.client.post(path.replace("/1", f"/{2**31}"), json={"answer": 1})).status_code == 422
    questions: list[Any] = [1.5, True, [1], {}, "x", "1 ", "", 10**40, "٣"]
    for question in questions:
        given = await served.client.post(path, json={"answer": 1, "question": question})
        assert given.status_code == 422 and "body.question" in given.json()["detail"], given.text


async def test_artifacts(served: Served) -> None:
    session_id = (await served.create_session())["session_id"]
    async with transaction(served.gateway.engine) as db:
        digest = await put_artifact(db, SessionId(UUID(session_id)), b'{"a":1}', media_type="application/json")
    found = await served.client.get(f"/sessions/{session_id}/artifacts/{digest}")
    assert found.content == b'{"a":1}' and found.headers["content-type"] == "application/json"
    assert (await served.client.get(f"/sessions/{session_id}/artifacts/{'0' * 64}")).status_code == 404
    assert (await served.client.get(f"/sessions/{session_id}/artifacts/x")).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/not-a-uuid",
        "/sessions?workflow=%00",
        "/sessions?limit=0",
        "/sessions?limit=99999999999999999999999",
        "/sessions?before=x",
        "/approvals?session_id=x",
        "/events?session_id=00000000-0000-0000-0000-000000000000&agent=%00",
        "/events?session_id=00000000-0000-0000-0000-000000000000&since=0001-01-01T00:00:00%2B14:00",
        "/events?session_id=00000000-0000-0000-0000-000000000000&epoch=99999999999999999999999x",
    ],
)
async def test_what_is_malformed_is_the_clients_fault(served: Served, path: str) -> None:
    answer = await served.client.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_document_describes_what_is_answered(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert schemas["Event"]["discriminator"]["propertyName"] == "t"
    assert "HTTPValidationError" not in schemas

    def validate(answer: httpx.Response, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())

    session_id = (await served.create_session())["session_id"]
    validate(await served.client.get("/sessions"), "SessionPage")
    validate(await served.client.get(f"/sessions/{session_id}"), "SessionView")
    validate(await served.client.get(f"/sessions/{session_id}/events"), "EventPage")
    validate(await served.client.get(f"/sessions/{uuid4()}"), "Problem")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = operation["responses"]["default"]["content"]
            assert list(content) == ["application/problem+json"], path


async def test_redis_away_is_told_and_borne(database_url: str) -> None:
    async with serving(database_url, NO_SERVER) as served:
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.json()["database"], ready.json()["redis"]) == (200, True, False)
        assert "Redis" in ready.json()["reason"]
        session_id = (await served.create_session())["session_id"]
        await served.client.post(f"/sessions/{session_id}/cancel")
        stream = await served.client.get(f"/events?session_id={session_id}")
        assert "event: end\n" in stream.text


async def test_a_new_deployment_is_ready_when_a_worker_has_registered_and_stays_so(served: Served) -> None:
    async def worker(statement: str) -> None:
        async with tampering(served.gateway.engine) as db:
            await db.execute(text(statement))

    await worker("WITH none AS (DELETE FROM workflows) DELETE FROM workers")
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["workers"]) == (503, False, 0)
    assert "no worker has registered" in ready.json()["reason"]
    refused = await served.client.post("/sessions", json={"task": "too early"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["type"] == "urn:stellwerk:problem:no-worker-yet"
    await worker("INSERT INTO workflows VALUES ('repair', '1', '1.2', '{task,path}')")
    await worker("INSERT INTO workers VALUES ('worker-1')")
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["workers"], ready.json()["reason"]) == (200, 1, None)

    long_ago = "last_seen = now() - interval '10 minutes'"
    await worker(f"WITH w AS (UPDATE workers SET {long_ago}) UPDATE workflows SET {long_ago}")
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["workers"]) == (200, True, 0)
    created = await served.create_session()
    assert created["status"] == "waiting"
    view = (await served.client.get(f"/sessions/{created['session_id']}")).json()
    assert "no worker is running" in view["reason"]
    unknown = await served.client.post("/sessions", json={"task": "x", "workflow": "another"})
    assert unknown.status_code == 422 and "known: repair" in unknown.json()["detail"]


async def test_what_workers_refuse_is_told_to_those_who_show_a_key(served: Served) -> None:
    async def worker(statement: str) -> None:
        async with tampering(served.gateway.engine) as db:
            await db.execute(text(statement))

    told = (
        '[{"workflow": "odd", "module": "m", "reason": "it is odd"}, {"workflow": null, "module": "n", "reason": "no"}]'
    )
    await worker("WITH none AS (DELETE FROM workflows) DELETE FROM workers")
    await worker(f"INSERT INTO workers (worker, served, refused) VALUES ('worker-1', '{{}}', '{told}')")
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["refused"]) == (503, False, 2)
    assert "all that they were given is refused" in ready.json()["reason"]
    assert [refused["reason"] for refused in ready.json()["refusals"]] == ["no", "it is odd"]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer stw_{'x' * 38}"}):
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as stranger:
            seen = (await stranger.get("/readyz")).json()
            assert (seen["refused"], seen["refusals"]) == (2, None)

    refused = await served.client.post("/sessions", json={"task": "x", "workflow": "odd"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "the workflow 'odd' is refused: it is odd (module m)"
    unknown = await served.client.post("/sessions", json={"task": "x", "workflow": "another"})
    assert unknown.status_code == 422
    assert "known: none; the module n is refused: no" in unknown.json()["detail"]
    await worker("INSERT INTO workflows VALUES ('odd', '1', '1.2', '{}')")
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True), "as without workers"
    assert "all that they were given is refused" in ready.json()["reason"]
    assert (await served.client.post("/sessions", json={"task": "x", "workflow": "odd"})).status_code == 422
    await worker("INSERT INTO workers (worker, served) VALUES ('worker-2', '{odd}')")
    assert (await served.client.post("/sessions", json={"task": "x", "workflow": "odd"})).status_code == 201
    assert (await served.client.get("/readyz")).json()["reason"] is None


async def test_sessions_that_came_without_a_worker_begin_only_as_there_is_room(
    database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url, max_active_sessions=1) as served:
        engine = served.gateway.engine
        async with tampering(engine) as db:
            await db.execute(text("UPDATE workflows SET last_seen = now() - interval '10 minutes'"))
        made = [await served.create_session() for _ in range(3)]
        assert {session["status"] for session in made} == {"waiting"}
        async with tampering(engine) as db:
            assert not await db.scalar(ADMITTED)
            await db.execute(text("UPDATE workflows SET last_seen = now()"))
        for _ in range(2):
            await admit_sessions(served.gateway.backends)
            async with transaction(engine) as db:
                assert await db.scalar(ADMITTED) == 1


async def test_what_fails_after_the_commit_changes_no_answer(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, statement_limit=2) as served:
        created = await served.create_session()
        async with transaction(served.gateway.engine) as db:
            await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADMISSION_LOCK})
            another = await served.client.post("/sessions", json={"task": "another"})
            cancelled = await served.client.post(f"/sessions/{created['session_id']}/cancel")
        assert (another.status_code, cancelled.status_code) == (201, 200)
        assert cancelled.json()["status"] == "cancelled"


async def test_a_bell_that_breaks_keeps_no_other_from_ringing(served: Served) -> None:
    rung = []

    def breaks() -> None:
        raise OSError("no such bell")

    async with unit_of_work(served.gateway.backends) as work:
        work.after_commit += [breaks, lambda: rung.append("the next")]
    assert rung == ["the next"]


async def test_an_unknown_option_is_refused_by_name(served: Served) -> None:
    refused = await served.client.post("/sessions", json={"task": "x", "options": {"approve_plan": True}})
    assert refused.status_code == 422 and "options.approve_plan" in refused.json()["detail"]
    assert (await served.client.post("/sessions", json={"task": "x", "options": {}})).status_code == 201


async def test_postgres_away_is_told(home: Path, redis_url: str) -> None:
    server = EmbeddedPostgres(home)
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(migrate, server.superuser_url)
        async with serving(server.url, redis_url) as served:
            session_id = (await served.create_session())["session_id"]
            await asyncio.to_thread(server.stop)
            assert (await served.client.get("/readyz")).status_code == 503
            away = await served.client.get("/sessions")
            assert (away.status_code, away.headers["retry-after"]) == (503, "2")
            assert away.headers["content-type"] == "application/problem+json"
            taken = b""
            with pytest.raises(httpx.RemoteProtocolError):  # it is not over: EventSource tries again
                async with served.client.stream("GET", f"/events?session_id={session_id}") as stream:
                    assert stream.status_code == 200
                    async for part in stream.aiter_bytes():
                        taken += part
            assert b"retry: " in taken
            await asyncio.to_thread(server.start)
            assert (await served.client.get("/sessions")).status_code == 200
    finally:
        await asyncio.to_thread(server.stop)
