"""What LangChain's models and tools do in a real worker is in the log, and none of it is said by the nodes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.database import transaction
from tests.answering import answer
from tests.cluster import Cluster, cluster_on
from tests.graphs.talking import CANARY, LARGE

TALKING = "tests.graphs.talking"


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        yield running


async def run(cluster: Cluster, workflow: str, **graph_input: Any) -> list[dict[str, Any]]:
    session_id = await cluster.create(workflow, **graph_input)
    await cluster.ended(session_id)
    return await cluster.events(session_id)


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["t"] == f"{kind}_event"]


def thoughts(events: list[dict[str, Any]]) -> str:
    return "".join(e["msg"].removeprefix("💭 ") for e in of(events, "agent") if e["phase"] == "think")


async def test_an_agent_with_parallel_tools(cluster: Cluster) -> None:
    cluster.start_worker(TALKING)
    events = await run(cluster, "talking", messages=[{"role": "user", "content": "how is it in Berlin?"}])
    first, second = of(events, "model")
    assert first["request"]["messages"][-1] == {"type": "human", "content": "how is it in Berlin?"} | {
        "id": first["request"]["messages"][-1]["id"]
    }
    assert [call["name"] for call in first["response"]["tool_calls"]] == ["weather", "history"]
    assert second["usage"] == {"input_tokens": 200, "output_tokens": 20} and second["cost"] > 0
    assert second["request"].keys() == {"$artifact", "size"}, "it holds what the tool found"
    tools = {event["name"]: event for event in of(events, "tool")}
    assert tools["weather"]["answer"] == "rain in Berlin, and the key is [redacted]"
    assert tools["weather"]["arguments"] == {"city": "Berlin"} and tools["weather"]["call_id"] == "call-0"
    assert tools["history"]["answer"].keys() == {"$artifact", "size"} and tools["history"]["answer"]["size"] > LARGE
    assert thoughts(events) == "Let me see.It rains, and [redacted] is no secret."
    ended = next(n for n, event in enumerate(events) if event["t"] == "step_event" and event["status"] == "succeeded")
    assert not [event for event in events[ended:] if event["t"] in ("model_event", "tool_event", "agent_event")]
    shown = [e for kind in ("model", "tool", "agent") for e in of(events, kind)]
    assert CANARY not in str(shown)
    async with transaction(cluster.backends.engine) as db:
        assert CANARY not in str(list(await db.scalars(text("SELECT convert_from(content, 'UTF8') FROM artifacts"))))


async def test_a_tool_that_asks_is_recorded_once_and_a_call_that_is_made_again_again(cluster: Cluster) -> None:
    cluster.start_worker(TALKING)
    session_id = await cluster.create("signs")
    await cluster.until(session_id, lambda view: view.status == "waiting")
    assert not of(await cluster.events(session_id), "tool")
    await answer(cluster.backends, session_id, 1, verdict="approved", answer="me")
    view = await cluster.ended(session_id)
    assert view.result == {"said": "before, signed by me"}
    events = await cluster.events(session_id)
    assert [event["answer"] for event in of(events, "tool")] == ["signed by me"]
    assert [event["response"]["content"] for event in of(events, "model")] == ["before", "before"]


async def test_threads_errors_and_what_was_left(cluster: Cluster) -> None:
    cluster.start_worker(TALKING)
    (call,) = of(await run(cluster, "in_a_thread"), "model")
    assert call["response"]["content"] == "from a thread"
    events = await run(cluster, "fails")
    (failed,) = of(events, "model")
    assert failed["error"] == "ValueError: [redacted] is wrong" and failed["response"] is None
    assert "[redacted] is wrong" in of(events, "session")[-1]["reason"]
    assert CANARY not in str(events), "the error goes on to the step and its session"
    (mine,) = of(await run(cluster, "records_itself"), "model")
    assert mine["agent"] == "me"
    events = await run(cluster, "leaves")
    assert of(events, "session")[-1]["status"] == "succeeded"
    (left,) = of(events, "model")
    assert left["response"] is None and left["error"].startswith("cancelled, or not at its end")


async def test_digests_are_all_that_is_left_of_calls_that_are_private(cluster: Cluster) -> None:
    cluster.start_worker(TALKING, STELLWERK_RECORD_MODELS="digest")
    events = await run(cluster, "talking", messages=[{"role": "user", "content": "a private question"}])
    assert not thoughts(events)
    for event in of(events, "model"):
        assert event["request"].keys() == event["response"].keys() == {"sha256", "bytes"} and event["usage"]
    for event in of(events, "tool"):
        assert event["arguments"].keys() == event["answer"].keys() == {"sha256", "bytes"}
    assert "private" not in str([*of(events, "model"), *of(events, "tool")])


async def test_nothing_is_recorded_where_it_is_switched_off(cluster: Cluster) -> None:
    cluster.start_worker(TALKING, STELLWERK_RECORD_MODELS="off")
    events = await run(cluster, "talking", messages=[{"role": "user", "content": "?"}])
    assert of(events, "session")[-1]["status"] == "succeeded"
    assert not of(events, "model") and not of(events, "tool") and not thoughts(events)
