"""Two nodes; the first one waits at each place where a test looks on."""

import asyncio
import threading
from typing import TypedDict

from langgraph.graph import START, StateGraph

from app.progress import report_progress
from workers.workflow import Workflow

BEGUN, MAY_REPORT, MAY_END = threading.Event(), threading.Event(), threading.Event()


class State(TypedDict, total=False):
    task: str
    said: int


async def first(state: State) -> State:
    BEGUN.set()
    await _until(MAY_REPORT)
    await report_progress(0.5, "half way")
    await _until(MAY_END)
    return {"said": 1}


async def second(state: State) -> State:
    return {"said": state["said"] + 1}


async def _until(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.01)


graph = StateGraph(State)
graph.add_node(first)
graph.add_node(second)
graph.add_edge(START, "first")
graph.add_edge("first", "second")

WORKFLOWS = {"walked": Workflow(graph=graph)}
