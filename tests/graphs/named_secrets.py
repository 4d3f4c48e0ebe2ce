"""A graph that is given a secret, in its input and in its context."""

from dataclasses import dataclass
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from workers.workflow import Workflow


@dataclass
class Given:
    key: str


class State(TypedDict, total=False):
    header: str
    length: int


async def measure(state: State, runtime: Runtime[Given]) -> State:
    return {"length": len(state["header"] + runtime.context.key)}


graph = StateGraph(State, context_schema=Given)
graph.add_node(measure)
graph.add_edge(START, "measure")

WORKFLOWS = {"named": Workflow(graph)}
