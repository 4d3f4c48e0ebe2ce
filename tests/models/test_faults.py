"""Providers and workers in bad times: sessions that meet every fault and succeed, and what the log tells of it."""

import asyncio
import re
from typing import Any

import pytest

from app.progress import SessionId
from tests.models.house import House
from tests.models.scripts import TASK, decisions, found, plan, writing
from tests.models.servers import Reply

IMPATIENT = {
    "STELLWERK_MODEL_TIME_LIMIT": "2",
    "STELLWERK_CLAUDE_SILENCE": "12",
    "STELLWERK_CLAUDE_MAX_RETRIES": "0",
    "STELLWERK_MAX_ATTEMPTS": "5",
}
AGENTS = {"supervisor": 1, "research": 2, "architect": 4, "codesmith": 6}
"""With the steps that they run in when the supervisor sends them one after the other."""

pytestmark = [pytest.mark.usefixtures("claude_cli"), pytest.mark.timeout(300)]


def faults() -> list[Reply]:
    return [
        Reply("too many", status=429, headers={"retry-after": "1"}),
        Reply("cut", fault="malformed"),
        Reply("cut", fault="truncated"),
        Reply("late", hold=True),
    ]


def statuses(events: list[dict[str, Any]], agent: str) -> list[str]:
    return [e["status"] for e in events if e["t"] == "step_event" and e["step"] == AGENTS[agent]]


def errors(events: list[dict[str, Any]], agent: str) -> list[str | None]:
    calls = [e for e in events if e["t"] == "model_event" and e["step"] == AGENTS[agent]]
    assert {e["agent"] for e in calls} == {agent}
    return [e["error"] for e in calls]


async def until_reported(house: House, session_id: SessionId, words: str) -> None:
    async with asyncio.timeout(30):
        while not any(words in e.get("msg", "") for e in await house.cluster.events(session_id)):
            await asyncio.sleep(0.05)


async def kill_the_worker_of(house: House, session_id: SessionId, step: int) -> None:
    view = await house.cluster.until(session_id, lambda view: view.steps[step - 1].status == "running")
    (victim,) = [w for w in house.cluster.workers if str(view.steps[step - 1].worker).endswith(f":{w.pid}")]
    victim.kill()
    victim.wait()


async def succeeded(house: House, session_id: SessionId) -> list[dict[str, Any]]:
    view = await house.cluster.ended(session_id)
    assert view.status == "succeeded", view.reason
    return await house.cluster.events(session_id)


async def test_faults_that_pass(house: House) -> None:
    routes = decisions("research", "architect", "codesmith", "end")
    house.models.says("chat", *faults(), *routes)
    house.models.says("perplexity", *faults(), found())
    house.models.says("responses", *faults(), plan())
    too_many, malformed, _, late = faults()
    # The CLI asks once more without a stream when a stream breaks off.
    house.models.says("messages", too_many, malformed, malformed, late, *writing())
    house.start_worker(**IMPATIENT)
    session_id = await house.submit(TASK)
    events = await succeeded(house, session_id)

    expected = {
        "supervisor": ["NotNow: openai answered 429", "no whole answer", "peer closed", "longer than 0:00:02"],
        "research": ["NotNow: perplexity answered 429", "no whole answer", "peer closed", "longer than 0:00:02"],
        "architect": ["NotNow: openai answered 429", "no whole answer", "broke off", "longer than 0:00:02"],
        "codesmith": ["status 429", "malformed response", "silent for 0:00:12"],
    }
    for agent, wanted in expected.items():
        *failed, last = errors(events, agent)
        assert last is None and len(failed) == len(wanted), (agent, failed)
        assert all(re.search(part, error or "") for part, error in zip(wanted, failed, strict=True)), failed
        assert statuses(events, agent) == ["queued", "running", "failed"] * len(wanted) + [
            "queued", "running", "succeeded",
        ]  # fmt: skip
    # Advice to wait counts for nothing; the CLI passes no advice on, so its 429 counts.
    steps = (await house.cluster.ended(session_id)).steps
    assert {agent: steps[number - 1].failures for agent, number in AGENTS.items()} == dict.fromkeys(AGENTS, 3)


async def test_workers_killed_during_each_kind_of_call(house: House) -> None:
    house.models.says("chat", *decisions("research", "architect", "codesmith", "end"))
    house.models.says("perplexity", Reply("never seen", hold=True), found())
    house.models.says("responses", plan(hold=True))
    first, *rest = writing()
    house.models.says("messages", Reply("never seen", tools=first.tools, hold=True), first, *rest)
    environment = {"STELLWERK_OPENAI_BACKGROUND": "true", "STELLWERK_LEASE": "2", "STELLWERK_HEARTBEAT_STEPS": "0.5"}
    house.start_worker(**environment)
    house.start_worker(**environment)
    session_id = await house.submit(TASK)
    killed = ("research", "architect", "codesmith")
    for agent in killed:
        assert await asyncio.to_thread(house.models.reached.wait, 60), agent
        house.models.reached.clear()
        if agent == "architect":
            await until_reported(house, session_id, "goes on at the provider")
        await kill_the_worker_of(house, session_id, AGENTS[agent])
        house.models.release()
        if agent != killed[-1]:
            house.start_worker(**environment)
    events = await succeeded(house, session_id)

    for agent in killed:
        assert statuses(events, agent) == ["queued", "running", "lost", "queued", "running", "succeeded"]
        assert errors(events, agent) == [None]  # what a killed worker was told reached nobody
    # An answer is lost with its connection and asked for again; a response in the background goes on, and is taken up.
    asked = {endpoint: len(requests) for endpoint, requests in house.models.requests.items()}
    assert asked == {"chat": 4, "perplexity": 2, "responses": 1, "messages": 5}
    taken_up = [e["msg"] for e in events if e["t"] == "agent_event" and "🔁 Taking up the response" in e["msg"]]
    assert len(taken_up) == 1
