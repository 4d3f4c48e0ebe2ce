"""Agents as parts of a graph: as nodes, inside of nodes, by `Send`, and such as remember."""

import operator
from typing import Annotated, Any

from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelCallLimitMiddleware
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.corpus.agents_tools import ask
from tests.graphs.effects import happened
from tests.graphs.scripted import Agent, Messages, Turn, agent, asks, call, heard, look_up, pay, says

TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]
EDITED = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 1}}}]}
APPROVED = {"decisions": [{"type": "approve"}]}


class Round(MessagesState, total=False):
    log: Annotated[list[str], operator.add]
    rounds: int


def reviewed() -> HumanInTheLoopMiddleware[Any, Any, Any]:
    return HumanInTheLoopMiddleware(interrupt_on={"pay": True})


def working(label: str, *middleware: Any, ids: bool = True, **options: Any) -> Agent:
    """Calls two tools at a time, and says what it heard: each time that it is called."""

    def turn(messages: Messages) -> Turn:
        if messages[-1].type != "tool":
            number = len(messages)
            return [call("look_up", f"{label}a{number}", word=label), call("pay", f"{label}b{number}", amount=number)]
        return f"{label} has read {len(messages)}"

    return agent(says(*[turn] * 20, label=label, ids=ids), [look_up, pay], *middleware, name=label, **options)


def questioning(label: str) -> Agent:
    turns = [call("pay", f"{label}p", amount=7)], [call("ask", f"{label}q", question=f"{label} asks")]
    return agent(says(*turns, heard, label=label), [pay, ask], name=label)


def one_after_the_other(*agents: Agent) -> StateGraph[Any]:
    graph = StateGraph(MessagesState)
    for each in agents:
        graph.add_node(each.name, each)
    for before, after in zip(
        [START, *(each.name for each in agents)], [*(each.name for each in agents), END], strict=True
    ):
        graph.add_edge(before, after)
    return graph


def at_the_same_time(*agents: Agent) -> StateGraph[Any]:
    graph = StateGraph(MessagesState)
    graph.add_node("end", lambda state: {"messages": [AIMessage(f"{len(state['messages'])} messages")]})
    for each in agents:
        graph.add_node(each.name, each)
        graph.add_edge(START, each.name)
    graph.add_edge([each.name for each in agents], "end")
    return graph


def inside_of_a_node(*agents: Agent, own_question: bool = False) -> StateGraph[Any]:
    async def work(state: Round) -> dict[str, Any]:
        log = []
        for each in agents:
            result = await each.ainvoke({"messages": state["messages"]})
            happened(f"{each.name} is done")
            log.append(result["messages"][-1].content)
        if own_question:
            log.append(interrupt("is it good?"))
        return {"log": log}

    graph = StateGraph(Round)
    graph.add_node(work)
    graph.add_edge(START, "work")
    return graph


def sent_to(each: Agent) -> StateGraph[Any]:
    async def work(state: MessagesState) -> dict[str, Any]:
        result = await each.ainvoke(state)
        return {"log": [result["messages"][-1].text]}

    def parts(state: Round) -> list[Send]:
        return [Send("work", asks(f"part {number}")) for number in range(3)]

    graph = StateGraph(Round)
    graph.add_node("work", work)
    graph.add_conditional_edges(START, parts, ["work"])
    return graph


def in_rounds(each: Agent, rounds: int = 3) -> StateGraph[Any]:
    """One agent as a node, called again and again with one new message."""

    async def begin(state: Round) -> Command[Any]:
        number = state.get("rounds", 0) + 1
        if number > rounds:
            return Command(goto=END)
        return Command(goto="work", update={"rounds": number})

    async def work(state: Round) -> dict[str, Any]:
        result = await each.ainvoke(asks(f"round {state['rounds']}"))
        happened(f"round {state['rounds']}: {len(result['messages'])} messages")
        return {"log": [result["messages"][-1].content]}

    graph = StateGraph(Round)
    graph.add_node(begin, destinations=("work", END))
    graph.add_node(work)
    graph.add_edge(START, "begin")
    graph.add_edge("work", "begin")
    return graph


def case(name: str, graph: Any, *answers: Any) -> Case:
    return Case(f"agent_nested_{name}", "agents: nested", graph, asks("go"), answers=answers)


CASES = [
    case("node", one_after_the_other(working("one"))),
    case("two_nodes", one_after_the_other(working("one"), working("two"))),
    case("two_nodes_without_ids", one_after_the_other(working("one", ids=False), working("two", ids=False))),
    case("three_at_the_same_time", at_the_same_time(working("one"), working("two"), working("three"))),
    case("reviewed", one_after_the_other(working("one", reviewed()), working("two", reviewed())), EDITED, APPROVED),
    case(
        "reviewed_at_the_same_time",
        at_the_same_time(working("one", reviewed()), working("two", reviewed())),
        EDITED,
        APPROVED,
    ),
    case("limited", one_after_the_other(working("one", ModelCallLimitMiddleware(run_limit=1)), working("two"))),
    case("in_a_node", inside_of_a_node(working("one"))),
    case("two_in_a_node", inside_of_a_node(working("one"), working("two"))),
    case("two_in_a_node_that_ask", inside_of_a_node(questioning("one"), questioning("two")), "a", "b"),
    case("in_a_node_that_asks", inside_of_a_node(working("one"), working("two"), own_question=True), "yes"),
    case(
        "all_in_a_node_that_asks",
        inside_of_a_node(questioning("one"), questioning("two"), own_question=True),
        "a",
        "b",
        "c",
    ),
    case(
        "two_in_a_node_reviewed",
        inside_of_a_node(working("one", reviewed()), working("two", reviewed())),
        EDITED,
        APPROVED,
    ),
    case("sent_to", sent_to(working("one"))),
    case("sent_to_reviewed", sent_to(working("one", reviewed())), EDITED, APPROVED, EDITED),
    case("in_rounds", in_rounds(working("one"))),
    case("in_rounds_reviewed", in_rounds(working("one", reviewed())), EDITED, APPROVED, EDITED),
    case("that_remembers", in_rounds(working("one", checkpointer=True))),
    case(
        "that_remembers_and_is_reviewed",
        in_rounds(working("one", reviewed(), checkpointer=True)),
        EDITED,
        APPROVED,
        EDITED,
    ),
    case("that_keeps_nothing", in_rounds(working("one", checkpointer=False))),
]
