"""Answers at the door: what does not fit the question's schema is refused, and the question stays as it was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.database import transaction
from app.progress import SessionId
from tests.answering import question_of
from tests.keyed import make_key
from tests.populating import waiting
from tests.serving import Served, serving

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["budget"],
    "properties": {"budget": {"type": "integer", "minimum": 1}},
}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def asking(
    served: Served, schema: Any = SCHEMA, question: Any = "how much?", project: str = "default"
) -> SessionId:
    return await waiting(served.gateway.backends, question, project=project, answer_schema=schema)


async def everything_in(served: Served, session_id: SessionId) -> list[Any]:
    """All rows that an answer could change."""
    async with transaction(served.gateway.engine) as db:
        found = []
        for table, key in (("events", "stream_id"), ("steps", "session_id"), ("sessions", "session_id")):
            rows = await db.execute(
                text(f"SELECT to_jsonb(x) FROM {table} x WHERE {key} = :id ORDER BY 1"),
                {"id": session_id},
            )
            found.append([row[0] for row in rows])
        found.append(await db.scalar(text("SELECT sum(head) FROM streams WHERE kind = 'operators'")))
    return found


async def answered(served: Served, session_id: SessionId, question: object = None, **given: Any) -> httpx.Response:
    """Answers the question that waits, unless another one is named."""
    given["question"] = question or await question_of(served, session_id)
    return await served.client.post(f"/sessions/{session_id}/approvals/1", json=given)


async def test_the_schema_is_shown_with_the_question(served: Served) -> None:
    session_id = await asking(served)
    (approval,) = (await served.client.get("/approvals")).json()["approvals"]
    assert approval["answer_schema"] == SCHEMA
    page = (await served.client.get(f"/sessions/{session_id}/events", params={"t": "approval"})).json()
    (requested,) = page["events"]
    assert (requested["status"], requested["answer_schema"]) == ("requested", SCHEMA)


async def test_without_a_schema_any_answer_will_do(served: Served) -> None:
    session_id = await waiting(served.gateway.backends)
    (approval,) = (await served.client.get("/approvals")).json()["approvals"]
    assert approval["answer_schema"] is None
    assert (await answered(served, session_id, answer="x")).status_code == 200


@pytest.mark.parametrize(
    ("given", "pointer", "said"),
    [
        ({"answer": {"budget": "much"}}, "/budget", "'much' is not of type 'integer'"),
        ({"answer": {"budget": 0}, "verdict": "approved"}, "/budget", "0 is less than the minimum of 1"),
        ({"answer": {}}, "", "'budget' is a required property"),
        ({"answer": None}, "", "None is not of type 'object'"),
        ({"verdict": "approved"}, "", "'approved' is not of type 'object'"),
    ],
)
async def test_what_does_not_fit_changes_nothing(served: Served, given: Any, pointer: str, said: str) -> None:
    session_id = await asking(served)
    before = await everything_in(served, session_id)
    refusal = await answered(served, session_id, **given)
    problem = refusal.json()
    assert (refusal.status_code, problem["type"]) == (422, "urn:stellwerk:problem:bad-answer")
    assert problem["errors"] == [{"pointer": pointer, "detail": said}]
    assert problem["answer_schema"] == SCHEMA
    assert said in problem["detail"]
    assert await everything_in(served, session_id) == before
    fits = await answered(served, session_id, answer={"budget": 3})
    assert fits.status_code == 200, fits.text
    again = await served.client.post(f"/sessions/{session_id}/approvals/1", json={"answer": {}})
    assert (again.status_code, again.json()["type"]) == (409, "urn:stellwerk:problem:not-waiting")


async def test_a_verdict_is_the_word_that_the_node_gets(served: Served) -> None:
    session_id = await asking(served, {"enum": ["approved", "rejected"]})
    assert (await answered(served, session_id, answer=True)).status_code == 422
    assert (await answered(served, session_id, verdict="rejected")).status_code == 200


async def test_a_large_question_and_its_schema_are_told_together(served: Served) -> None:
    schema = SCHEMA | {"description": "x" * 60_000}
    session_id = await asking(served, schema, question="?" * 240_000)
    page = (await served.client.get(f"/sessions/{session_id}/events", params={"t": "approval"})).json()
    assert page["events"][0]["answer_schema"] == schema
    assert page["events"][0]["question"]["size"] == 240_002
    assert (await answered(served, session_id, answer=1)).status_code == 422


async def test_of_a_fitting_answer_and_a_cancel_at_once_one_wins(served: Served) -> None:
    session_id = await asking(served)
    question = await question_of(served, session_id)
    fitting, unfit, cancelled = await asyncio.gather(
        answered(served, session_id, question, answer={"budget": 1}),
        answered(served, session_id, question, answer={}),
        served.client.post(f"/sessions/{session_id}/cancel"),
    )
    assert cancelled.status_code == 200
    assert fitting.status_code in {200, 409}
    assert unfit.status_code in {409, 422}
    page = (await served.client.get(f"/sessions/{session_id}/events")).json()
    given = [event for event in page["events"] if event["t"] == "approval_event" and "answer" in event]
    assert len(given) == (fitting.status_code == 200)
    assert page["status"] == "cancelled"


async def test_another_projects_question_does_not_exist(served: Served) -> None:
    session_id = await asking(served, project="other")
    key = await make_key(served, "operate", project="web")
    for answer_given in ({}, {"budget": 1}):
        given = {"answer": answer_given}
        answer = await served.client.post(f"/sessions/{session_id}/approvals/1", json=given, headers=key.headers)
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"there is no session {session_id}"
