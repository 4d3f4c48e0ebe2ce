"""supervisor: decides who works next, with a model or by rules."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from langgraph.types import Command

from app.errors import TaskNeedsModel
from app.progress import report_progress
from workers.agents.judging import Judged, Unusable, judge
from workers.agents.rules import Agent, Decision, beyond_rules, decide, limit_of_rules
from workers.agents.state import RepairState, Routing
from workers.agents.summary import summarise
from workers.models.providers import AGENTS, choose
from workers.reading.files import Walk
from workers.settings import current_settings
from workers.workspace.current import current_worktree


async def supervisor(state: RepairState) -> Command[Agent | Literal["__end__"]]:
    await report_progress(0.2, "🤔 Weighing what is known", phase="think", details={"known": sorted(state)})
    settings = current_settings()
    choices = {agent: choose(agent, settings) for agent in AGENTS}
    writer = choices["codesmith"].provider is not None
    if not state.get("decisions"):
        for choice in choices.values():
            choice.usable()
        if not writer:
            await _refuse_what_rules_cannot_do(state, any(choice.provider for choice in choices.values()))
    if choices["supervisor"].provider is not None and len(state.get("decisions", [])) < settings.max_turns:
        match await judge(state, writer=writer):
            case Judged(decision, instructions, details):
                return await _route(state, decision, details, instructions)
            case Unusable(problem):
                return await _route(state, decide(state, writer=writer), {"fallback": problem})
    return await _route(state, decide(state, writer=writer), {}, limit=None if writer else limit_of_rules(state))


async def _route(
    state: RepairState,
    decision: Decision,
    details: Mapping[str, Any],
    instructions: str = "",
    *,
    limit: str | None = None,
) -> Command[Agent | Literal["__end__"]]:
    for agent in decision.agents or ("end",):
        await report_progress(
            1.0,
            f"🎯 Routing to {agent}",
            phase="decision",
            details={
                "next_agent": agent,
                "reasoning": decision.reasoning,
                "confidence": decision.confidence,
                **details,
            },
        )
    if not decision.agents:
        return Command(goto="__end__", update=_result(state))
    update = RepairState(
        decisions=[Routing(next_agent=agent, reasoning=decision.reasoning) for agent in decision.agents],
        instructions=instructions,
    )
    if limit and "survey" not in state:
        update["remarks"] = [limit]
    return Command(goto=list(decision.agents), update=update)


async def _refuse_what_rules_cannot_do(state: RepairState, some_model: bool) -> None:
    """Refuses what needs a model. Rules repair a project; they make nothing out of nothing."""
    if (task := beyond_rules(state)) is None:
        return
    if some_model or not (state.get("path") or await _has_files()):
        raise TaskNeedsModel(
            f"{task!r} needs an agent that writes code, and codesmith works by rules: set ANTHROPIC_API_KEY, or"
            " STELLWERK_CODESMITH=claude where the Claude CLI is logged in; `stellwerk doctor` tells what is missing"
        )


async def _has_files() -> bool:
    walk = Walk(str(await current_worktree()))
    return await asyncio.to_thread(lambda: any(found.is_regular for found in walk))


def _result(state: RepairState) -> RepairState:
    before, tests = state.get("findings_before", 0), state.get("tests_before")
    return {
        "summary": summarise(state),
        "findings_after": state.get("findings_after", before),
        "tests_after": state.get("tests_after", tests),
    }
