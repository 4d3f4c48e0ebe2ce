"""What the graphs of the corpus are put together from."""

import operator
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Any, TypeAlias

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from tests.graphs.effects import happened

Node: TypeAlias = Callable[..., Any]
Graph: TypeAlias = StateGraph[Any, Any, Any, Any]


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def says(name: str) -> Node:
    """A node that logs its name and how much stood in the log before."""

    def run(state: Log) -> Log:
        happened(name)
        return {"log": [f"{name} after {len(state.get('log', []))}"]}

    return run


def row(schema: type, /, *nodes: tuple[str, Any] | Node, **options: Any) -> Graph:
    """The nodes one after the other; `options` are those of `StateGraph`."""
    graph: Graph = StateGraph(schema, **options)
    named = [node if isinstance(node, tuple) else (node.__name__, node) for node in nodes]
    for name, node in named:
        graph.add_node(name, node)
    joined(graph, [START, *(name for name, _ in named), END])
    return graph


def side_by_side(schema: type, nodes: Iterable[tuple[str, Any] | Node], *after: Node) -> Graph:
    """All `nodes` in one superstep, then those of `after`, one after the other."""
    graph: Graph = StateGraph(schema)
    named = [node if isinstance(node, tuple) else (node.__name__, node) for node in nodes]
    names = [name for name, _ in named]
    for name, node in named:
        graph.add_node(name, node)
        graph.add_edge(START, name)
    for node in after:
        graph.add_node(node.__name__, node)
    if after:
        graph.add_edge(names, after[0].__name__)
        joined(graph, [node.__name__ for node in after])
    return graph


def joined(graph: Graph, names: list[str]) -> None:
    for source, target in pairwise(names):
        graph.add_edge(source, target)


def asks(question: str, paid: str | None = None) -> Node:
    """A node that logs the answer to its question; `paid` names its side effects, where it is not the question."""
    effect = paid or question

    def ask(state: Log) -> Log:
        happened(f"before {effect}")
        answer = interrupt(question)
        happened(f"after {effect}")
        return {"log": [f"{question}={answer}"]}

    return ask
