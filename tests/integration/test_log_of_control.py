"""What principals do is recorded once for each request, in the transaction that does it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from app.events.proof.entries import verify_stream
from app.principals import facts
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import repository, service, start_repository
from tests.answering import question_of
from tests.keyed import Keyed, control_events, make_key, showing
from tests.populating import created, ended, report, running, waiting
from tests.serving import Served, another, serving
from tests.stacks import stellwerk

AT_ONCE = 50


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, project_rate=100_000) as served:
        yield served


@pytest.fixture
async def key(served: Served) -> Keyed:
    return await make_key(served, "read", "submit", "operate", "audit", project="web", name="ci")


async def done(served: Served, project: str = "web") -> list[dict[str, Any]]:
    """What was recorded but keys that were made and sessions that tests begin with."""
    found = await control_events(served, project)
    return [event for event in found if event["principal"] != "owner"]


async def test_each_request_leaves_one_event(served: Served, key: Keyed) -> None:
    backends = served.gateway.backends
    asks, failed, succeeded = (
        await waiting(backends, project="web"),
        await ended(backends, "failed", project="web"),
        await ended(backends, "succeeded", project="web"),
    )
    async with showing(served, key) as client:

        async def post(path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
            return await client.post(
                path, json=body, headers={name.replace("_", "-"): v for name, v in headers.items()}
            )

        made = (await post("/sessions", {"task": "x"}, Idempotency_Key="1", X_Request_Id="r-1")).json()["session_id"]
        assert (await post("/sessions", {"task": "x"}, Idempotency_Key="1")).status_code == 200
        await post(f"/sessions/{made}/tickets", {"reason": "for the wall", "expires_in": 60})
        await post(f"/sessions/{made}/cancel", {"reason": "no longer wanted"}, X_Request_Id="r/2:=")
        await post(f"/sessions/{made}/cancel")
        await post(f"/sessions/{succeeded}/cancel", {"reason": "too late"})
        await post(f"/sessions/{failed}/retry", {"reason": "again"})
        await post(f"/sessions/{failed}/retry")
        question = await question_of(served, asks)
        await post(f"/sessions/{asks}/approvals/1", {"question": question, "verdict": "rejected", "comment": "not so"})
        await post(f"/sessions/{asks}/approvals/1", {"verdict": "approved"})
        await post(f"/sessions/{uuid4()}/cancel")
        await post("/sessions", {"task": "x", "workflow": "unknown"})
    events = await done(served)
    told = [(e["action"], e["outcome"], e["target"], e["reason"]) for e in events]
    assert told == [
        ("session.create", "done", made, None),
        ("session.create", "unchanged", made, None),
        ("ticket.create", "done", made, "for the wall"),
        ("session.cancel", "done", made, "no longer wanted"),
        ("session.cancel", "unchanged", made, None),
        ("session.cancel", "refused", str(succeeded), "too late"),
        ("session.retry", "done", str(failed), "again"),
        ("session.retry", "refused", str(failed), None),
        ("approval.answer", "done", str(asks), "not so"),
        ("approval.answer", "refused", str(asks), None),
    ]
    assert {(e["principal"], e["key_id"]) for e in events} == {("ci", key.key_id)}
    for event in events:
        assert ("error" in event) == (event["outcome"] == "refused")
    assert "succeeded" in next(e["error"] for e in events if e["outcome"] == "refused")
    assert events[8]["details"] == {"step": 1, "verdict": "rejected", "question": question, "offset": int(question) + 2}
    assert events[0]["request_id"] == "r-1"
    assert len({event["request_id"] for event in events}) == len(events)


FIT = ["a", "4f0c", "A-b._:/+=@9", "x" * 128]
UNFIT = ["", "a b", "x" * 129, 'a"b', "a\tb", "é", "a,b", "<script>"]


@pytest.mark.parametrize("given", [*FIT, *UNFIT])
async def test_request_ids(served: Served, key: Keyed, given: str) -> None:
    """What is recorded is what the answer says: the one that was given, or a new one where that is not fit."""
    headers = [(b"Authorization", f"Bearer {key.key}".encode()), (b"X-Request-Id", given.encode())]
    answer = await served.client.post("/sessions", json={"task": "x"}, headers=headers)
    said = answer.headers["x-request-id"]
    assert (said == given) == (given in FIT)
    assert len(said) == 32 or given in FIT
    assert [event["request_id"] for event in await done(served)] == [said]


async def test_what_fails_is_not_recorded_and_what_is_not_recorded_is_not_done(
    served: Served, key: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever half of the transaction it fails."""
    session_id = await created(served.gateway.backends, project="web")

    async def fails(*_: object, **__: object) -> None:
        raise psycopg.errors.DiskFull

    def also_fails(*_: object, **__: object) -> None:
        raise MemoryError

    async with showing(served, key) as client:
        for where, what in ((repository, "set_ended"), (facts, "controlled")):
            with monkeypatch.context() as patched:
                patched.setattr(where, what, fails if what == "set_ended" else also_fails)
                assert (await client.post(f"/sessions/{session_id}/cancel")).status_code == 500
            assert (await client.get(f"/sessions/{session_id}")).json()["status"] == "created"
            assert await done(served) == []
        for where, what in ((start_repository, "insert_session"), (repository, "session_view")):
            with monkeypatch.context() as patched:
                patched.setattr(where, what, fails)
                assert (await client.post("/sessions", json={"task": "lost"})).status_code == 500
            assert await done(served) == []
        listed = (await client.get("/sessions")).json()["sessions"]
        assert [session["session_id"] for session in listed] == [str(session_id)]
        assert (await client.post(f"/sessions/{session_id}/cancel")).status_code == 200
        assert [event["outcome"] for event in await done(served)] == ["done"]


