"""What of LangGraph is refused when a graph is loaded: with its place, and only where it would not work."""

import asyncio
import operator
import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from typing import IO, Annotated, Any, NotRequired, TextIO, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.channels import DeltaChannel, UntrackedValue
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from app.errors import BadWorkflow
from tests.graphs.driving import drive, loaded, plain
from workers.graph.loading import checked
from workers.graph.unsupported import unsupported
from workers.workflow import Workflow


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def step(state: Any) -> Any:
    return {"log": ["step"]}


def graph(node: Any = step, schema: Any = State, name: str = "step", **more: Any) -> Any:
    made: Any = StateGraph(schema)
    made.add_node(name, node, **more)
    made.add_edge(START, name)
    return made


def reasons(made: Any) -> list[str]:
    compiled = None if isinstance(made, StateGraph) else made
    return list(unsupported(made if compiled is None else compiled.builder, compiled))


def refusal(made: Any) -> str:
    (reason,) = reasons(made)
    return reason


STOPS = graph().compile(interrupt_before=["step"])


def calls_it(state: Any) -> Any:
    return STOPS.invoke(state)


async def calls_it_later(state: Any) -> Any:
    return await STOPS.ainvoke(state)


def recurs(state: Any) -> Any:
    return RECURSIVE.invoke(state) if state.get("log") else None


RECURSIVE = graph(recurs).compile()


@pytest.mark.parametrize(
    ("made", "place"),
    [
        (STOPS, "it is compiled with interrupt_before=step"),
        (graph().compile(interrupt_after="*"), r"it is compiled with interrupt_after=\*"),
        (graph(STOPS, name="inner"), "the subgraph in its node 'inner' is compiled with interrupt_before=step"),
        (graph(graph(STOPS, name="inner").compile(), name="outer"), "in its node 'outer / inner' is"),
        (graph(RunnableLambda(step) | STOPS), "in its node 'step' is"),
        (graph(STOPS.with_retry()), "in its node 'step' is"),
        (graph(RunnableLambda(calls_it)), "in its node 'step' is"),
        (graph(calls_it), "in its node 'step' is"),
        (graph(calls_it_later), "in its node 'step' is"),
        (graph(STOPS.with_config(tags=["a"])), "in its node 'step' is"),
        (graph(graph().compile(interrupt_before=["step"], checkpointer=False)), "in its node 'step' is"),
    ],
)
def test_static_breakpoints_wherever_they_can_be_seen(made: Any, place: str) -> None:
    reason = refusal(made)
    assert re.search(place, reason) and reason.endswith("; call interrupt() in the node instead"), reason


def test_both_breakpoints_and_the_second_graph_of_a_node_are_told() -> None:
    fine = graph().compile()
    both = graph().compile(interrupt_before=["step"], interrupt_after=["step"])

    def calls_two(state: Any) -> Any:
        return both.invoke(fine.invoke(state))

    assert [reason.split("=")[0].split()[-1] for reason in reasons(graph(calls_two))] == [
        "interrupt_before",
        "interrupt_after",
    ]


def test_a_graph_that_calls_itself_is_seen_once() -> None:
    assert reasons(RECURSIVE) == []


def failing(state: Any) -> Any:
    raise ValueError("no")


def handles(state: Any) -> Any:
    return {"log": ["handled"]}


def test_error_handlers_are_refused_but_for_those_of_subgraphs() -> None:
    reason = refusal(graph(failing, error_handler=handles))
    assert reason.startswith("its node 'step' has an error handler") and "make a subgraph of the node" in reason
    everywhere = graph(failing)
    everywhere.set_node_defaults(error_handler=handles)
    assert "set_node_defaults() gives its nodes an error handler" in refusal(everywhere)
    assert "set_node_defaults() gives its nodes an error handler" in refusal(everywhere.compile())
    assert reasons(graph(graph(failing, error_handler=handles).compile())) == []


@pytest.mark.parametrize("asks", [False, True])
async def test_the_error_handler_of_a_subgraph_runs(asks: bool) -> None:
    def handles_it(state: Any) -> Any:
        return {"log": [f"handled{interrupt('How?') if asks else ''}"]}

    workflow = loaded(graph(graph(failing, error_handler=handles_it).compile(), name="inner"))
    outcome = await drive(workflow, {"log": []}, {"inner": [", well"]} if asks else {})
    assert outcome.output == {"log": ["handled, well" if asks else "handled"]}


