"""The benches' workflows: nodes that do nothing, so what is left is what a step costs."""

import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from app.progress import report_progress
from tests.benchmarks import emitting
from workers.workflow import Workflow


class Chain(TypedDict, total=False):
    left: int


async def link(state: Chain) -> Chain:
    return {"left": state["left"] - 1}


def chain() -> StateGraph[Any, Any, Any, Any]:
    """`left` steps, one after the other; the state does not grow."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Chain)
    graph.add_node(link)
    graph.add_edge(START, "link")
    graph.add_conditional_edges("link", lambda state: "link" if state["left"] else END, ["link", END])
    return graph


class Wide(TypedDict, total=False):
    width: int
    reports: int
    seconds: Annotated[list[float], operator.add]


def spread(node: str) -> Any:
    return lambda state: [Send(node, {"reports": state["reports"]}) for _ in range(state["width"])]


def wide(node: Any) -> StateGraph[Any, Any, Any, Any]:
    """`width` times the same node at once."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Wide)
    graph.add_node(node)
    graph.add_conditional_edges(START, spread(node.__name__), [node.__name__])
    return graph


async def reporter(state: Wide) -> Wide:
    """How long each report took until it was durable."""
    took = []
    for number in range(state["reports"]):
        started = time.perf_counter()
        await report_progress(number, f"report {number}", total=state["reports"])
        took.append(time.perf_counter() - started)
    return {"seconds": took}


async def part(state: Wide) -> Wide:
    return {"seconds": [0.0]}


WORKFLOWS = {
    "chain": Workflow(chain()),
    "reports": Workflow(wide(reporter)),
    "wide": Workflow(wide(part)),
    "emit": Workflow(emitting.graph),
}
