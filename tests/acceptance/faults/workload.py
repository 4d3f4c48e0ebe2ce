"""The workflows that run while things break, and what must come of them.

`mixed` has quick steps, a fan-out with `Send`, bursts of concurrent reports, a step that fails once with what
is worth another attempt, one that starts a child process, one that outlives its first lease, and may be doomed.
`hostile` reads a project whose content is an attacker.
"""

import asyncio
import operator
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import uuid4

from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send

from app.progress import current_step, report_progress
from tests.acceptance.faults import ledger
from tests.acceptance.faults.ledger import Entry, note
from tests.fuzz.trees.planting import plant
from workers.agents.research import research
from workers.children.guarded import run_guarded
from workers.children.removal import remove_tree
from workers.workflow import Workflow
from workers.workspace.current import current_worktree

DOOM = "doomed by its input"
HOSTILE_PROJECTS = 12
TEXTS = ("plain", "📡 Ünïcödé", "two\nlines", "a\u2028separator", '"quoted\\"', "data: injected\n\nid: 99\n\n")


class State(TypedDict, total=False):
    parts: int
    burst: int
    slow_seconds: float
    size: int
    doomed: bool
    squares: Annotated[list[int], operator.add]
    passed: Annotated[list[str], operator.add]
    total: int


class Part(TypedDict):
    number: int


async def say(text: str, *, size: int = 0) -> None:
    step = current_step()
    key = str(uuid4())
    message = f"{text} {'x' * size}"
    entry = Entry(key, str(step.session_id), step.step, step.attempt, message)
    note(entry)
    offset = await report_progress(0.5, message, details={"key": key})
    note(Entry(key, str(step.session_id), step.step, step.attempt, message, offset))


async def plan(state: State) -> State:
    for text in TEXTS:
        await say(text)
    return {"passed": ["plan"]}


def split(state: State) -> list[Send]:
    return [Send("square", {"number": number}) for number in range(state["parts"])]


async def square(part: Part) -> State:
    await say(f"part {part['number']}")
    return {"squares": [part["number"] ** 2]}


async def gather(state: State) -> Command[Literal["burst", "flaky", "child", "slow"]]:
    return Command(update={"total": sum(state.get("squares", []))}, goto=["burst", "flaky", "child", "slow"])


async def burst(state: State) -> State:
    await asyncio.gather(*(say(f"burst {number}", size=state["size"]) for number in range(state["burst"])))
    return {"passed": ["burst"]}


async def flaky(state: State) -> State:
    await say("flaky")
    if current_step().attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return {"passed": ["flaky"]}


async def child(state: State) -> State:
    script = f"import time; time.sleep(0.3)  # {os.environ[ledger.DIRECTORY]}"
    done = await run_guarded([sys.executable, "-I", "-S", "-c", script], cwd=Path.cwd(), env=dict(os.environ))
    await say(f"the child ended with {done.returncode}")
    return {"passed": ["child"]}


async def slow(state: State) -> State:
    """Says something all the time, so that from outside a session that stands still can be told."""
    for number in range(int(state["slow_seconds"] / 0.5)):
        await say(f"tick {number}")
        await asyncio.sleep(0.5)
    return {"passed": ["slow"]}


async def close(state: State) -> State:
    await say("closing")
    if state["doomed"]:
        raise ValueError(DOOM)
    return {"passed": ["close"]}


async def write(state: State) -> State:
    """Changes files in the session's workspace, and says so."""
    worktree = await current_worktree()
    await asyncio.to_thread((worktree / "written").write_text, "x" * 200_000)
    await say("wrote")
    return {"passed": ["write"]}


async def write_on(state: State) -> State:
    worktree = await current_worktree()
    written = worktree / "written"
    text = await asyncio.to_thread(written.read_text)
    await asyncio.to_thread(written.write_text, text + "y")
    await say(f"wrote on behind {len(text)}")
    return {"passed": ["write_on"], "total": len(text)}


async def survey(state: State) -> State:
    await say("surveying")
    found = await research({})
    await say(f"{found['survey']['python_files']} Python files")
    return {"passed": ["survey"]}


async def ping(state: State) -> State:
    await say("ping")
    return {"passed": ["ping"]}


def mixed() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    nodes: list[Any] = [plan, square, gather, burst, flaky, child, slow, close]
    for node in nodes:
        graph.add_node(node)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", split, ["square"])
    graph.add_edge("square", "gather")
    graph.add_edge(["burst", "flaky", "child", "slow"], "close")
    return graph


def probe() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("ping", ping)
    graph.add_edge(START, "ping")
    return graph


def files() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    for node in (write, write_on):
        graph.add_node(node)
    graph.add_edge(START, "write")
    graph.add_edge("write", "write_on")
    return graph


def hostile() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("survey", survey)
    graph.add_edge(START, "survey")
    return graph


@contextmanager
def hostile_projects(directory: Path) -> Iterator[list[Path]]:
    """Some for a while. What could hold sessions up for seconds is the fuzzer's: these are small."""
    directory.mkdir()
    try:
        yield [plant(directory / str(seed), seed, large=False).directory for seed in range(HOSTILE_PROJECTS)]
    finally:
        remove_tree(directory)


WORKFLOWS = {
    "mixed": Workflow(graph=mixed()),
    "files": Workflow(graph=files()),
    "hostile": Workflow(graph=hostile()),
    "probe": Workflow(graph=probe()),
}


def some_input(chance: random.Random) -> State:
    return {
        "parts": chance.randint(1, 6),
        "burst": chance.choice([5, 20, 60]),
        "slow_seconds": chance.choice([0.5, 1.0, 2.0, 6.0]),
        "size": chance.choice([0, 100, 5_000]),
        "doomed": chance.random() < 0.15,
    }


def steps_of(workflow: str, given: State) -> int:
    """How many steps such a session has: in `mixed` plan, the parts, gather, four side by side, close."""
    match workflow:
        case "mixed":
            return given["parts"] + 7
        case "files":
            return 2
        case _:
            return 1


def expected(workflow: str, given: State) -> tuple[str, int | None, list[str]]:
    """The final status, total and sorted `passed` of a session with this input, worked out without LangGraph."""
    if workflow == "probe":
        return "succeeded", None, ["ping"]
    if workflow == "hostile":
        return "succeeded", None, ["survey"]
    if workflow == "files":
        return "succeeded", 200_000, ["write", "write_on"]
    if given["doomed"]:
        return "failed", None, []
    total = sum(number**2 for number in range(given["parts"]))
    return "succeeded", total, ["burst", "child", "close", "flaky", "plan", "slow"]
