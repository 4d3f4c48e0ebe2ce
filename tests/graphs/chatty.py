"""A workflow whose one node reports many times, in bursts, until a test says that it is enough."""

import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph

from app.progress import Phase, report_progress
from workers.workflow import Workflow


class State(TypedDict, total=False):
    gate: str
    reports: int
    pause: float


async def chatter(state: State) -> State:
    """At least `reports` events, and more until the file exists; `pause` seconds lie between bursts."""
    count = 0
    while count < state["reports"] or not await asyncio.to_thread(Path(state["gate"]).exists):
        phase: Phase = "think" if count % 3 else "progress"
        burst = (report_progress(n, f"report {n} ✓", total=None, phase=phase) for n in range(count, count + 5))
        await asyncio.gather(*burst)
        count += 5
        await asyncio.sleep(state.get("pause", 0.02))
    return {"reports": count}


graph = StateGraph(State)
graph.add_node(chatter)
graph.add_edge(START, "chatter")

WORKFLOWS = {"chatty": Workflow(graph)}
