"""architect with a model: a typed plan, thought out where every reader can follow it."""

from collections.abc import Sequence

import orjson
from pydantic import BaseModel

from app.progress import report_progress
from workers.agents.state import Design, DesignStep, PlanItem, RepairState, SuiteResult
from workers.models.responses import respond

ROLE = """\
You are the architect of changes to a Python project. Plan the task in few steps, each with a title, the files that it
concerns and instructions that somebody who sees only the project and your plan can follow. Plan tests for what is new.
"""
MAX_FACTS = 20_000


class PlannedStep(BaseModel, extra="forbid"):
    title: str
    files: list[str]
    instructions: str


class Plan(BaseModel, extra="forbid"):
    summary: str
    steps: list[PlannedStep]


async def design(state: RepairState, plan: Sequence[PlanItem], tests: SuiteResult) -> Design | None:
    """None when the model made nothing usable, twice; then what the tools found is the plan."""
    await report_progress(0.55, "📡 Asking the model for a plan")
    question = _question(state, plan, tests)
    answer = await respond(Plan, instructions=ROLE, question=question)
    if answer.parsed is None:
        await report_progress(0.6, f"❓ The plan cannot be used: {answer.problem}", phase="think")
        again = f"{question}\n\nYour last answer could not be used: {answer.problem}"
        answer = await respond(Plan, instructions=ROLE, question=again)
    if answer.parsed is None:
        return None
    steps = [DesignStep(title=s.title, files=s.files, instructions=s.instructions) for s in answer.parsed.steps]
    return Design(summary=answer.parsed.summary, steps=steps)


def _question(state: RepairState, plan: Sequence[PlanItem], tests: SuiteResult) -> str:
    facts = {
        "task": state.get("task", ""),
        "instructions": state.get("instructions", ""),
        "notes": state.get("notes"),
        "survey": state.get("survey"),
        "found_by_ruff": list(plan),
        "tests": tests,
        "review": state.get("review"),
    }
    known = {name: fact for name, fact in facts.items() if fact}
    return f"What is known:\n{orjson.dumps(known, option=orjson.OPT_INDENT_2).decode()[:MAX_FACTS]}"
