"""Bad input at every door of the gateway: a 4xx with a sentence that helps, and nothing written."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from httpx_sse import EventSource

from app.events.encoding import format_ts
from app.progress import SessionId
from app.sessions import attempts
from app.sessions.attempts import Claim
from tests.populating import created, ended, running, waiting
from tests.serving import BEARER, TOKEN, Served, serving

JSON = {"Content-Type": "application/json"}
REPORT = {"progress": 0.4, "message": "📡 half way"}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
async def claim(served: Served) -> Claim:
    return await running(served.gateway.backends)


def refused(answer: httpx.Response, *statuses: int) -> str:
    """What the client is told."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code and problem["title"] and problem["instance"].startswith("/")
    assert len(problem["detail"].split()) >= 3, problem
    detail: str = problem["detail"]
    return detail


async def heads(served: Served) -> dict[str, int]:
    """Where every stream ends: unchanged, if nothing was written."""
    sessions = (await served.client.get("/sessions", params={"limit": 1000})).json()["sessions"]
    return {session["session_id"]: session["head"] for session in sessions}


async def report(served: Served, token: object, session_id: SessionId, body: Any = REPORT) -> httpx.Response:
    sent = {b"Authorization": f"Bearer {token}".encode(), b"Content-Type": b"application/json"}
    return await served.client.post(f"/sessions/{session_id}/events", content=orjson.dumps(body), headers=sent)


async def test_a_step_token_opens_its_own_step_only(served: Served, claim: Claim) -> None:
    other = await running(served.gateway.backends)
    before = await heads(served)
    token, session_id = claim.token, claim.session.session_id
    for wrong in (
        replace(token, step=2),
        replace(token, step=2**70),
        replace(token, step=-1),
        replace(token, attempt=2),
        replace(token, attempt=2**40),
        replace(token, lease=uuid4()),
        replace(token, lease=other.lease),
    ):
        refused(await report(served, wrong, session_id), 401, 409)
    for number in ("01", "+1", "1_0", "１", " 1", "1e0"):
        spelt = str(token).replace(".1.", f".{number}.", 1)
        refused(await report(served, spelt, session_id), 401)
    assert "another session" in refused(await report(served, other.token, session_id), 401)
    elsewhere = replace(token, session_id=other.session.session_id)
    refused(await report(served, elsewhere, other.session.session_id), 409)
    refused(await report(served, replace(token, session_id=SessionId(uuid4())), session_id), 401)
    assert await heads(served) == before
    assert (await report(served, token, session_id)).status_code == 201


async def test_a_step_token_writes_reports_and_nothing_else(served: Served, claim: Claim) -> None:
    before = await heads(served)
    token, session_id = claim.token, claim.session.session_id
    bodies: list[Any] = [
        REPORT | {"t": "session_event", "status": "succeeded"},
        REPORT | {"t": "step_event"},
        REPORT | {"step": 2},
        REPORT | {"offset": 1},
        REPORT | {"phase": "succeeded"},
        {"t": "session_event", "status": "failed"},
        [REPORT],
        "text",
    ]
    for body in bodies:
        refused(await report(served, token, session_id, body), 422)
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/sessions/{session_id}"
    for method, address in (
        ("GET", path),
        ("GET", "/sessions"),
        ("GET", f"{path}/events"),
        ("GET", f"{path}/export"),
        ("GET", f"/events?session_id={session_id}"),
        ("GET", "/openapi.json"),
        ("POST", f"{path}/cancel"),
        ("POST", f"{path}/retry"),
        ("POST", f"{path}/approvals/1"),
        ("POST", "/sessions"),
    ):
        refused(await served.client.request(method, address, headers=headers, json={"task": "x", "answer": 1}), 401)
    assert await heads(served) == before


