"""What a program may say by its step's token: as its own agent, within limits; and what made-up tokens learn."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from app.database import transaction
from app.progress import SessionId
from app.sessions.model import StepToken
from tests.roles import tampering
from tests.serving import Served, serving


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    limits: dict[str, Any] = {"max_reports": 3, "max_reports_bytes": 4000, "max_report_bytes": 2000}
    async with serving(database_url, redis_url, **limits) as served:
        yield served


async def running(served: Served) -> StepToken:
    """The token of a step that a worker holds."""
    session_id = SessionId(UUID((await served.create_session())["session_id"]))
    token = StepToken(session_id, 1, 1, "codesmith", uuid4())
    async with tampering(served.gateway.engine) as db:
        await db.execute(
            text(
                "INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, lease_token,"
                " max_attempts, time_limit_ms) VALUES (:id, 1, 1, 'p', 'codesmith', 'default', 'running', :lease, 3, 1)"
            ),
            {"id": session_id, "lease": token.lease},
        )
    return token


async def report(served: Served, token: StepToken, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
    said = {"progress": 1, "message": "said"} | body
    async with httpx.AsyncClient(base_url=served.url) as client:
        return await client.post(f"/sessions/{token.session_id}/events", json=said, headers=headers)


async def events(served: Served, token: StepToken) -> list[dict[str, Any]]:
    page = await served.client.get(f"/sessions/{token.session_id}/events", params={"t": "agent_event"})
    return list(page.json()["events"])


async def test_a_decision_by_token_says_so_and_is_the_own_agents(served: Served) -> None:
    token = await running(served)
    assert (await report(served, token, phase="decision", agent="codesmith")).status_code == 201
    refused = await report(served, token, phase="decision", agent="supervisor")
    assert refused.status_code == 422 and "own agent, 'codesmith'; leave `agent` out" in refused.json()["detail"]
    another = replace(token, agent="supervisor")  # the name in the token is the program's to change, too
    assert (await report(served, another, agent="supervisor")).status_code == 409
    (event,) = await events(served, token)
    assert (event["agent"], event["phase"], event["via"]) == ("codesmith", "decision", "step token")


async def test_a_made_up_token_does_not_tell_what_there_is(served: Served) -> None:
    open_one, closed = await running(served), await running(served)
    await served.client.post(f"/sessions/{closed.session_id}/cancel")
    made_up = [
        replace(open_one, lease=uuid4()),
        replace(open_one, attempt=2),
        replace(open_one, step=7),
        replace(closed, lease=uuid4()),
        closed,
        replace(open_one, session_id=SessionId(uuid4())),
    ]
    answers = [await report(served, token, key="a") for token in made_up]
    said = {(answer.status_code, answer.json()["type"], answer.json()["detail"]) for answer in answers}
    assert len(said) == 1 and {answer.status_code for answer in answers} == {409}
    assert await events(served, open_one) == []


async def test_an_attempt_reports_so_often_and_so_much(served: Served) -> None:
    token = await running(served)
    large = await report(served, token, message="x" * 2000)
    assert large.status_code == 413 and "STELLWERK_MAX_REPORT_BYTES" in large.json()["detail"]
    for number in range(3):
        assert (await report(served, token, key=str(number))).status_code == 201
    assert (await report(served, token, key="2")).status_code == 201  # an answer that was lost, not another report
    refused = await report(served, token)
    assert refused.status_code == 413 and "STELLWERK_MAX_REPORTS)" in refused.json()["detail"]
    assert len(await events(served, token)) == 3

    async with transaction(served.gateway.engine) as db:
        await db.execute(text("UPDATE steps SET attempt = 2 WHERE session_id = :id"), {"id": token.session_id})
    following = replace(token, attempt=2)
    for _ in range(2):
        assert (await report(served, following, message="x" * 1700)).status_code == 201
    refused = await report(served, following, message="x" * 1700)
    assert refused.status_code == 413 and "STELLWERK_MAX_REPORTS_BYTES" in refused.json()["detail"]
