"""Who works next, by rules over what is known so far. They need no model, and always come to an end."""

import re
from dataclasses import dataclass
from typing import Literal

from workers.agents.state import RepairState

Agent = Literal["research", "architect", "codesmith", "reviewfix"]

WITHIN = re.compile(r"\b(review|repair|fix|lint|format|clean|tidy|check|improve)", re.IGNORECASE)
BEYOND = re.compile(
    r"\b(write|add|implement|create|build|design|refactor|rewrite|migrate|translate|document|explain|"
    r"port|replace|remove|rename|upgrade|optimi[sz]e)",
    re.IGNORECASE,
)

MAX_ROUNDS = 3
"""Of codesmith and reviewfix, while tests fail."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The agent to run next (none: the work is done), why, and how sure that is."""

    agents: tuple[Agent, ...]
    reasoning: str
    confidence: float


def decide(state: RepairState, *, writer: bool = False) -> Decision:
    """`writer`: codesmith works with a model, so that it can do more than apply ruff's fixes."""
    if "survey" not in state or "findings" not in state:
        limit = None if writer else limit_of_rules(state)
        return Decision(("research", "architect"), _first_reasoning(limit), 1.0 if limit is None else 0.6)
    return _decide_with_writer(state) if writer else _decide_by_tools(state)


def _decide_by_tools(state: RepairState) -> Decision:
    if not state["survey"]["python_files"] and not state["plan"]:
        return Decision((), "the project holds no Python, so there is nothing to repair", 1.0)
    repairs = [item for item in state["plan"] if item["action"] != "person"]
    if "changed" not in state and not repairs:
        return Decision((), "nothing in the plan can be repaired safely without a person or a model", 0.9)
    if "changed" not in state:
        total = sum(item["count"] for item in repairs)
        return Decision(("codesmith",), f"the plan is complete: {total} safe repair(s)", 0.9)
    if not state["changed"] and not state.get("reviewed"):
        return Decision((), "the repairs changed nothing", 0.8)
    if not state.get("reviewed"):
        return Decision(("reviewfix",), f"{len(state['changed'])} changed file(s) have not been reviewed", 0.95)
    return Decision((), "the changes were reviewed and what made things worse was taken back", 0.95)


def _decide_with_writer(state: RepairState) -> Decision:
    if "changed" not in state:
        return Decision(("codesmith",), "the plan is complete", 0.9)
    if not state["changed"]:
        return Decision((), "codesmith changed nothing", 0.8)
    if not state.get("reviewed"):
        return Decision(("reviewfix",), f"{len(state['changed'])} changed file(s) have not been reviewed", 0.95)
    tests = state.get("tests_after")
    failing = tests["failed"] + tests["errors"] if tests else 0
    rounds = sum(decision["next_agent"] == "codesmith" for decision in state.get("decisions", []))
    if failing and rounds < MAX_ROUNDS:
        return Decision(("codesmith",), f"{failing} test(s) fail after the review", 0.8)
    return Decision((), "the changes were reviewed", 0.9 if not failing else 0.5)


def beyond_rules(state: RepairState) -> str | None:
    """The task, if it asks for what rules cannot do."""
    task = state.get("task", "")
    return task if task and (not WITHIN.search(task) or BEYOND.search(task)) else None


def limit_of_rules(state: RepairState) -> str | None:
    """What to say of a task that asks for more than rules can do."""
    if (task := beyond_rules(state)) is None:
        return None
    return (
        f"Without a model this workflow reviews a project and repairs what ruff can repair safely; "
        f"what else the task asks for was not done: {task!r}"
    )


def _first_reasoning(limit: str | None) -> str:
    reasoning = "nothing is known about the project yet; a survey and a check do not need each other"
    return f"{reasoning}. {limit}" if limit else reasoning
