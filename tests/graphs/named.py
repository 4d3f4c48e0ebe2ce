"""A workflow whose nodes are named by an enum, and its questions asked in a subgraph of such nodes."""

import operator
from enum import Enum
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from workers.workflow import Node, Workflow


class Name(str, Enum):  # noqa: UP042  # a StrEnum is its value wherever it is formatted, and this is not
    PLAN = "plan"
    WORK = "work"
    CHECK = "check"
    ASK = "ask"
    INNER = "inner"


class State(TypedDict):
    log: Annotated[list[Any], operator.add]


def build(names: Any = Name) -> Any:
    def plan(state: State) -> Any:
        return Command(update={"log": ["planned"]}, goto=[Send(names.WORK, {"log": [n]}) for n in (1, 2)])

    def work(state: State) -> Any:
        return {"log": [state["log"][0] * 10]}

    def check(state: State) -> Any:
        return {"log": ["checked"]}

    def ask(state: State) -> Any:
        return {"log": [interrupt("Is it enough?")]}

    inner: Any = StateGraph(State)
    inner.add_node(names.ASK, ask)
    inner.add_edge(START, names.ASK)

    graph: Any = StateGraph(State)
    graph.add_node(names.PLAN, plan, destinations=(names.WORK, names.CHECK))
    graph.add_node(names.WORK, work)
    graph.add_node(names.CHECK, check)
    graph.add_node(names.INNER, inner.compile())
    graph.add_edge(START, names.PLAN)
    graph.add_edge(names.WORK, names.CHECK)
    graph.add_conditional_edges(names.CHECK, lambda state: names.INNER, [names.INNER, END])
    return graph


WORKFLOWS = {"named": Workflow(graph=build(), nodes={"work": Node(max_attempts=2)})}
