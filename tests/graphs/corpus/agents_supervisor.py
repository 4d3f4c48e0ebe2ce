"""langgraph-supervisor: two and three agents, one after the other and at the same time."""

import warnings
from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelCallLimitMiddleware
from langchain_core.tools import tool
from langgraph.graph import StateGraph
from langgraph.types import interrupt
from langgraph.warnings import LangGraphDeprecatedSinceV10
from langgraph_supervisor import create_handoff_tool, create_supervisor
from langgraph_supervisor.handoff import create_forward_message_tool

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import Agent, Messages, Turn, agent, asks, call, heard, look_up, pay, says


@tool
async def ask(question: str) -> str:
    """Asks a person. Which of two open questions is answered first is chance, and so how often this begins."""
    answer = interrupt({"question": question})
    happened(f"{question}: {answer}")
    return f"{question}: {answer}"


def last_of(label: str) -> Any:
    """The answer of an agent with this name; it does two calls of tools at a time first."""

    def turn(messages: Messages) -> Turn:
        if messages[-1].type == "tool" and (messages[-1].name or "").startswith("transfer"):
            return [call("look_up", f"{label}1", word=label), call("pay", f"{label}2", amount=len(messages))]
        return f"{label} has read {len(messages)}"

    return turn


def worker(label: str, *middleware: Any, turn: Any = None, ids: bool = True) -> Agent:
    model = says(*[turn or last_of(label)] * 9, label=label, ids=ids)
    return agent(model, [look_up, pay, ask], *middleware, name=label)


def asking(label: str, *, at_once: bool = False) -> Agent:
    """Pays, and then asks two questions."""

    def turn(messages: Messages) -> Turn:
        last = messages[-1]
        first, second = (call("ask", f"{label}{word}", question=f"{label} {word}") for word in ("first", "second"))
        if last.type == "tool" and (last.name or "").startswith("transfer"):
            return [call("pay", f"{label}0", amount=5)]
        if last.type == "tool" and last.name == "pay":
            return [first, second] if at_once else [first]
        return [second] if last.text.startswith(f"{label} first") else f"{label}: {last.text}"

    return worker(label, turn=turn)


def to(*labels: str) -> Any:
    """Hands over to each that has not answered yet.

    One at a time: of two handoffs at once plain LangGraph takes whichever tool raises first.
    """

    def turn(messages: Messages) -> Turn:
        answered = {message.name for message in messages if message.type == "ai"}
        for label in labels:
            if label not in answered:
                return [call(f"transfer_to_{label}", f"to-{label}")]
        return heard(messages)

    return turn


def supervised(agents: list[Any], *turns: Any, ids: bool = True, **options: Any) -> StateGraph[Any]:
    model = says(*[*turns, *turns[-1:] * 9], label="supervisor", ids=ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangGraphDeprecatedSinceV10)
        graph: StateGraph[Any] = create_supervisor(agents, model=model, **options)
    return graph


def case(
    name: str, agents: list[Agent], *turns: Any, answers: Any = (), raises: str | None = None, **options: Any
) -> Case:
    graph = supervised(agents, *turns, **options)
    return Case(f"supervisor_{name}", "agents: supervisor", graph, asks("do it"), answers=answers, raises=raises)


ANSWER = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 1}}}]}
reviewed = HumanInTheLoopMiddleware[Any, Any, Any](interrupt_on={"pay": True})
own_handoffs = [
    create_handoff_tool(agent_name="math", name="transfer_to_math", description="Sums."),
    create_handoff_tool(agent_name="text", name="transfer_to_text"),
]

CASES = [
    case("of_two", [worker("math"), worker("text")], to("math", "text")),
    case("of_two_without_ids", [worker("math", ids=False), worker("text", ids=False)], to("math", "text"), ids=False),
    case("of_three", [worker("math"), worker("text"), worker("maps")], to("maps", "math", "text")),
    case("with_full_history", [worker("math"), worker("text")], to("math", "text"), output_mode="full_history"),
    case(
        "without_handoffs",
        [worker("math", turn=heard), worker("text", turn=heard)],
        to("math", "text"),
        add_handoff_messages=False,
    ),
    case("without_handing_back", [worker("math"), worker("text")], to("math", "text"), add_handoff_back_messages=False),
    case(
        "with_names", [worker("math"), worker("text")], to("math", "text"), include_agent_name="inline", prompt="Lead."
    ),
    case(
        "with_tools",
        [worker("math")],
        [call("look_up", "s", word="own"), call("pay", "t", amount=1)],
        to("math"),
        tools=[look_up, pay],
    ),
    case("with_handoffs_of_its_own", [worker("math"), worker("text")], to("math", "text"), tools=own_handoffs),
    case(
        "that_forwards",
        [worker("math")],
        [call("transfer_to_math", "to-math")],
        [call("forward_message", "f", from_agent="math")],
        tools=[create_forward_message_tool()],
    ),
    case("that_does_it_alone", [worker("math")], heard),
    case("of_one_that_asks", [asking("math"), worker("text")], to("math", "text"), answers=["yes", "no"]),
    case(
        "of_one_that_asks_twice_at_once",
        [asking("math", at_once=True), worker("text")],
        to("math", "text"),
        answers={str({"question": f"math {word}"}): word for word in ("first", "second")},
    ),
    case("of_two_that_ask", [asking("math"), asking("text")], to("math", "text"), answers=["a", "b", "c", "d"]),
    case("of_one_that_is_reviewed", [worker("math", reviewed), worker("text")], to("math", "text"), answers=[ANSWER]),
    case(
        "of_one_with_a_limit",
        [worker("math", ModelCallLimitMiddleware(run_limit=1)), worker("text")],
        to("math", "text"),
    ),
]
