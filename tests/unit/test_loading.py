"""Workflows are loaded with clear errors, and versions tell graphs apart on every machine."""

import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from app.errors import BadWorkflow
from tests.graphs import annotated, named
from tests.graphs.driving import drive, loaded, plain
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

class odd:
    def __bool__(self):
        raise LookupError("a\\0b")

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
    workflow = load_workflows(["tests.graphs.everything"]).served["everything"]
    assert "square" in workflow.nodes
    assert workflow.queues == {"default", "small"}
    assert workflow.node("square").max_attempts == 2
    assert workflow.node("plan").queue == "default"
    assert "goal" in workflow.input_fields


def test_the_version_is_the_declared_one_or_the_same_digest_in_another_process() -> None:
    here = load_workflows(["tests.graphs.everything"]).served["everything"].version
    code = (
        "from workers.graph.loading import load_workflows;"
        "print(load_workflows(['tests.graphs.everything']).served['everything'].version)"
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


def test_versions_stay_what_they_are() -> None:
    """Open sessions of databases that exist go on only in the version in which they began."""
    pinned = "c9dc2e6e 0af1543a 16c41c3a 74c32625 ce70c869 37eef35a 78ef8749 68646d90"
    assert " ".join(loaded(graph).version[:8] for graph in changed_graphs()) == pinned
    assert loaded(annotated.build()).version == "a59f0560adf2815b"
    modules = ["tests.graphs.everything", "tests.graphs.gated", "tests.graphs.walked", "workers.workflows.repair"]
    assert {name: workflow.version for name, workflow in load_workflows(modules).served.items()} == {
        "everything": "7d24705ddafc0e62",
        "gated": "5070a07a4689e621",
        "walked": "25695fd269be5f5a",
        "repair": "88aaaf70e1439832",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "has no WORKFLOWS"),
        ("WORKFLOWS = []", "has no WORKFLOWS"),
        ("import no_such_module_at_all", "it cannot be imported: ModuleNotFoundError: No module named 'no_such_module"),
        ("n = 1\nraise KeyError('MY_SETTING')", r"KeyError: 'MY_SETTING' \(stellwerk_test_workflows.py, line 2\)"),
        ("import sys; sys.exit('no')", r"it cannot be imported: SystemExit: no \(stell"),
        ("def broken(:", r"it cannot be imported: SyntaxError: .*line 1\)$"),
    ],
)
def test_what_is_wrong_with_a_module_leaves_the_others_served(module: Path, source: str, message: str) -> None:
    module.write_text(source)
    found = load_workflows([MODULE, "tests.graphs.gated"])
    assert found.served.keys() == {"gated"}
    (refused,) = found.refused
    assert (refused.workflow, refused.module) == (None, MODULE)
    assert re.search(message, refused.reason), refused.reason
    assert str(refused).startswith(f"the module {MODULE} is refused: ")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("graph()", r"WORKFLOWS\['w'\] is a StateGraph, not a Workflow"),
        ("Workflow(graph=step)", "its graph is a function, not a StateGraph"),
        ("Workflow(graph=graph(), nodes={'stepp': Node()})", "sets up nodes that its graph does not have: stepp"),
        ("Workflow(graph=StateGraph(State))", "it does not compile: .*entrypoint"),
        (
            "Workflow(graph=graph(), version=odd())",
            "its graph cannot be read: LookupError: a\N{REPLACEMENT CHARACTER}b",
        ),
    ],
)
def test_what_is_wrong_with_a_workflow_leaves_the_others_served(module: Path, declared: str, message: str) -> None:
    module.write_text(f"{HEAD}\nWORKFLOWS = {{'w': {declared}, 'good': Workflow(graph=graph())}}")
    found = load_workflows([MODULE])
    assert found.served.keys() == {"good"}
    (refused,) = found.refused
    assert (refused.workflow, refused.module) == ("w", MODULE)
    assert re.search(message, refused.reason), refused.reason
    assert str(refused).startswith(f"the workflow 'w' of the module {MODULE} is refused: ")


def test_a_missing_module_a_name_taken_twice_and_a_module_named_twice(module: Path) -> None:
    module.write_text(f"{HEAD}\nWORKFLOWS = {{'gated': Workflow(graph=graph()), 'own': Workflow(graph=graph())}}")
    found = load_workflows(["no_such_module", "tests.graphs.gated", MODULE, "tests.graphs.gated"])
    assert found.served.keys() == {"gated", "own"}
    assert "step" not in found.served["gated"].nodes, "the first module's"
    missing, taken = found.refused
    assert "No module named 'no_such_module'" in missing.reason and "line" not in missing.reason
    assert (taken.workflow, taken.module) == ("gated", MODULE)
    assert "the module tests.graphs.gated has one of this name, which is served" in taken.reason


def test_allowed_state_types_are_found_by_name() -> None:
    workflow = load_workflows(["tests.graphs.everything"], ["http:HTTPStatus"]).served["everything"]
    from http import HTTPStatus

    assert workflow.codec.decode(workflow.codec.encode(HTTPStatus.OK)) is HTTPStatus.OK
    for name in ("nothing", "http:Nothing", "no_such_module:Name", "math:pi"):
        with pytest.raises(BadWorkflow, match=name):
            load_workflows([], [name])


@pytest.mark.parametrize("names", [named.Name, StrEnum("Other", [(name.name, name.value) for name in named.Name])])
async def test_an_enum_may_name_nodes(names: Any) -> None:
    workflow = loaded(named.build(names))
    assert workflow.nodes == ("plan", "work", "check", "inner")
    assert {type(name) for name in workflow.nodes} == {str}
    assert workflow.node("work").queue == "default"
    assert len(workflow.version) == 16
    ours = await drive(workflow, {"log": []}, {"inner": ["yes"]})
    theirs = await plain(workflow, {"log": []}, {"inner": ["yes"]})
    assert ours.output == theirs.output
    assert ours.output["log"][0] == "planned" and ours.output["log"][-2:] == ["checked", "yes"]


def test_graphs_are_compiled_once() -> None:
    workflow: LoadedWorkflow = loaded(simple())
    assert workflow.orchestration is workflow.orchestration
    assert workflow.attempts is workflow.attempts


def test_the_types_of_the_state_are_found_wherever_annotations_name_them() -> None:
    workflow = loaded(annotated.build())
    assert {cls.__name__ for cls in workflow.state_types} == annotated.NAMES
