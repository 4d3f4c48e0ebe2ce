"""A graph whose step returns what no log can hold, one whose policy says how often it is tried, one for turns."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from tests.graphs.parts import Log
from workers.workflow import Workflow

tries = {"flaky": 0}


def returns_a_generator(state: Any) -> Any:
    return {"log": [{"paid": 7, "for": (number for number in range(3))}]}


def flaky(state: Any) -> Any:
    tries["flaky"] += 1
    if tries["flaky"] < 4:
        raise ValueError("not yet")
    return {"log": ["at last"]}


def graph_of(node: Any, **said: Any) -> Workflow:
    graph: Any = StateGraph(Log)
    graph.add_node("node", node, **said)
    graph.add_edge(START, "node")
    return Workflow(graph)


def say(state: Any) -> Any:
    return {"log": [f"turn {len(state['log'])}"]}


WORKFLOWS = {
    "turns": graph_of(say),
    "unkept": graph_of(returns_a_generator),
    "flaky": graph_of(
        flaky, retry_policy=RetryPolicy(max_attempts=5, initial_interval=0.01, jitter=False, retry_on=ValueError)
    ),
}
