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


class PacedState(State, total=False):
    """As a schema of its own: the databases of before hold sessions of the graph without it."""

    pause: float


async def chatter(state: State) -> State:
    """At least `reports` events, and more until the file exists."""
    return await talk(state, pause=0.02)


async def paced_chatter(state: PacedState) -> State:
    """As `chatter`, with `pause` seconds between bursts."""
    return await talk(state, pause=state["pause"])


async def talk(state: State, *, pause: float) -> State:
    count = 0
    while count < state["reports"] or not await asyncio.to_thread(Path(state["gate"]).exists):
        phase: Phase = "think" if count % 3 else "progress"
        burst = (report_progress(n, f"report {n} ✓", total=None, phase=phase) for n in range(count, count + 5))
        await asyncio.gather(*burst)
        count += 5
        await asyncio.sleep(pause)
    return {"reports": count}


graph = StateGraph(State)
graph.add_node(chatter)
graph.add_edge(START, "chatter")

paced = StateGraph(PacedState)
paced.add_node(paced_chatter)
paced.add_edge(START, "paced_chatter")

WORKFLOWS = {"chatty": Workflow(graph), "paced": Workflow(paced)}
