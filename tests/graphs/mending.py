"""A workflow with a workspace: it writes a file, waits for a gate, asks, and writes another one."""

import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from workers.workflow import Workflow
from workers.workspace.current import current_worktree


class State(TypedDict, total=False):
    gate: str
    """A file whose existence opens the gate."""
    asks: bool
    answer: str


async def begin(state: State) -> None:
    (await current_worktree() / "begun.txt").write_text("begun\n")


async def hold(state: State) -> None:
    while not await asyncio.to_thread(Path(state["gate"]).exists):
        await asyncio.sleep(0.05)


async def ask(state: State) -> State:
    return {"answer": str(interrupt({"question": "and now?"})) if state.get("asks") else "unasked"}


async def end(state: State) -> None:
    (await current_worktree() / "ended.txt").write_text(state["answer"] + "\n")


graph = StateGraph(State)
graph.add_sequence([begin, hold, ask, end])
graph.add_edge(START, "begin")

WORKFLOWS = {"mending": Workflow(graph)}
