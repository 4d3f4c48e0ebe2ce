"""Edges, joins, `defer` and loops."""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from tests.graphs.cases import Case
from tests.graphs.effects import happened


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def step(name: str) -> Any:
    def run(state: Log) -> Log:
        happened(name)
        return {"log": [f"{name} after {len(state.get('log', []))}"]}

    return run


def diamond() -> StateGraph[Any]:
    graph = StateGraph(Log)
    for name in ("first", "left", "right", "last"):
        graph.add_node(name, step(name))
    graph.add_edge(START, "first")
    graph.add_edge("first", "left")
    graph.add_edge("first", "right")
    graph.add_edge(["left", "right"], "last")
    graph.add_edge("last", END)
    return graph


CASES = [
    Case("diamond", "edges", diamond(), {"log": []}),
]