def joined(before: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*before, *(item for write in writes for item in write)]


class Delta(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(joined)]


async def test_delta_channels_are_refused_wherever_a_snapshot_would_hold_them() -> None:
    assert "its state has a DeltaChannel, 'log'" in refusal(graph(schema=Delta))
    inner = graph(schema=Delta)
    assert "the state of the subgraph in its node 'step' has a DeltaChannel" in refusal(graph(inner.compile()))
    unkept = graph(inner.compile(checkpointer=False))
    assert reasons(unkept) == []
    ours, theirs = await drive(loaded(unkept), {"log": []}), await plain(loaded(unkept), {"log": []})
    assert ours.output == theirs.output == {"log": ["step"]}


@pytest.mark.parametrize(
    "schema", [list, list[str], Annotated[list[str], operator.add], Annotated[Sequence[str], operator.add], str]
)
def test_a_state_that_is_no_object(schema: Any) -> None:
    assert re.match(
        r"its state is a (list|str|Sequence), not an object; make it a TypedDict", refusal(graph(schema=schema))
    )


def test_an_output_that_is_no_object() -> None:
    made = StateGraph[Any](State, output_schema=list)
    made.add_node("step", step)
    assert refusal(made).startswith("its output is a list, not an object")


def replaced(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {**before, **after}


@pytest.mark.parametrize("schema", [dict, dict[str, Any], Annotated[dict[str, Any], replaced]])
async def test_a_state_that_is_one_dict_is_one(schema: Any) -> None:
    made = graph(schema=schema)
    assert reasons(made) == []
    assert (await drive(loaded(made), {"log": []})).output == {"log": ["step"]}


@dataclass
class Called:
    n: int

    def __call__(self) -> int:
        return self.n


def first(before: Any, after: Any) -> Any:
    return before


UNSTORABLE: list[Any] = [threading.Lock, asyncio.Lock, threading.Event, socket.socket, ssl.SSLSocket, IO[str], TextIO]
UNSTORABLE += [Callable, Callable[[int], int], NotRequired[Callable[[], None]], Annotated[threading.RLock, "a note"]]
UNSTORABLE += [IO[bytes] | socket.socket, Annotated[Callable[[], None], first]]
STORABLE: list[Any] = [Any, object, Called, type, int | None, socket.socket | None, list[threading.Event]]
STORABLE += [dict[str, Callable[[], int]], Annotated[socket.socket, UntrackedValue]]
STORABLE += [NotRequired[Annotated[Callable[[], None], UntrackedValue]]]


@pytest.mark.parametrize("annotation", UNSTORABLE)
def test_a_value_that_can_never_be_stored(annotation: Any) -> None:
    made = graph(schema=make_dataclass("Holds", [("log", list[str]), ("held", annotation)]))
    assert re.match(r"its state's 'held' holds what cannot be stored \(.*UntrackedValue", refusal(made))


@pytest.mark.parametrize("annotation", STORABLE)
def test_a_value_that_might_be_stored(annotation: Any) -> None:
    made = graph(schema=make_dataclass("Holds", [("log", list[str]), ("held", annotation)]))
    assert reasons(made) == []


def test_a_functional_entrypoint_is_refused_as_a_workflow_and_not_in_a_node() -> None:
    @entrypoint()
    def functional(state: Any) -> Any:
        return {"log": ["functional"]}

    with pytest.raises(BadWorkflow, match=r"functional @entrypoint, .*; call it in a node of a StateGraph"):
        checked("w", Workflow(graph=functional), ())  # type: ignore[arg-type]  # that is what is refused
    assert reasons(graph(functional)) == []


def test_everything_that_is_wrong_is_told_at_once() -> None:
    made = graph(STOPS, schema=Delta)
    with pytest.raises(BadWorkflow, match=r"its state has a DeltaChannel.*; the subgraph in its node 'step' is"):
        checked("w", Workflow(graph=made), ())
