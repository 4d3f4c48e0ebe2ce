"""supervisor: decides who works next, by rules over what is known so far."""

import re
from dataclasses import dataclass
from typing import Literal

from langgraph.types import Command

from app.progress import report_progress
from workers.agents.state import RepairState
from workers.agents.summary import summarise

Agent = Literal["research", "architect", "codesmith", "reviewfix"]

WITHIN = re.compile(r"\b(review|repair|fix|lint|format|clean|tidy|check|improve)", re.IGNORECASE)
BEYOND = re.compile(
    r"\b(write|add|implement|create|build|design|refactor|rewrite|migrate|translate|document|explain|"
    r"port|replace|remove|rename|upgrade|optimi[sz]e)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whom to run next (nobody: the work is done), why, and how sure that is."""

    agents: tuple[Agent, ...]
    reasoning: str
    confidence: float


def decide(state: RepairState) -> Decision:
    if "survey" not in state or "findings" not in state:
        return Decision(("research", "architect"), _first_reasoning(state), 1.0 if _limit(state) is None else 0.6)
    if not state["survey"]["python_files"] and not state["plan"]:
        return Decision((), "the project holds no Python, so there is nothing to repair", 1.0)
    repairs = [item for item in state["plan"] if item["action"] != "person"]
    if not repairs:
        return Decision((), "nothing in the plan can be repaired safely without a person or a model", 0.9)
    if "changed" not in state:
        total = sum(item["count"] for item in repairs)
        return Decision(("codesmith",), f"the plan is complete: {total} safe repair(s)", 0.9)
    if not state["changed"] and not state.get("reviewed"):
        return Decision((), "the repairs changed nothing", 0.8)
    if not state.get("reviewed"):
        return Decision(("reviewfix",), f"{len(state['changed'])} changed file(s) have not been reviewed", 0.95)
    return Decision((), "the changes were reviewed and what made things worse was taken back", 0.95)


async def supervisor(state: RepairState) -> Command[Agent | Literal["__end__"]]:
    await report_progress(0.2, "🤔 Weighing what is known", phase="think", details={"known": sorted(state)})
    decision = decide(state)
    for agent in decision.agents or ("end",):
        await report_progress(
            1.0,
            f"🎯 Routing to {agent}",
            phase="decision",
            details={
                "next_agent": agent,
                "reasoning": decision.reasoning,
                "confidence": decision.confidence,
            },
        )
    if decision.agents:
        limit = _limit(state) if "survey" not in state else None
        return Command(goto=list(decision.agents), update={"remarks": [limit]} if limit else None)
    return Command(goto="__end__", update=_result(state))


def _first_reasoning(state: RepairState) -> str:
    reasoning = "nothing is known about the project yet; a survey and a check do not need each other"
    return f"{reasoning}. {limit}" if (limit := _limit(state)) else reasoning


def _limit(state: RepairState) -> str | None:
    """What the task asks for and rules cannot do."""
    task = state.get("task", "")
    if not task or (WITHIN.search(task) and not BEYOND.search(task)):
        return None
    return (
        f"Without a model this workflow reviews a project and repairs what ruff can repair safely; "
        f"what else the task asks for was not done: {task!r}"
    )


def _result(state: RepairState) -> RepairState:
    return {
        "summary": summarise(state),
        "findings_after": state.get("findings_after", state["findings_before"]),
        "tests_after": state.get("tests_after", state["tests_before"]),
    }