async def test_a_backend_that_is_killed_in_between_leaves_neither(
    served: Served, key: Keyed, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await created(served.gateway.backends, project="web")
    real = repository.set_ended

    async def killed(db: Any, *arguments: Any) -> None:
        await real(db, *arguments)
        pid = (await db.exec_driver_sql("SELECT pg_backend_pid()")).scalar()
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    async with showing(served, key) as client:
        with monkeypatch.context() as patched:
            patched.setattr(repository, "set_ended", killed)
            assert (await client.post(f"/sessions/{session_id}/cancel")).status_code == 503
        assert (await client.get(f"/sessions/{session_id}")).json()["status"] == "created"
        assert await done(served) == []


async def test_fifty_at_a_time_leave_one_event_each(served: Served, key: Keyed) -> None:
    """At two gateways, while the session's worker reports; nothing waits for the other for ever."""
    backends = served.gateway.backends
    claim = await running(backends, project="web")
    session_id, failed = claim.session.session_id, await ended(backends, "failed", project="web")
    async with another(served, project_rate=100_000) as second, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(showing(gateway, key)) for gateway in (served, second)]

        async def reports() -> int:
            count = 0
            while (await service.get_session(backends, session_id, principal=OWNER)).status == "running":
                try:
                    await report(backends, claim, 0.5)
                except Exception as error:  # noqa: BLE001  # by its name, since either may be first
                    assert type(error).__name__ in {"LeaseLost", "StreamClosed"}
                    break
                count += 1
            return count

        reporting = [asyncio.create_task(reports()) for _ in range(4)]
        asked: list[Callable[[], Awaitable[httpx.Response]]] = []
        for n in range(AT_ONCE):
            client = clients[n % 2]
            asked.append(lambda client=client: client.post(f"/sessions/{session_id}/cancel"))  # type: ignore[misc]
            asked.append(lambda client=client: client.post(f"/sessions/{failed}/retry"))  # type: ignore[misc]
            asked.append(lambda client=client: client.post(f"/sessions/{failed}/cancel"))  # type: ignore[misc]
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(ask() for ask in asked))
            await asyncio.gather(*reporting)
    assert {answer.status_code for answer in answers} <= {200, 409}
    events = await done(served)
    counts = Counter((e["action"], e["target"]) for e in events)
    assert counts == {
        ("session.cancel", str(session_id)): AT_ONCE,
        ("session.retry", str(failed)): AT_ONCE,
        ("session.cancel", str(failed)): AT_ONCE,
    }
    outcomes = Counter((e["action"], e["target"], e["outcome"]) for e in events)
    assert outcomes["session.cancel", str(session_id), "done"] == 1
    assert outcomes["session.cancel", str(session_id), "unchanged"] == AT_ONCE - 1
    assert outcomes["session.retry", str(failed), "done"] <= 1
    assert outcomes["session.cancel", str(failed), "done"] <= 1
    given = Counter(answer.headers["x-request-id"] for answer in answers)
    assert Counter(e["request_id"] for e in events) == given
    await assert_whole(served, session_id, failed)


async def assert_whole(served: Served, *session_ids: SessionId) -> None:
    """No offset is missing, the chain holds, and each status is what the log says."""
    for session_id in session_ids:
        assert [fault async for fault in verify_stream(served.gateway.engine, session_id)] == []
    operators = (await control_events(served, "web"))[0]["stream_id"]
    assert [fault async for fault in verify_stream(served.gateway.engine, operators)] == []


async def test_the_operators_stream_is_resumed_and_its_export_proves_itself(served: Served, tmp_path: Path) -> None:
    """By server-sent events that are cut after every two, and in pages of three; both give the same."""
    auditor = await make_key(served, "audit", project="web")
    for n in range(5):
        session_id = await created(served.gateway.backends, project="web")
        await served.client.post(f"/sessions/{session_id}/cancel", json={"reason": f"reason {n}"})
    everything = await control_events(served, "web")
    assert [event["offset"] for event in everything] == list(range(1, len(everything) + 1))
    seen, cursor, last = list[int](), "0", len(everything)
    async with showing(served, auditor) as client:
        while not seen or seen[-1] < last:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
            async with client.stream("GET", "/operators/events", headers=headers) as answer:
                assert answer.status_code == 200
                taken = 0
                async for line in answer.aiter_lines():
                    if line.startswith("id: ") and line != f"id: {cursor}":
                        cursor, taken = line.removeprefix("id: "), taken + 1
                        seen.append(int(cursor))
                    if taken == 2 or (seen and seen[-1] == last):
                        break
        pages, after = list[dict[str, Any]](), "0"
        while found := (await client.get("/operators/events", params={"after": after, "limit": 3})).json()["events"]:
            pages += found
            after = str(found[-1]["offset"])
        exported = await client.get("/operators/export")
    assert seen == list(range(1, last + 1))
    assert pages == everything
    file = tmp_path / "operators.jsonl"
    file.write_bytes(exported.content)
    verified = await asyncio.to_thread(stellwerk, tmp_path, "verify", str(file))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    file.write_bytes(exported.content.replace(b"reason 3", b"reason 4"))
    assert (await asyncio.to_thread(stellwerk, tmp_path, "verify", str(file))).returncode == 1
