"""Calls of models and tools in the log: once, whatever their size, and only whole answers are given again."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.database import transaction
from app.events import artifacts, read
from app.progress import ModelCall, ToolCall
from app.sessions import attempts, model_calls, tool_calls
from app.sessions.attempts import Claim
from app.sessions.model import NewStep
from app.unit_of_work import Backends
from tests.populating import SERVED, advance, created
from tests.serving import serving


@pytest.fixture
async def backends(database_url: str, redis_url: str) -> AsyncIterator[Backends]:
    async with serving(database_url, redis_url) as served:
        yield served.gateway.backends


@pytest.fixture
async def claim(backends: Backends) -> Claim:
    session_id = await created(backends)
    step = NewStep("node:writer", "writer", "default", None, 3, timedelta(hours=1))
    await advance(backends, session_id, steps=[step])
    told: dict[str, Any] = {"agent": "writer", "lease": uuid4(), "worker": "w", "served": SERVED, "alone": False}
    claimed = await attempts.claim_step(backends, session_id, 1, 1, **told)
    assert claimed is not None
    return claimed


async def of_kind(backends: Backends, claim: Claim, kind: str) -> list[dict[str, Any]]:
    async with transaction(backends.engine) as db:
        state = await read.stream_state(db, claim.step.session_id)
        events = [read.parse(event) for event in await read.read_page(db, state, after=0, limit=1000)]
    return [event for event in events if event["t"] == kind]


async def test_a_call_of_a_tool_is_recorded_once_and_its_large_answer_beside_it(
    backends: Backends, claim: Claim
) -> None:
    call = ToolCall("writer", "search", {"query": "birds"}, "x" * 300_000, 12.5, None, "call-1")
    first = await tool_calls.record_call(backends, claim, call, key="once")
    assert await tool_calls.record_call(backends, claim, call, key="once") == first
    (event,) = await of_kind(backends, claim, "tool_event")
    assert (event["name"], event["arguments"], event["call_id"]) == ("search", {"query": "birds"}, "call-1")
    assert (event["agent"], event["step"], event["attempt"], event["error"]) == ("writer", 1, 1, None)
    async with transaction(backends.engine) as db:
        assert await artifacts.fetch(db, claim.step.session_id, event["answer"]) == call.answer
    assert artifacts.named_by(event) == [event["answer"]["$artifact"]]


async def test_an_answer_of_which_the_digest_is_left_is_not_given_again(backends: Backends, claim: Claim) -> None:
    async def record(response: Any) -> int:
        call = ModelCall("writer", "openai", "gpt", {}, response, {}, None, 1.0, None, {"request_digest": "asked"})
        return await model_calls.record_call(backends, claim, call, key=str(uuid4()))

    async def found() -> Any:
        answer = await model_calls.find_answer(backends, claim.step.session_id, "asked", step=None)
        return None if answer is None else (answer.offset, answer.response)

    await record({"sha256": "0" * 64, "bytes": 3})
    assert await found() is None
    whole = await record("so be it")
    await record({"sha256": "0" * 64, "bytes": 3})
    assert await found() == (whole, "so be it")
