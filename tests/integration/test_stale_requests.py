"""What was meant for another moment changes nothing: an answer names its question, what is doubled is done once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.database import transaction
from app.events.append import lock_streams
from app.progress import SessionId
from app.sessions import attempts
from tests.answering import question_of
from tests.populating import SERVED, ended, waiting
from tests.roles import bump_epoch
from tests.serving import Served, another, serving

APPROVED = {"verdict": "approved"}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def answer(served: Served, session_id: SessionId, key: str | None = None, **given: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await served.client.post(f"/sessions/{session_id}/approvals/1", json=given, headers=headers)


async def ask_next(served: Served, session_id: SessionId, question: Any, **more: Any) -> None:
    """The step goes on with its answer, and asks something else."""
    backends = served.gateway.backends
    claim = await attempts.claim_step(
        *(backends, session_id, 1, 1), agent="architect", lease=uuid4(), worker="w", served=SERVED, alone=False
    )
    assert claim is not None
    await attempts.wait_step(
        backends, claim, question=question, interrupt_id=uuid4().hex, node_snapshot=b"state", **more
    )


async def answers_of(served: Served, session_id: SessionId) -> list[dict[str, Any]]:
    page = (await served.client.get(f"/sessions/{session_id}/events?t=approval")).json()
    return [event for event in page["events"] if event["status"] != "requested"]


async def test_a_doubled_answer_does_not_answer_what_is_asked_next(served: Served) -> None:
    session_id = await waiting(served.gateway.backends, "delete the old logs?")
    first = await question_of(served, session_id)
    assert (await answer(served, session_id, question=int(first), **APPROVED)).status_code == 200
    await ask_next(served, session_id, {"delete": "the database"}, answer_schema={"enum": ["yes", "no"]})
    second = await question_of(served, session_id)
    # The same again, one that was written before there was `question`, and one that would not fit what is asked now.
    for given in ({"question": int(first)} | APPROVED, APPROVED, {"question": first, "answer": "no!"}):
        refused = await answer(served, session_id, **given)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:stellwerk:problem:wrong-question")
        assert refused.json()["open_question"] == {
            "id": second,
            "offset": int(second),
            "question": {"delete": "the database"},
            "answer_schema": {"enum": ["yes", "no"]},
        }
    (given_answer,) = await answers_of(served, session_id)
    assert given_answer["answers"] == int(first)
    view = (await served.client.get(f"/sessions/{session_id}")).json()
    assert (view["status"], view["steps"][0]["question_id"]) == ("waiting", second)
    fits = await answer(served, session_id, question=second, answer="no")
    assert [given["answers"] for given in await answers_of(served, session_id)] == [int(first), int(second)]
    again = await answer(served, session_id, question=second, answer="no")
    assert (fits.status_code, again.json()["type"]) == (200, "urn:stellwerk:problem:not-waiting")
    recorded = (await served.client.get("/operators/events")).json()["events"]
    told = [event["outcome"] for event in recorded if event["action"] == "approval.answer"]
    assert told == ["done", "refused", "refused", "refused", "done", "refused"]


async def test_an_answer_of_a_life_that_was_lost_answers_nothing(served: Served) -> None:
    session_id = await waiting(served.gateway.backends)
    survived = await question_of(served, session_id)
    epoch = await bump_epoch(served.gateway.engine, "restored")
    (listed,) = (await served.client.get("/approvals")).json()["approvals"]
    assert (listed["id"], listed["offset"]) == (f"{epoch}.{survived}", int(survived))
    assert (await answer(served, session_id, question=survived, **APPROVED)).status_code == 200  # it is the same one
    await ask_next(served, session_id, "and now?")
    asked = await question_of(served, session_id)
    offset = int(asked.removeprefix(f"{epoch}."))
    # Clients of the first life, and of another copy of the database, saw another question at this offset.
    for elsewhere in (offset, f"{epoch + 1}.{offset}"):
        refused = await answer(served, session_id, question=elsewhere, **APPROVED)
        assert (refused.status_code, refused.json()["open_question"]["id"]) == (409, asked)
    assert (await answer(served, session_id, question=asked, **APPROVED)).status_code == 200


async def test_the_same_key_gives_the_first_answer_whatever_came_since(served: Served) -> None:
    session_id = await waiting(served.gateway.backends)
    given = {"question": await question_of(served, session_id), "answer": {"go": True}, "comment": "fine"}
    first = await answer(served, session_id, "k", **given)
    for _ in range(2):
        again = await answer(served, session_id, "k", **given)
        assert (again.status_code, again.json()) == (200, first.json())
    await ask_next(served, session_id, "more?")
    assert (await answer(served, session_id, "k", **given)).json() == first.json()
    for other in ({"comment": "no"}, {"answer": {"go": False}}, {"question": "1"}, {"reason": "because"}):
        refused = await answer(served, session_id, "k", **given | other)
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:stellwerk:problem:idempotency-mismatch")
    await served.client.post(f"/sessions/{session_id}/cancel")
    async with another(served) as elsewhere:
        again = await answer(elsewhere, session_id, "k", **given)
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(await answers_of(served, session_id)) == 1


async def test_of_many_at_once_with_one_key_one_answers(served: Served) -> None:
    session_id = await waiting(served.gateway.backends)
    given = {"question": await question_of(served, session_id)} | APPROVED
    async with another(served) as elsewhere:
        both = (served, elsewhere)
        found = await asyncio.gather(*(answer(both[number % 2], session_id, "k", **given) for number in range(8)))
    assert {(one.status_code, one.text) for one in found} == {(200, found[0].text)}
    assert len(await answers_of(served, session_id)) == 1


async def test_a_try_that_failed_before_its_commit_leaves_its_key_free(served: Served) -> None:
    session_id = await waiting(served.gateway.backends)
    given = {"question": await question_of(served, session_id)} | APPROVED
    waits = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with transaction(served.gateway.engine) as holder:
        await lock_streams(holder, session_id)
        trying = asyncio.create_task(answer(served, session_id, "k", **given))
        while not (pid := await holder.scalar(text(waits))):
            assert not trying.done()
        await holder.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        assert (await trying).status_code == 503
    assert not await answers_of(served, session_id)
    assert (await answer(served, session_id, "k", **given)).status_code == 200


@pytest.mark.parametrize("verb", ["retry", "cancel"])
async def test_a_doubled_request_is_done_once(served: Served, verb: str) -> None:
    """The second `retry` comes when the session has failed once more."""
    backends = served.gateway.backends
    session_id = await ended(backends, "failed") if verb == "retry" else await waiting(backends)

    async def send(key: str, **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await served.client.post(f"/sessions/{session_id}/{verb}", json=body, headers=headers)

    assert (await send("k", reason="room again")).status_code == 200
    if verb == "retry":
        claim = await attempts.claim_step(
            *(backends, session_id, 1, 2), agent="architect", lease=uuid4(), worker="w", served=SERVED, alone=False
        )
        assert claim is not None
        await attempts.fail_step(backends, claim, "still no room", retryable=False)
    head = (await served.client.get(f"/sessions/{session_id}")).json()["head"]
    again = await send("k", reason="room again")
    assert (again.status_code, again.json()["status"]) == (200, "failed" if verb == "retry" else "cancelled")
    assert again.json()["head"] == head
    refused = await send("k", reason="another")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:stellwerk:problem:idempotency-mismatch")
    assert (await send("other")).status_code == 200
    events = (await served.client.get("/operators/events")).json()["events"]
    told = [event["outcome"] for event in events if event["action"] == f"session.{verb}"]
    assert told == ["done", "unchanged", "done" if verb == "retry" else "unchanged"]
