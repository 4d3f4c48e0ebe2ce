"""Small graphs whose nodes do what steps do in bad times; the state says what and where."""

import asyncio
import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from app.progress import ModelCall, ToolCall, current_step, record_model_call, record_tool_call, report_progress
from workers.children.guarded import run_guarded
from workers.workflow import Node, Workflow


def keep(left: list[str], right: list[str]) -> list[str]:
    return left + right


class State(TypedDict, total=False):
    directory: str
    done: Annotated[list[str], keep]


def graph_of(*nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    """One after the other."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    previous = START
    for node in nodes:
        graph.add_node(node)
        graph.add_edge(previous, node.__name__)
        previous = node.__name__
    return graph


async def quick(state: State) -> State:
    await report_progress(1.0, "quick")
    return {"done": ["quick"]}


async def patient(state: State) -> State:
    """Says who runs it, starts a child that sleeps, and waits for a file `go`."""
    directory = Path(state["directory"])
    await report_progress(0.1, "started", details={"pid": os.getpid()})
    child = asyncio.create_task(
        run_guarded(
            [
                sys.executable,
                "-c",
                f"import time, sys; open(sys.argv[1], 'w').close(); time.sleep(600) # {directory}",
                str(directory / "child"),
            ],
            cwd=directory,
            env=dict(os.environ),
        )
    )
    try:
        while not (directory / "go").exists():
            await asyncio.sleep(0.05)
    finally:
        child.cancel()
    await report_progress(1.0, "went on")
    return {"done": ["patient"]}


async def flaky(state: State) -> State:
    """Fails twice with what is worth another attempt."""
    tries = Path(state["directory"], "tries")
    count = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(count))
    if count < 3:
        raise ConnectionError(f"try {count}")
    return {"done": ["flaky"]}


async def wrong(state: State) -> State:
    raise ValueError("this is wrong, and will be")


async def needs_file(state: State) -> State:
    """Fails for good until the file `there` exists."""
    if not Path(state["directory"], "there").exists():
        raise ValueError("the file is not there")
    return {"done": ["found"]}


async def beside_it(state: State) -> State:
    return {"done": ["beside"]}


def mended() -> StateGraph[Any, Any, Any, Any]:
    """One of two parallel nodes fails; a third one follows them."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    for node in (needs_file, beside_it, quick):
        graph.add_node(node)
    graph.add_edge(START, "beside_it")
    graph.add_edge(START, "needs_file")
    graph.add_edge(["needs_file", "beside_it"], "quick")
    return graph


async def endless(state: State) -> State:
    await asyncio.Event().wait()
    return {}


async def deadly(state: State) -> State:
    os.kill(os.getpid(), 9)
    return {}


async def freezing(state: State) -> State:
    """Kills its worker once; then it keeps the interpreter to itself, as a pattern that goes back and forth does."""
    attempt = current_step().attempt
    if attempt == 1:
        os.kill(os.getpid(), 9)
    Path(state["directory"], f"frozen-{attempt}").write_text(str(os.getpid()))
    re.fullmatch(r"(a|a)+", "a" * 60 + "b")
    return {}


async def greedy(state: State) -> State:
    """Fills memory, and lets others work meanwhile."""
    kept = [bytearray(os.urandom(1024) * 16 * 1024)]
    for _ in range(256):
        kept.append(bytearray(kept[0]))
        await asyncio.sleep(0.02)
    return {"done": ["greedy"]}


async def waits_beside(state: State) -> State:
    await asyncio.Event().wait()
    return {}


async def fails_beside(state: State) -> State:
    await report_progress(0.5, "about to fail")
    raise ValueError("the other one need not go on")


def beside() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node(waits_beside)
    graph.add_node(fails_beside)
    graph.add_edge(START, "waits_beside")
    graph.add_edge(START, "fails_beside")
    return graph


async def clash_left(state: State) -> dict[str, str]:
    return {"directory": "left"}


async def clash_right(state: State) -> dict[str, str]:
    return {"directory": "right"}


def clash() -> StateGraph[Any, Any, Any, Any]:
    """Both write one channel that takes one value: the fold fails."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    for node in (clash_left, clash_right):
        graph.add_node(node)
        graph.add_edge(START, node.__name__)
    return graph


async def exits(state: State) -> State:
    raise SystemExit("as the main function of a command line does")


async def complains(state: State) -> State:
    raise ValueError("cannot open caf\udce9.txt\x00" + "x" * 400_000)


async def calls_model(state: State) -> State:
    """Says of three calls that it made them: one that cost something, one of unknown cost, one that failed.

    And of one call of a tool.
    """
    await record_tool_call(ToolCall("calls_model", "search", {"for": "it"}, "found", 2.5, None, None))
    for usage, cost, error in (
        ({"input_tokens": 12, "output_tokens": 5}, 0.5, None),
        ({"input_tokens": 3, "output_tokens": 1}, None, None),
        (dict[str, int](), None, "the provider is away"),
    ):
        request, response = {"ask": "why?"}, {"text": "so"} if error is None else None
        call = ModelCall("calls_model", "openai", "a-model", request, response, usage, cost, 12.5, error, {})
        await record_model_call(call)
    return {"done": ["called"]}


class Odd(TypedDict, total=False):
    values: list[Any]


async def odd(state: Odd) -> Odd:
    """What Python holds and JSON or Postgres do not."""
    return {"values": [float("nan"), "a\x00b", 2**70, "caf\udce9", {1: (2, 3)}]}


async def asks_oddly(state: Odd) -> Odd:
    return {"values": [interrupt({"how many": 2**70})]}


async def heavy(state: Odd) -> Odd:
    return {"values": ["x" * 400_000]}


def of_odd(node: Any) -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Odd)
    graph.add_node(node)
    graph.add_edge(START, node.__name__)
    return graph


async def hang_router(state: State) -> State:
    return {}


def never_returns(state: State) -> str:
    time.sleep(600)
    return END


def sleeps(state: State) -> State:
    """No `async`: it keeps a thread, which nobody can end."""
    Path(state["directory"], f"sleeps-{os.getpid()}").touch()
    time.sleep(600)
    return {}


async def stays(state: State) -> State:
    """Does not let itself be cancelled."""
    Path(state["directory"], f"stays-{os.getpid()}").touch()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await report_progress(0.5, "no")


def hanging() -> StateGraph[Any, Any, Any, Any]:
    """Its router never returns."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node(hang_router)
    graph.add_edge(START, "hang_router")
    graph.add_conditional_edges("hang_router", never_returns, [END])
    return graph


WORKFLOWS = {
    "quick": Workflow(graph=graph_of(quick)),
    "patient": Workflow(graph=graph_of(quick, patient)),
    "calls_model": Workflow(graph=graph_of(calls_model)),
    "flaky": Workflow(graph=graph_of(flaky)),
    "wrong": Workflow(graph=graph_of(wrong)),
    "endless": Workflow(
        graph=graph_of(endless), nodes={"endless": Node(time_limit=timedelta(seconds=1), max_attempts=2)}
    ),
    "exits": Workflow(graph=graph_of(exits)),
    "complains": Workflow(graph=graph_of(complains)),
    "odd": Workflow(graph=of_odd(odd)),
    "asks_oddly": Workflow(graph=of_odd(asks_oddly)),
    "heavy": Workflow(graph=of_odd(heavy)),
    "hanging": Workflow(graph=hanging()),
    "sleeps": Workflow(graph=graph_of(sleeps)),
    "stays": Workflow(graph=graph_of(stays)),
    "deadly": Workflow(graph=graph_of(deadly)),
    "freezing": Workflow(graph=graph_of(freezing)),
    "greedy": Workflow(graph=graph_of(greedy)),
    "beside": Workflow(graph=beside()),
    "mended": Workflow(graph=mended()),
    "clash": Workflow(graph=clash()),
}