async def test_a_step_token_dies_with_its_lease(served: Served) -> None:
    backends = served.gateway.backends
    ended_claims = [await running(backends) for _ in range(4)]
    completed, failed, given_back, cancelled = ended_claims
    await attempts.complete_step(backends, completed, {"plan": []}, commit=None)
    await attempts.fail_step(backends, failed, "try again", retryable=True)
    await attempts.give_back_step(backends, given_back)
    await served.client.post(f"/sessions/{cancelled.session.session_id}/cancel")
    before = await heads(served)
    for claim in ended_claims:
        detail = refused(await report(served, claim.token, claim.session.session_id), 409)
        assert "lease" in detail or "closed" in detail
    assert await heads(served) == before


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        TOKEN[:-1],
        "step",
        "step.....",
        "step.x.1.1.y.agent",
        f"step.{uuid4()}.one.1.{uuid4()}.agent",
        f"step.{uuid4()}.1.1.{uuid4()}",
        f"step.{uuid4()}.{'9' * 5000}.1.{uuid4()}.agent",
        "\xff",
    ],
)
async def test_what_is_no_step_token_opens_nothing(served: Served, claim: Claim, token: str) -> None:
    headers: Mapping[bytes, bytes] = {b"Authorization": b"Bearer " + token.encode("utf-8")}
    path = f"/sessions/{claim.session.session_id}/events"
    refused(await served.client.post(path, json=REPORT, headers=dict(headers)), 401)


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN} x", "Bearer é"],
)
async def test_wrong_tokens(served: Served, authorization: str) -> None:
    headers = {b"Authorization": authorization.encode()}
    for path in ("/sessions", "/openapi.json", f"/events?session_id={uuid4()}"):
        answer = await served.client.get(path, headers=headers)
        assert "token" in refused(answer, 401) and answer.headers["www-authenticate"] == "Bearer"


DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
BODIES = {
    "invalid utf-8": b'{"task": "x\xff", "message": "x\xff", "progress": 1, "answer": "\xff"}',
    "overlong utf-8": b'{"task": "\xc0\xaf", "message": "\xc0\xaf", "progress": 1, "answer": "\xc0\xaf"}',
    "utf-16": '{"task": "x", "message": "x", "progress": 1, "answer": 1}'.encode("utf-16"),
    "utf-32": '{"task": "x", "message": "x", "progress": 1, "answer": 1}'.encode("utf-32"),
    "deep": b'{"task": "x", "message": "x", "progress": 1, "input": ' + DEEP + b"}",
    "NaN": b'{"task": "x", "input": {"n": NaN}, "message": "x", "progress": NaN, "answer": NaN}',
    "Infinity": b'{"task": "x", "input": {"n": -Infinity}, "message": "x", "progress": Infinity, "answer": [Infinity]}',
    "cut off": b'{"task": "x", "message": "x", "progress": 1, "answer": 1',
    "two values": b'{"task": "x"}{"task": "y"}',
    "nothing": b"",
    "zeros": bytes(100),
    "null": b"null",
    "form": b"task=x&message=x&progress=1&answer=1",
}


async def test_bodies_that_are_no_json(served: Served) -> None:
    backends = served.gateway.backends
    claim, asking, failed = await running(backends), await waiting(backends), await ended(backends, "failed")
    before = await heads(served)
    paths = {
        "/sessions": BEARER,
        f"/sessions/{claim.session.session_id}/events": {"Authorization": f"Bearer {claim.token}"},
        f"/sessions/{asking}/approvals/1": BEARER,
    }
    for name, body in BODIES.items():
        for path, headers in paths.items():
            answer = await served.client.post(path, content=body, headers={**headers, **JSON})
            assert refused(answer, 400, 413, 422), (name, path)
    for path in (f"/sessions/{asking}/cancel", f"/sessions/{failed}/retry"):
        for name in ("invalid utf-8", "utf-16", "deep", "cut off", "form"):
            refused(await served.client.post(path, content=BODIES[name], headers=JSON), 400, 422)
    assert await heads(served) == before


NESTED = {"a": 1}
for _ in range(200):
    NESTED = {"a": NESTED}  # type: ignore[dict-item]  # it grows
