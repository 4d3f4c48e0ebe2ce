"""Which classes a graph's state may hold without being named: found in its schemas, its nodes, its modules."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel

from tests.values.classes import Address, Colour
from workers.graph.schemas import state_types

TYPES_OF_AN_ANSWER = [lambda answer: answer, ToolStrategy, ProviderStrategy]


class State(TypedDict, total=False):
    address: Address | None
    rest: Any


def _agent(wanted: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    """An agent whose answer has a class that is local to a function, and is returned beside it."""

    class Weather(BaseModel):
        degrees: float

    model = GenericFakeChatModel(messages=iter([]))
    return create_agent(model, [], response_format=wanted(Weather))


def _names(graph: Any) -> set[str]:
    return {cls.__name__ for cls in state_types(graph)}


def test_types_of_the_schema_are_found_and_typed_dicts_are_none() -> None:
    assert state_types(StateGraph(State)) == {Address}


@pytest.mark.parametrize("wanted", TYPES_OF_AN_ANSWER, ids=["plain", "tool", "provider"])
def test_the_answer_of_an_agent_is_found_in_its_nodes(wanted: Any) -> None:
    assert "Weather" in _names(_agent(wanted).builder)


def test_an_agent_that_a_node_calls_is_looked_into() -> None:
    agent = _agent(ToolStrategy)

    async def ask(state: State) -> State:
        return {"rest": await agent.ainvoke({"messages": []})}

    graph = StateGraph(State)
    graph.add_node(ask)
    graph.add_edge(START, "ask")
    assert "Weather" in _names(graph)


def test_a_class_that_a_node_closes_over_is_found() -> None:
    class Local(BaseModel):
        x: int

    def make(kinds: list[type]) -> Any:
        def node(state: State) -> State:
            return {"rest": kinds[0]}

        return node

    graph = StateGraph(State)
    graph.add_node("node", make([Local, Colour]))
    assert {Local, Colour} <= state_types(graph)


FLOW = """
from typing import Any, TypedDict
from langgraph.graph import START, StateGraph
from workers.workflow import Workflow
import shapes

class State(TypedDict, total=False):
    x: Any

def node(state: State) -> State:
    return {}

graph = StateGraph(State)
graph.add_node(node)
graph.add_edge(START, "node")
WORKFLOWS = {"flow": Workflow(graph)}
"""
SHAPES = "from dataclasses import dataclass\n@dataclass\nclass Shape:\n    x: int\n"
LOAD = """import sys, orjson
from workers.graph.loading import load_workflows
flow = load_workflows(['flow']).served['flow']
"""


def _python(code: str, directory: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", LOAD + code], input=given, capture_output=True, env=environment, check=False
    )


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "late.py").write_text(SHAPES)
    return tmp_path


def test_another_worker_finds_a_class_that_stands_in_no_schema(modules: Path) -> None:
    write = "import shapes; sys.stdout.buffer.write(orjson.dumps(flow.codec.encode([shapes.Shape(3)])))"
    written = _python(write, modules)
    read = _python("print(flow.codec.decode(orjson.loads(sys.stdin.buffer.read())))", modules, written.stdout)
    assert read.stdout.decode().strip() == "[Shape(x=3)]", read.stderr.decode()


def test_what_only_this_worker_has_imported_is_refused_when_it_is_written(modules: Path) -> None:
    done = _python("import late\nflow.codec.encode({'x': late.Shape(3)})", modules)
    assert (
        "UnstorableValue: at x: a value of type late:Shape cannot be stored: late was not imported when the workflow "
        "was loaded, so another worker may lack it; import it at the top of the workflow's module"
    ) in done.stderr.decode()


def test_a_worker_that_lacks_the_class_says_what_to_do(modules: Path) -> None:
    write = "import shapes; sys.stdout.buffer.write(orjson.dumps(flow.codec.encode([shapes.Shape(3)])))"
    written = _python(write, modules)
    (modules / "flow.py").write_text(FLOW.replace("import shapes", ""))
    read = _python("flow.codec.decode(orjson.loads(sys.stdin.buffer.read()))", modules, written.stdout)
    assert "shapes:Shape is not known to this worker: import its module at the top" in read.stderr.decode()
