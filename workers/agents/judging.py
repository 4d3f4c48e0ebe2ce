"""supervisor with a model: a typed decision, asked for once more when it cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, create_model

from app.progress import report_progress
from workers.agents.rules import Agent, Decision
from workers.agents.state import RepairState
from workers.models.chat import Answer, Message, ask

ROLE = """\
You are the supervisor of four agents who work on a Python project in a workspace of its own:
- research surveys the project and looks up what the task needs;
- architect checks the project, runs its tests and makes a plan;
- codesmith changes the project as planned;
- reviewfix reviews and tests what was changed, and repairs it.
Decide who works next, or "end" when the task is done or cannot be done. Say why in one or two sentences, how sure
you are (0 to 1), and what the agent is to do.
"""
TOLD = (
    "task", "notes", "survey", "findings_before", "tests_before", "plan", "design", "written", "changed", "reviewed",
    "review", "findings_after", "tests_after", "taken_back", "remarks", "decisions",
)  # fmt: skip
MAX_TOLD = 4000
"""Characters of one fact."""


class Judgement(BaseModel):
    """What the model is asked for; `next_agent` is narrowed to the agents that can work now."""

    next_agent: str
    reasoning: str
    confidence: float = Field(ge=0, le=1)
    instructions: str


@dataclass(frozen=True, slots=True)
class Judged:
    decision: Decision
    instructions: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unusable:
    """Two answers that cannot be used; the rules decide."""

    problem: str


async def judge(state: RepairState, *, writer: bool) -> Judged | Unusable:
    possible: tuple[str, ...] = able_to_work(state, writer=writer)
    if state.get("decisions"):  # before an agent has worked there is nothing to end with
        possible = (*possible, "end")
    names: Any = Literal[possible]
    wanted = create_model("Judgement", __base__=Judgement, next_agent=(names, ...))
    messages = [Message("system", ROLE), Message("user", _facts(state))]
    answer = await ask(wanted, messages)
    if answer.parsed is None:
        await report_progress(0.5, f"❓ The decision cannot be used: {answer.problem}", phase="think")
        again = f"This cannot be used: {answer.problem}. Decide again; next_agent is one of {', '.join(possible)}."
        answer = await ask(wanted, [*messages, Message("assistant", answer.text), Message("user", again)])
    if answer.parsed is None:
        return Unusable(f"the model decided nothing usable: {answer.problem}")
    return _judged(answer, answer.parsed)


def able_to_work(state: RepairState, *, writer: bool) -> tuple[Agent, ...]:
    """Says who can work. Without a model codesmith applies what the architect found; reviewfix compares with that."""
    able: list[Agent] = ["research", "architect"]
    if writer or "findings" in state:
        able.append("codesmith")
    if "findings" in state and state.get("changed"):
        able.append("reviewfix")
    return tuple(able)


def _judged(answer: Answer[Any], judgement: Judgement) -> Judged:
    agents: Any = () if judgement.next_agent == "end" else (judgement.next_agent,)
    details = {"instructions": judgement.instructions, "model_call": answer.offset}
    return Judged(Decision(agents, judgement.reasoning, judgement.confidence), judgement.instructions, details)


def _facts(state: RepairState) -> str:
    known: dict[str, Any] = dict(state)
    lines = [f"{name}: {_short(known[name])}" for name in TOLD if name in known]
    return "\n".join(["What is known so far:", *lines, "Who works next?"])


def _short(fact: Any) -> str:
    text = fact if isinstance(fact, str) else orjson.dumps(fact).decode()
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]} … (shortened)"