VALUES = {
    "too deep": NESTED,
    "NUL": {"a": "b\x00"},
    "a NUL key": {"\x00": 1},
    "huge integer": 2**64,
    "huge negative integer": -(2**63) - 1,
    "huge integer within": [{"a": 10**400}],
    "lone surrogate": {"a": "\ud83d"},
    "lone surrogate key": {"\udc00": 1},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
async def test_values_that_postgres_or_json_would_change(served: Served, value: Any) -> None:
    backends = served.gateway.backends
    claim, asking = await running(backends), await waiting(backends)
    before = await heads(served)

    async def post(path: str, body: Any, **headers: str) -> httpx.Response:
        return await served.client.post(path, content=json.dumps(body).encode(), headers=JSON | headers)

    details = refused(await post("/sessions", {"task": "x", "input": {"v": value}}), 422)
    assert details.startswith("body.input")
    refused(await post("/sessions", {"task": "x", "options": {"v": value}}), 422)
    refused(await post(f"/sessions/{asking}/approvals/1", {"answer": value}), 422)
    bearer = {"Authorization": f"Bearer {claim.token}"}
    path = f"/sessions/{claim.session.session_id}/events"
    assert refused(await post(path, REPORT | {"details": {"v": value}}, **bearer), 422).startswith("body.details")
    assert await heads(served) == before


async def test_what_is_too_large_for_an_event_is_refused_and_said(served: Served, claim: Claim) -> None:
    before = await heads(served)
    large = REPORT | {"details": {"log": "x" * 300_000}}
    detail = refused(await report(served, claim.token, claim.session.session_id, large), 413)
    assert "STELLWERK_MAX_EVENT_BYTES" in detail
    assert await heads(served) == before


@pytest.mark.parametrize("said", ["x\n\nid: 999\nevent: end\ndata: {}\n\n", "\r\rdata: x\r\r", "a\u2028b\u0085c\ufeff"])
async def test_what_is_said_never_becomes_a_frame(served: Served, claim: Claim, said: str) -> None:
    session_id = claim.session.session_id
    body = {"progress": 1, "message": said, "details": {said: [said]}}
    offset = (await report(served, claim.token, session_id, body)).json()["offset"]
    await served.client.post(f"/sessions/{session_id}/cancel", json={"reason": said})
    stream = await served.client.get("/events", params={"session_id": str(session_id)})
    frames = list(EventSource(stream).iter_sse())
    assert [frame.id for frame in frames] == ["0", *map(str, range(1, int(frames[-1].id) + 1)), frames[-1].id]
    assert [frame.event for frame in frames if frame.event in {"stream", "reset", "end"}] == ["stream", "end"]
    event = frames[offset].json()
    assert (event["msg"], event["details"]) == (said, {said: [said]})


async def test_header_and_query_that_contradict_each_other(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    page = f"/sessions/{session_id}/events"

    async def first(query: Mapping[str, str], last_event_id: str) -> int:
        answer = await served.client.get(page, params=dict(query), headers={"Last-Event-ID": last_event_id})
        offset: int = answer.json()["events"][0]["offset"]
        return offset

    since = format_ts(datetime(2000, 1, 1, tzinfo=UTC))
    for query in ({"after": "1"}, {"after": "latest"}, {"tail": "2"}, {"since": since}, {"after": "1", "tail": "1"}):
        assert await first(query, "4") == 5, query
    headers = {"Last-Event-ID": "4"}
    for query in ({"after": "x"}, {"tail": "many"}, {"since": "yesterday"}):
        refused(await served.client.get(page, params=query, headers=headers), 400, 422)
    refused(await served.client.get(page, params={"epoch": "9"}, headers=headers), 410)
    for cursor in ("x", "1.0", "0x1", "4,5", "-"):
        refused(await served.client.get(page, headers={"Last-Event-ID": cursor}), 400)
    both = {"Authorization": "Bearer wrong", "Cookie": f"stellwerk_{served.client.base_url.port}=x"}
    refused(await served.client.get(page, headers=both), 401)


async def test_two_of_one_header_or_parameter(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    page = f"/sessions/{session_id}/events"
    twice = [("Last-Event-ID", "2"), ("Last-Event-ID", "5")]
    for path in (page, f"/events?session_id={session_id}"):
        assert "last-event-id" in refused(await served.client.get(path, headers=httpx.Headers(twice)), 400)
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), ("Content-Type", "application/json")]
    answer = await served.client.post("/sessions", content=b'{"task": "x"}', headers=httpx.Headers(twice))
    assert "idempotency-key" in refused(answer, 400)
    other = await created(served.gateway.backends)
    answer = await served.client.get(f"/events?session_id={other}&session_id=x")
    assert "'session_id' was given 2 times" in refused(answer, 400)
