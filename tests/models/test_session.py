"""A whole session with models: they plan, write, find a bug, repair it, and the log tells all of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.house import House
from tests.models.scripts import MODULE, PLAN, REPAIRED, SEARCH, TASK, TESTS, whole_session

pytestmark = pytest.mark.usefixtures("claude_cli")


def reports(events: list[dict[str, Any]], agent: str, phase: str) -> list[dict[str, Any]]:
    return [e for e in events if e["t"] == "agent_event" and (e["agent"], e["phase"]) == (agent, phase)]


def calls(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["agent"], e["provider"]) for e in events if e["t"] == "model_event"]


async def test_from_a_task_to_a_patch_whose_tests_pass(house: House, tmp_path: Path) -> None:
    whole_session(house.models)
    house.start_worker()
    session_id = await house.submit(TASK)
    view = await house.cluster.ended(session_id)
    assert view.status == "succeeded", view.reason
    events = await house.cluster.events(session_id)

    # the patch applies, and its tests pass
    patch = (await house.served.client.get(f"/sessions/{session_id}/patch")).content
    empty = tmp_path / "empty"
    empty.mkdir()
    subprocess.run(["git", "apply", "-"], input=patch, cwd=empty, check=True)
    assert (empty / "receipts.py").read_text() == REPAIRED != MODULE
    assert (empty / "test_receipts.py").read_text() == TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(empty)]
    assert "2 passed" in subprocess.run(command, cwd=empty, capture_output=True, text=True, check=True).stdout
    assert sorted(view.result["files"]) == ["receipts.py", "test_receipts.py"]
    assert view.result["tests_after"] == {"passed": 2, "failed": 0, "errors": 0}

    # who decided what, why, and on which call
    routed = reports(events, "supervisor", "decision")
    assert [d["details"]["next_agent"] for d in routed] == ["research", "architect", "codesmith", "reviewfix", "end"]
    for decision in routed:
        call = events[decision["details"]["model_call"] - 1]
        assert (call["t"], call["agent"], call["provider"]) == ("model_event", "supervisor", "openai")
        assert decision["details"]["reasoning"] in call["response"]["choices"][0]["message"]["content"]
    own = reports(events, "codesmith", "decision")[0]
    assert own["details"] == {"decision": "cents as integers", "reasoning": "floats would round", "confidence": 0.95}

    # every call is there, with what it cost
    assert calls(events) == [
        ("supervisor", "openai"), ("research", "perplexity"), ("supervisor", "openai"), ("architect", "openai"),
        ("supervisor", "openai"), ("codesmith", "claude"), ("supervisor", "openai"), ("reviewfix", "claude"),
        ("supervisor", "openai"),
    ]  # fmt: skip
    for event in (e for e in events if e["t"] == "model_event"):
        assert event["error"] is None and event["cost"] > 0 and event["duration_ms"] > 0
        assert event["usage"]["input_tokens"] >= 1000 and event["request"] and event["response"]
        assert len(event["trace"]["request_digest"]) == 64

    # what was looked up, planned and thought
    (looked_up,) = reports(events, "research", "result")
    assert looked_up["details"]["citations"] == SEARCH["citations"]
    assert looked_up["details"]["search_results"] == SEARCH["search_results"]
    (planned,) = reports(events, "architect", "result")
    assert planned["details"]["design"] == PLAN
    thoughts = [e for e in reports(events, "architect", "think") if e["details"].get("kind")]
    assert {e["details"]["kind"] for e in thoughts} == {"reasoning", "text"} and len(thoughts) < 8

    shares = [e["pct"] for e in reports(events, "codesmith", "progress")]
    assert shares == sorted(shares)

    # the review saw the bug by the tests, and the bridge reported from inside of the CLI
    (reviewed,) = reports(events, "reviewfix", "result")
    assert reviewed["details"]["tests_before"]["counts"] == {"passed": 1, "failed": 1, "errors": 0}
    assert "found the bug" in [e["msg"] for e in reports(events, "reviewfix", "progress")]
    assert [e["details"]["tool"] for e in reports(events, "reviewfix", "progress") if "tool" in e["details"]] == [
        "Read", "Edit"
    ]  # fmt: skip

    check_the_seeds_examples(events)

    # no key is seen anywhere
    whole = repr(events)
    assert not [key for key in house.models.settings().values() if "test" in key and key in whole]
    assert "sk-ant-test-0123456789abcdef" in house.models.keys


def check_the_seeds_examples(events: list[dict[str, Any]]) -> None:
    """Field by field, in the order in which they are written."""
    decision = reports(events, "supervisor", "decision")[2]
    assert list(decision) == ["t", "agent", "phase", "msg", "progress", "total", "pct", "details", "step", "attempt"]
    assert decision | {"details": {}} == {
        "t": "agent_event", "agent": "supervisor", "phase": "decision", "msg": "🎯 Routing to codesmith",
        "progress": 1.0, "total": 1.0, "pct": 1.0, "details": {}, "step": 5, "attempt": 1,
    }  # fmt: skip
    assert list(decision["details"])[:3] == ["next_agent", "reasoning", "confidence"]
    details = decision["details"]
    assert (details["next_agent"], details["reasoning"], details["confidence"]) == (
        "codesmith", "codesmith is next", 0.9,
    )  # fmt: skip
    started = reports(events, "codesmith", "progress")[0]
    assert started == {
        "t": "agent_event", "agent": "codesmith", "phase": "progress",
        "msg": "📡 Calling Claude CLI for code generation",
        "progress": 0.3, "total": 1.0, "pct": 0.3, "details": {}, "step": 6, "attempt": 1,
    }  # fmt: skip
    (result,) = reports(events, "codesmith", "result")
    assert result | {"details": {}} == {
        "t": "agent_event", "agent": "codesmith", "phase": "result", "msg": "✅ Generated 2 files",
        "progress": 1.0, "total": 1.0, "pct": 1.0, "details": {}, "step": 6, "attempt": 1,
    }  # fmt: skip
    assert result["details"]["files"] == ["receipts.py", "test_receipts.py"]
    assert result["details"]["turns"] == 4 and result["details"]["cost"] > 0 and result["details"]["denied"] == []
