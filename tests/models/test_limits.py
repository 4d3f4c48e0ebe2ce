"""Limits on calls of models: the budget of a session, and what all workers together ask of a provider."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from app.config import Settings
from app.errors import ModelFaltered, NotNow
from app.principals.model import OWNER
from app.sessions import approvals
from tests.answering import answer
from tests.models.house import House
from tests.models.scripts import TASK, decisions, found
from tests.models.servers import Reply
from workers.models.budget import Budget, session_budget
from workers.models.gate import Spending
from workers.models.limits import ModelLimits


@asynccontextmanager
async def limits(redis_url: str, **changes: Any) -> AsyncIterator[ModelLimits]:
    opened = ModelLimits(redis_url, Settings(**changes))
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_session_at_its_budget_waits_for_a_person(house: House) -> None:
    house.models.says("chat", *decisions("research", "research", "end"))
    house.models.says("perplexity", found())
    house.start_worker(STELLWERK_SESSION_BUDGET_TOKENS="2000", STELLWERK_CODESMITH="rules", STELLWERK_REVIEWFIX="rules")
    session_id = await house.submit("review this", path=str(house.cluster.directory))
    # 1,100 tokens for each call: the first two are within the budget, the third asks
    view = await house.cluster.until(session_id, lambda view: view.status == "waiting")
    (asked,) = await approvals.list_approvals(house.cluster.backends, session_id=session_id, principal=OWNER)
    assert (asked.step, asked.agent) == (3, "supervisor")
    assert asked.question["question"] == "raise the budget?"
    assert asked.question["spent"]["tokens"] == 2200 and asked.question["budget"]["tokens"] == 2000
    given: dict[str, Any] = {"verdict": "approved", "answer": {"tokens": 1000}, "comment": "go on"}
    await answer(house.cluster.backends, session_id, 3, **given)
    # 3,000 now; after the third call there are 3,300, and the same research is in the log already
    view = await house.cluster.until(session_id, lambda view: view.status == "waiting" and view.steps[-1].step == 5)
    await answer(house.cluster.backends, session_id, 5, verdict="rejected")
    view = await house.cluster.ended(session_id)
    assert view.status == "failed" and "BudgetExhausted" in (view.reason or "")
    events = await house.cluster.events(session_id)
    assert [e["agent"] for e in events if e["t"] == "model_event"] == ["supervisor", "research", "supervisor"]
    assert any("The answer is in the log already" in e.get("msg", "") for e in events)


def test_what_an_answer_adds() -> None:
    first = Budget(2.0, 100)
    assert first.raised("approved", first) == Budget(4.0, 200)
    assert first.raised(5, first) == Budget(7.0, 200)
    assert first.raised({"usd": 1}, first) == Budget(3.0, 200)
    assert Budget(None, 100).raised(5, Budget(None, 100)) == Budget(None, 200)
    settings = Settings(session_budget_usd=2.0)
    assert session_budget(settings, [1, "approved"]) == Budget(5.0, None)
    assert Budget(2.0, None).is_reached(Spending(2.0, 0)) and not Budget(2.0, None).is_reached(Spending(1.9, 10**9))


async def test_the_circuit_opens_for_all_workers_and_lets_one_call_try(redis_url: str) -> None:
    rules = {"circuit_failures": 2, "circuit_window": timedelta(seconds=2)}
    async with limits(redis_url, **rules) as here, limits(redis_url, **rules) as there:
        for one in (here, there):
            with pytest.raises(ModelFaltered):
                async with one.admit("openai"):
                    raise ModelFaltered
        with pytest.raises(NotNow, match="its last 2 calls failed") as open_circuit:
            async with here.admit("openai"):
                raise AssertionError("nobody gets here")
        assert timedelta(seconds=0.9) < open_circuit.value.delay <= timedelta(seconds=2.1)
        async with there.admit("perplexity"):
            pass
        async with asyncio.timeout(10):
            while not await tried(here):
                await asyncio.sleep(0.1)
        async with here.admit("openai"):  # a success closes it
            pass


async def tried(one: ModelLimits) -> bool:
    try:
        async with one.admit("openai"):
            return True
    except NotNow:
        return False


async def test_advice_to_wait_is_no_failure_of_the_provider(redis_url: str) -> None:
    async with limits(redis_url, circuit_failures=1) as one:
        for _ in range(3):
            with pytest.raises(NotNow, match="later"):
                async with one.admit("openai"):
                    raise NotNow("later", delay=timedelta(seconds=1))


async def test_places_hold_across_workers_and_are_left_by_errors(redis_url: str) -> None:
    async with limits(redis_url, model_concurrency=2) as here, limits(redis_url, model_concurrency=2) as there:
        inside = most = 0

        async def call(one: ModelLimits, number: int) -> None:
            nonlocal inside, most
            async with one.admit("openai"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.05)
                inside -= 1
                if number % 2:
                    raise LookupError

        calls = [call(one, number) for number in range(3) for one in (here, there)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert (inside, most) == (0, 2)


async def test_a_rate_holds_across_workers(redis_url: str) -> None:
    async with limits(redis_url, model_rate="2/second") as here, limits(redis_url, model_rate="2/second") as there:
        started = asyncio.get_running_loop().time()
        for one in (here, there, here, there, here):
            async with one.admit("openai"):
                pass
        assert asyncio.get_running_loop().time() - started >= 1.9


async def test_a_rate_that_is_far_off_makes_the_step_wait(redis_url: str) -> None:
    async with limits(redis_url, model_rate="1/hour") as one:
        async with one.admit("openai"):
            pass
        with pytest.raises(NotNow) as wait:
            async with one.admit("openai"):
                raise AssertionError("nobody gets here")
        assert wait.value.delay > timedelta(minutes=59)


async def test_without_redis_calls_go_on() -> None:
    async with limits("redis://127.0.0.1:1/0") as one, one.admit("openai"):
        pass


async def test_a_provider_that_is_down_costs_no_attempts(house: House) -> None:
    research, end = decisions("research", "end")
    end.extra = {"echo": house.models.settings()["OPENAI_API_KEY"], "padding": "x" * 300_000}
    house.models.says("chat", *(Reply("down", status=500) for _ in range(2)), research, end)
    house.models.says("perplexity", found())
    house.start_worker(
        STELLWERK_CIRCUIT_FAILURES="2",
        STELLWERK_CIRCUIT_WINDOW="2",
        STELLWERK_MAX_ATTEMPTS="3",
        STELLWERK_CLAUDE_COMMAND="true",  # for the supervisor it is enough that there is one
    )
    session_id = await house.submit(TASK)
    view = await house.cluster.ended(session_id)
    assert view.status == "succeeded" and view.steps[0].failures == 2
    events = await house.cluster.events(session_id)
    waited = [e["error"] for e in events if e["t"] == "step_event" and "NotNow" in e.get("error", "")]
    assert waited and all("openai is down" in error for error in waited)
    assert len(house.models.requests["chat"]) == 4

    # the answer is too large for an event, and it says a key
    *_, call = [event for event in events if event["t"] == "model_event"]
    assert call["response"].keys() == {"$artifact", "size"}
    kept = await house.served.client.get(f"/sessions/{session_id}/artifacts/{call['response']['$artifact']}")
    assert kept.json() | {"padding": ""} == kept.json() | {"padding": "", "echo": "[redacted]"}
    assert len(kept.json()["padding"]) == 300_000
