"""What is kept of a call: all of it, or only digests. Secrets are taken out at the door of the log."""

import hashlib
from datetime import date
from decimal import Decimal
from typing import Any

import orjson
import pytest

from app.events.encoding import check_json
from app.progress import ModelCall, ToolCall
from workers.steps.call_records import kept_model_call, kept_tool_call

CANARY = "sk-canary-0123456789abcdefghij"


def model_call(request: Any, response: Any, error: str | None = None) -> ModelCall:
    trace = {"request_digest": "d", "response_id": CANARY}
    return ModelCall("writer", "openai", "gpt", request, response, {"input_tokens": 7}, 0.5, 12.5, error, trace)


def tool_call(arguments: Any, answer: Any, error: str | None = None) -> ToolCall:
    return ToolCall("writer", "search", arguments, answer, 12.5, error, "call-1")


def test_in_full_nothing_is_left_out() -> None:
    request = {"messages": [{"content": f"use {CANARY}", CANARY: 1}], "at": date(2026, 12, 1)}
    call = kept_model_call(model_call(request, ("said",), "no"), "full")
    assert call.request == {"messages": [{"content": f"use {CANARY}", CANARY: 1}], "at": "2026-12-01"}
    assert call.response == ["said"] and call.error == "no"
    used = kept_tool_call(tool_call({"key": 1}, "it is", "no"), "full")
    assert (used.arguments, used.answer, used.error) == ({"key": 1}, "it is", "no")


@pytest.mark.parametrize("how", ["digest", "off"])
def test_of_what_an_agent_records_the_digest_is_kept_at_least(how: Any) -> None:
    call = kept_model_call(model_call({"b": 1, "a": CANARY}, None, f"no {CANARY}"), how)
    content = orjson.dumps({"a": CANARY, "b": 1})
    assert call.request == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert call.response is None and call.error == f"no {CANARY}"
    assert (call.usage, call.cost, call.model) == ({"input_tokens": 7}, 0.5, "gpt")
    used = kept_tool_call(tool_call({}, "the answer"), how)
    assert used.answer == {"sha256": hashlib.sha256(b'"the answer"').hexdigest(), "bytes": 12}
    assert used.call_id == "call-1"


def test_whatever_a_tool_gives_back_can_be_recorded() -> None:
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    deep: Any = "deep"
    for _ in range(3000):
        deep = [deep]
    for answer in (
        holds_itself,
        deep,
        float("nan"),
        "a\x00b\ud800",
        10**30,
        Decimal(1),
        object(),
        {1: b"\xff"},
        {1, 2},
    ):
        check_json(kept_tool_call(tool_call({}, answer), "full").answer)
