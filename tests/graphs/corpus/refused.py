"""What only a different engine could run: refused when it is loaded, with what to do instead."""

import operator
from typing import Annotated, Any

from langgraph.channels import DeltaChannel
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.parts import Graph, Log, row, says


class Deltas(TypedDict):
    deltas: Annotated[list[Any], DeltaChannel(lambda value, updates: [*value, *updates])]


def two_steps() -> Graph:
    return row(Log, ("one", says("one")), ("two", says("two")))


def handled() -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("one", says("one"), error_handler=lambda state: {"log": ["handled"]})
    graph.add_edge(START, "one")
    return graph


def handled_by_default() -> Graph:
    graph = two_steps()
    graph.set_node_defaults(error_handler=lambda state: {"log": ["handled"]})
    return graph


def deltas() -> Graph:
    return row(Deltas, ("one", lambda state: {"deltas": 1}))


def inside(graph: Any) -> Graph:
    return row(Log, ("before", says("before")), ("inner", graph))


def a_number_for_a_state() -> Graph:
    schema: Any = Annotated[int, operator.add]
    graph: Graph = StateGraph(schema)
    graph.add_node("one", lambda state: 1)
    graph.add_edge(START, "one")
    return graph


@entrypoint()
def functional(number: int) -> int:
    return number + 1


def each(name: str, graph: Any, refuses: str) -> Case:
    return Case(f"refused-{name}", "refused", graph, {"log": []}, refuses=refuses)


CASES = [
    each("entrypoint", functional, "StateGraph"),
    each("before", two_steps().compile(interrupt_before=["two"]), "interrupt_before"),
    each("after", two_steps().compile(interrupt_after=["one"]), "interrupt_after"),
    each("before-all", two_steps().compile(interrupt_before="*"), "interrupt_before"),
    each("before-in-a-subgraph", inside(two_steps().compile(interrupt_before=["two"])), "interrupt_before"),
    each("after-in-a-subgraph", inside(two_steps().compile(interrupt_after=["one"])), "interrupt_after"),
    each(
        "after-two-levels-down", inside(inside(two_steps().compile(interrupt_after="*")).compile()), "interrupt_after"
    ),
    each("error-handler", handled(), "error handler"),
    each("error-handler-by-default", handled_by_default(), "error handler"),
    each("deltas", deltas(), "DeltaChannel"),
    each("deltas-in-a-subgraph", inside(deltas().compile()), "DeltaChannel"),
    each("no-object", a_number_for_a_state(), "object"),
]
