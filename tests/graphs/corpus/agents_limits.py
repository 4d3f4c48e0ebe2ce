"""LangChain's limits of model and tool calls: each fires after as many calls as in plain LangGraph."""

from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelCallLimitMiddleware, ToolCallLimitMiddleware

from tests.graphs.cases import Case
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says

ONE = [[call("look_up", f"{turn}", word=f"w{turn}")] for turn in range(8)]
TWO = [[call("look_up", f"{turn}a", word=f"w{turn}"), call("pay", f"{turn}b", amount=turn)] for turn in range(8)]
PAYS = [[call("pay", f"{turn}", amount=turn)] for turn in range(8)]
APPROVED = {"decisions": [{"type": "approve"}]}


def models(**options: Any) -> ModelCallLimitMiddleware[Any, Any]:
    return ModelCallLimitMiddleware(**options)


def tools(**options: Any) -> ToolCallLimitMiddleware[Any, Any]:
    return ToolCallLimitMiddleware(**options)


def case(name: str, turns: Any, *middleware: Any, **options: Any) -> Case:
    graph = agent(says(*turns, heard), [look_up, pay], *middleware)
    return Case(f"agent_limit_{name}", "agents: limits", graph, asks("go on for ever"), **options)


reviewed = HumanInTheLoopMiddleware[Any, Any, Any](interrupt_on={"pay": True})

CASES = [
    case("of_models_in_a_run", ONE, models(run_limit=3)),
    case("of_models_in_a_thread", ONE, models(thread_limit=3)),
    case("of_models_both", ONE, models(thread_limit=5, run_limit=2)),
    case("of_models_that_is_not_reached", ONE[:2], models(run_limit=5)),
    case("of_models_is_an_error", ONE, models(run_limit=2, exit_behavior="error"), raises="run limit (2/2)"),
    case("of_models_in_a_thread_is_an_error", ONE, models(thread_limit=2, exit_behavior="error"), raises="(2/2)"),
    case("of_models_with_two_tools", TWO, models(run_limit=3)),
    case("of_tools_in_a_run", [*ONE[:4]], tools(run_limit=2)),
    case("of_tools_in_a_thread", [*ONE[:4]], tools(thread_limit=2)),
    case("of_tools_ends", ONE, tools(run_limit=2, exit_behavior="end")),
    case("of_tools_ends_in_the_middle", TWO, tools(run_limit=3, exit_behavior="end")),
    case("of_tools_continues_in_the_middle", TWO[:3], tools(run_limit=3)),
    case(
        "of_tools_is_an_error", ONE, tools(run_limit=2, exit_behavior="error"), raises="run limit exceeded (3/2 calls)"
    ),
    case("of_one_tool", TWO[:4], tools(tool_name="pay", run_limit=1)),
    case("of_two_tools", TWO[:4], tools(tool_name="pay", run_limit=1), tools(tool_name="look_up", thread_limit=2)),
    case("of_one_tool_and_of_all", TWO[:4], tools(tool_name="pay", run_limit=1), tools(run_limit=4)),
    case("of_models_and_tools", TWO, models(run_limit=4), tools(run_limit=3)),
    # Plain LangGraph forgets the counts of a run with each answer, and keeps those of the thread.
    case("of_models_across_answers", PAYS[:4], models(run_limit=3), reviewed, answers=[APPROVED] * 4),
    case("of_models_in_a_thread_across_answers", PAYS, models(thread_limit=3), reviewed, answers=[APPROVED] * 3),
    case("of_tools_across_answers", PAYS[:4], tools(run_limit=2), reviewed, answers=[APPROVED] * 4),
    case(
        "of_tools_in_a_thread_across_answers",
        PAYS,
        tools(thread_limit=2, exit_behavior="end"),
        reviewed,
        answers=[APPROVED] * 3,
    ),
]
