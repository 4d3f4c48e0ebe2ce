"""Workflows are loaded with clear errors, and versions tell graphs apart on every machine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from app.errors import BadWorkflow
from tests.graphs.driving import loaded
from workers.graph.loading import LoadedWorkflow, load_workflows

MODULE = "stellwerk_test_workflows"
HEAD = """
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from workers.workflow import Node, Workflow

class State(TypedDict):
    n: int

def step(state: State) -> State:
    return state

def graph():
    made = StateGraph(State)
    made.add_node("step", step)
    made.add_edge(START, "step")
    return made
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / f"{MODULE}.py"
    sys.modules.pop(MODULE, None)


def test_the_sample_module_loads() -> None:
    workflow = load_workflows(["tests.graphs.everything"])["everything"]
    assert "square" in workflow.nodes
    assert workflow.queues == {"default", "small"}
    assert workflow.node("square").max_attempts == 2
    assert workflow.node("plan").queue == "default"
    assert "goal" in workflow.input_fields


def test_the_version_is_the_declared_one_or_the_same_digest_in_another_process() -> None:
    here = load_workflows(["tests.graphs.everything"])["everything"].version
    code = (
        "from workers.graph.loading import load_workflows;"
        "print(load_workflows(['tests.graphs.everything'])['everything'].version)"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here
    assert loaded(simple(), version="7").version == "7"


class State(TypedDict, total=False):
    n: int


class Wider(TypedDict, total=False):
    n: int
    m: str


def go(state: State) -> State:
    return state


def route(state: State) -> Literal["go", "__end__"]:
    return "__end__"


def simple(schema: Any = State, name: str = "go", defer: bool = False) -> Any:
    graph: Any = StateGraph(schema)
    graph.add_node(name, go, defer=defer)
    graph.add_edge(START, name)
    return graph


def changed_graphs() -> list[Any]:
    inner = simple()
    branched, joined, nested, wider = simple(), simple(), StateGraph[Any](State), StateGraph[Any](State)
    branched.add_conditional_edges("go", route)
    joined.add_node("other", go)
    joined.add_edge(["go"], "other")
    nested.add_node("go", inner.compile())
    nested.add_edge(START, "go")
    wider.add_node("go", simple(Wider).compile())
    wider.add_edge(START, "go")
    return [simple(), simple(Wider), simple(name="gone"), simple(defer=True), branched, joined, nested, wider]


def test_each_change_of_nodes_edges_branches_schemas_or_subgraphs_is_another_version() -> None:
    versions = [loaded(graph).version for graph in changed_graphs()]
    assert len(set(versions)) == len(versions)
    assert versions == [loaded(graph).version for graph in changed_graphs()]
    assert loaded(simple().compile()).version == versions[0], "compiled or not"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "has no WORKFLOWS"),
        ("WORKFLOWS = []", "has no WORKFLOWS"),
        ("import no_such_module_at_all", "cannot be imported: No module named 'no_such_module_at_all'"),
        (HEAD + "WORKFLOWS = {'w': graph()}", "is a StateGraph, not a Workflow"),
        (HEAD + "WORKFLOWS = {'w': Workflow(graph=step)}", "is a function, not a StateGraph"),
        (
            HEAD + "WORKFLOWS = {'w': Workflow(graph=graph(), nodes={'stepp': Node()})}",
            "workflow 'w' sets up nodes that its graph does not have: stepp",
        ),
        (HEAD + "WORKFLOWS = {'w': Workflow(graph=StateGraph(State))}", "does not compile: .*entrypoint"),
        (
            HEAD + "WORKFLOWS = {'w': Workflow(graph=graph().compile(interrupt_before=['step']))}",
            r"call interrupt\(\)",
        ),
        (
            HEAD
            + "g = StateGraph(State); g.add_node('step', step, error_handler=step)\n"
            + "g.add_edge(START, 'step'); WORKFLOWS = {'w': Workflow(graph=g)}",
            "error handlers",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_said(module: Path, source: str, message: str) -> None:
    module.write_text(source)
    with pytest.raises(BadWorkflow, match=message):
        load_workflows([MODULE])


def test_a_missing_module_and_a_name_taken_twice() -> None:
    with pytest.raises(BadWorkflow, match="no_such_module cannot be imported"):
        load_workflows(["no_such_module"])
    with pytest.raises(BadWorkflow, match="another module declares a workflow named 'everything'"):
        load_workflows(["tests.graphs.everything", "tests.graphs.everything"])


def test_delta_channels_are_refused_also_in_subgraphs(module: Path) -> None:
    module.write_text(
        HEAD
        + """
from langgraph.channels import DeltaChannel

class Delta(TypedDict):
    n: Annotated[list, DeltaChannel(lambda state, writes: state)]

inner = StateGraph(Delta)
inner.add_node("step", step)
inner.add_edge(START, "step")
outer = graph()
outer.add_node("inner", inner.compile())
WORKFLOWS = {"w": Workflow(graph=outer)}
"""
    )
    with pytest.raises(BadWorkflow, match="DeltaChannel, n, which is not supported"):
        load_workflows([MODULE])


def test_allowed_state_types_are_found_by_name() -> None:
    workflow = load_workflows(["tests.graphs.everything"], ["http:HTTPStatus"])["everything"]
    from http import HTTPStatus

    assert workflow.codec.decode(workflow.codec.encode(HTTPStatus.OK)) is HTTPStatus.OK
    for name in ("nothing", "http:Nothing", "no_such_module:Name", "math:pi"):
        with pytest.raises(BadWorkflow, match=name):
            load_workflows([], [name])


def test_graphs_are_compiled_once() -> None:
    workflow: LoadedWorkflow = loaded(simple())
    assert workflow.orchestration is workflow.orchestration
    assert workflow.attempts is workflow.attempts


def test_the_types_of_the_state_are_found_wherever_annotations_name_them() -> None:
    from tests.graphs import annotated

    workflow = loaded(annotated.build())
    assert {cls.__name__ for cls in workflow.state_types} == annotated.NAMES
