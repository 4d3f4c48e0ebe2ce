"""A workflow that goes on when a test says so: it reports through a program, waits for a file, then asks."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from app.progress import current_step
from workers.workflow import Workflow


class State(TypedDict, total=False):
    gate: str
    """A file whose existence opens the gate."""
    asks: bool
    outcome: str


async def announce(state: State) -> None:
    command = [sys.executable, "-m", "app.cli", "progress", "30", "from a program", "--total", "120"]
    environment = {**os.environ, **current_step().environment}
    options = ["--phase", "think", "--detail", "slow=true", "--detail", "folder=src"]
    await asyncio.to_thread(subprocess.run, command + options, env=environment, check=True)


async def hold(state: State) -> None:
    while not await asyncio.to_thread(Path(state["gate"]).exists):
        await asyncio.sleep(0.05)


async def ask(state: State) -> State:
    return {"outcome": str(interrupt({"question": "[bold]go on?[/bold]"})) if state.get("asks") else "unasked"}


graph = StateGraph(State)
graph.add_sequence([announce, hold, ask])
graph.add_edge(START, "announce")

WORKFLOWS = {"gated": Workflow(graph)}
