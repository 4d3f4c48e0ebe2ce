"""What scripted models say in a session that writes a new module, with a bug that the review finds."""

import json
from typing import Any

from tests.models.servers import ModelServer, Reply

TASK = "write a module receipts.py that adds up prices, with tests"

MODULE = '''"""Adds up receipts."""


def total(prices: list[int]) -> int:
    """The sum of the prices, in cents."""
    return sum(prices[1:])
'''
REPAIRED = MODULE.replace("prices[1:]", "prices")
TESTS = """from receipts import total


def test_total() -> None:
    assert total([250, 325]) == 575


def test_an_empty_receipt() -> None:
    assert total([]) == 0
"""
PLAN = {
    "summary": "one function and its tests",
    "steps": [
        {"title": "the module", "files": ["receipts.py"], "instructions": "write total(prices) in cents"},
        {"title": "its tests", "files": ["test_receipts.py"], "instructions": "cover an empty receipt"},
    ],
}
SEARCH = {
    "citations": ["https://docs.python.org/3/library/functions.html#sum"],
    "search_results": [
        {"title": "Built-in functions", "url": "https://docs.python.org/3/library/functions.html", "date": "2026-01-01"}
    ],
}


def judgement(next_agent: str, reasoning: str = "it is next", confidence: float = 0.9, **more: Any) -> Reply:
    said = {"next_agent": next_agent, "reasoning": reasoning, "confidence": confidence, "instructions": "go on"}
    return Reply(json.dumps(said | more))


def decisions(*agents: str) -> list[Reply]:
    return [judgement(agent, f"{agent} is next") for agent in agents]


def plan(**more: Any) -> Reply:
    return Reply(json.dumps(PLAN), reasoning="A receipt is a list of prices. Cents avoid rounding errors.", **more)


def found(**more: Any) -> Reply:
    return Reply("Use integers for money; sum() adds them up.", extra=SEARCH, **more)


def writing() -> list[Reply]:
    decision = {"decision": "cents as integers", "reasoning": "floats would round", "confidence": 0.95}
    return [
        Reply("I will write the module.", tools=[("mcp__stellwerk__record_decision", decision)]),
        Reply(tools=[("Write", {"file_path": "receipts.py", "content": MODULE})]),
        Reply(tools=[("Write", {"file_path": "test_receipts.py", "content": TESTS})]),
        Reply("The module and its tests are written."),
    ]


def reviewing() -> list[Reply]:
    edit = {"file_path": "receipts.py", "old_string": "prices[1:]", "new_string": "prices"}
    progress = {"progress": 0.5, "message": "found the bug"}
    return [
        Reply("A test fails; I will look.", tools=[("Read", {"file_path": "receipts.py"})]),
        Reply("The first price is left out.", tools=[("mcp__stellwerk__report_progress", progress)]),
        Reply(tools=[("Edit", edit)]),
        Reply("total() left out the first price; it adds up all of them now."),
    ]


def whole_session(models: ModelServer) -> None:
    models.says("chat", *decisions("research", "architect", "codesmith", "reviewfix", "end"))
    models.says("perplexity", found())
    models.says("responses", plan())
    models.says("messages", *writing(), *reviewing())
