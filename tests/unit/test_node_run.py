"""An attempt runs its node as plain LangGraph does, and takes what it returned."""

import contextvars
import operator
import threading
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel, field_validator

from app.errors import FoldMismatch, SnapshotVersionMismatch
from tests.graphs.driving import loaded
from workers.graph import fold, node_run
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NO_ANSWER, NodeInterrupted, OnStream, World
from workers.graph.results import StepResult


class State(TypedDict, total=False):
    text: str
    answers: Annotated[list[Any], operator.add]


def workflow_of(node: Any, **compiled_with: Any) -> Any:
    graph: Any = StateGraph(State)
    graph.add_node("node", node, retry_policy=RetryPolicy(max_attempts=3, initial_interval=0.01))
    graph.add_edge(START, "node")
    return loaded(graph.compile(**compiled_with) if compiled_with else graph)


async def run_node(
    workflow: LoadedWorkflow,
    graph_input: Any,
    *,
    stands: bytes | None = None,
    answer: Any = NO_ANSWER,
    answers: Sequence[Any] = (),
    on_stream: OnStream | None = None,
    session_id: str = "a-session",
) -> StepResult | NodeInterrupted:
    """The only node of the graph, on this input."""
    first = await fold.start(workflow, graph_input, session_id=session_id)
    world = World(on_stream=on_stream)
    return await node_run.run_node(
        workflow, first.snapshot, "node:node", stands=stands, answer=answer, answers=answers, world=world
    )


RETURNED = [
    None,
    {"text": "x", "unknown": (1, 2)},
    Command(update={"text": "x"}, goto="node"),
    [Command(goto=Send("node", {"n": 1})), {"text": "y"}],
    Command(graph=Command.PARENT, goto="elsewhere"),
    "no update at all",
]


@pytest.mark.parametrize("value", RETURNED, ids=str)
async def test_what_a_node_returns_comes_raw(value: Any) -> None:
    async def node(state: State) -> Any:
        return value

    assert await run_node(workflow_of(node), {}) == StepResult(value)


async def test_sync_nodes_and_runnables_run_with_the_callers_context() -> None:
    asked: contextvars.ContextVar[str] = contextvars.ContextVar("asked")
    asked.set("by the runner")

    def node(state: State) -> Any:
        return {"text": f"{asked.get()} {threading.current_thread() is threading.main_thread()}"}

    assert await run_node(workflow_of(node), {}) == StepResult({"text": "by the runner False"})
    runnable: Any = RunnableLambda(lambda state: {"text": asked.get() + state["text"]})
    assert await run_node(workflow_of(runnable), {"text": "!"}) == StepResult({"text": "by the runner!"})


async def test_output_of_the_stream_writer_comes_in_order_before_the_end() -> None:
    seen: list[Any] = []

    async def take(item: Any) -> None:
        seen.append(item)

    def node(state: State) -> Any:
        write = get_stream_writer()
        for n in range(3):
            write({"n": n})
        return {}

    await run_node(workflow_of(node), {}, on_stream=take)
    assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_output_comes_while_the_node_runs_from_subgraphs_too() -> None:
    arrived = threading.Event()

    async def take(item: Any) -> None:
        assert item == "from within"
        arrived.set()

    def inner_node(state: State) -> State:
        get_stream_writer()("from within")
        assert arrived.wait(10), "the output came only after the node's end"
        return {"text": "x"}

    inner: Any = StateGraph(State)
    inner.add_node(inner_node)
    inner.add_edge(START, "inner_node")
    outcome = await run_node(workflow_of(inner.compile()), {}, on_stream=take)
    assert outcome == StepResult({"text": "x", "answers": []})


async def test_runtime_and_config_are_injected_as_in_langgraph() -> None:
    async def node(state: State, config: RunnableConfig, runtime: Runtime) -> Any:
        assert runtime.store is not None
        await runtime.store.aput(("notes",), "key", {"seen": True})
        return {
            "text": config["metadata"]["langgraph_node"],
            "answers": [config["configurable"]["thread_id"]],
        }

    store = InMemoryStore()
    outcome = await run_node(workflow_of(node, store=store), {}, session_id="s-1")
    assert outcome == StepResult({"text": "node", "answers": ["s-1"]})
    assert store.get(("notes",), "key") is not None


async def test_an_error_comes_out_as_it_is_and_at_once() -> None:
    attempts: list[int] = []

    class Broken(Exception):
        pass

    async def node(state: State) -> Any:
        attempts.append(1)
        raise Broken("ouch")

    with pytest.raises(Broken, match="ouch"):
        await run_node(workflow_of(node), {})
    assert attempts == [1], "a retry is a new attempt of the step, not LangGraph's"


async def ask_twice(state: State) -> State:
    get_stream_writer()("thinking")
    first = interrupt({"first": (1, 2)})
    get_stream_writer()(f"got {first}")
    second = interrupt("second?")
    return {"answers": [first, second]}


@pytest.mark.parametrize("answers", [["yes", "no"], [None, {"a": (1,)}], [[], False]])
async def test_several_interrupts_are_answered_one_by_one_or_again_from_the_start(answers: list[Any]) -> None:
    workflow = workflow_of(ask_twice)
    first = await run_node(workflow, {"text": "in"})
    assert isinstance(first, NodeInterrupted)
    assert first.question == {"first": (1, 2)}
    second = await run_node(workflow, {"text": "in"}, stands=first.snapshot, answer=answers[0])
    assert isinstance(second, NodeInterrupted)
    assert second.question == "second?"
    end = await run_node(workflow, {"text": "in"}, stands=second.snapshot, answer=answers[1])
    assert end == StepResult({"answers": answers})

    again = await run_node(workflow, {"text": "in"}, answers=answers[:1])
    assert isinstance(again, NodeInterrupted)
    assert again.question == "second?"
    assert await run_node(workflow, {"text": "in"}, answers=answers) == end
    with pytest.raises(FoldMismatch, match="fewer questions"):
        await run_node(workflow, {"text": "in"}, answers=[*answers, "one more"])


async def test_output_that_was_streamed_before_is_not_streamed_again() -> None:
    seen: list[Any] = []

    async def take(item: Any) -> None:
        seen.append(item)

    await run_node(workflow_of(ask_twice), {}, answers=["a", "b"], on_stream=take)
    assert seen == ["thinking", "got a"], "one run of the node: the last"


async def test_a_subgraph_goes_on_where_it_asked() -> None:
    drafted: list[str] = []

    async def draft(state: State) -> State:
        drafted.append(state["text"])
        return {"text": "a draft"}

    async def review(state: State) -> State:
        return {"answers": [(state["text"], interrupt("good?"))]}

    inner: Any = StateGraph(State)
    inner.add_node(draft)
    inner.add_node(review)
    inner.add_edge(START, "draft")
    inner.add_edge("draft", "review")
    workflow = workflow_of(inner.compile())
    asked = await run_node(workflow, {"text": "in", "answers": []})
    assert isinstance(asked, NodeInterrupted)
    end = await run_node(workflow, {"text": "in", "answers": []}, stands=asked.snapshot, answer="yes")
    assert end == StepResult({"text": "a draft", "answers": [("a draft", "yes")]})
    assert drafted == ["in"], "the part before the question does not run again"


async def test_parallel_questions_of_a_subgraph_come_in_the_order_of_their_paths() -> None:
    async def ask(state: Any) -> State:
        return {"answers": [interrupt(state["n"])]}

    inner: Any = StateGraph(State)
    inner.add_node(ask)
    inner.add_conditional_edges(START, lambda state: [Send("ask", {"n": n}) for n in range(12)], ["ask"])
    workflow = workflow_of(inner.compile())
    outcome: Any = await run_node(workflow, {})
    for n in range(12):
        assert outcome.question == n
        outcome = await run_node(workflow, {}, stands=outcome.snapshot, answer=f"to {n}")
    assert outcome.returned["answers"] == [f"to {n}" for n in range(12)]


async def test_a_subgraph_may_command_its_parent() -> None:
    async def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"text": "left"}, goto="elsewhere")

    inner: Any = StateGraph(State)
    inner.add_node(leave)
    inner.add_edge(START, "leave")
    outcome = await run_node(workflow_of(inner.compile()), {})
    assert outcome == StepResult(Command(update={"text": "left"}, goto="elsewhere"))


async def test_the_form_of_an_answer_is_given_with_the_question() -> None:
    class Decision(BaseModel):
        approve: bool

    async def node(state: State) -> State:
        return {"text": repr(interrupt("approve?", response_schema=Decision))}

    workflow = workflow_of(node)
    asked = await run_node(workflow, {})
    assert isinstance(asked, NodeInterrupted)
    assert asked.response_schema is not None
    assert asked.response_schema["required"] == ["approve"]
    end = await run_node(workflow, {}, stands=asked.snapshot, answer={"approve": True})
    assert end == StepResult({"text": "Decision(approve=True)"})


async def test_a_snapshot_of_another_version_is_not_resumed() -> None:
    asked = await run_node(workflow_of(ask_twice), {})
    assert isinstance(asked, NodeInterrupted)
    with pytest.raises(SnapshotVersionMismatch):
        other = loaded(workflow_of(ask_twice).builder, version="2")
        await run_node(other, {}, stands=asked.snapshot, answer=1)


async def test_an_answer_that_only_the_node_finds_wrong_leaves_the_question_open() -> None:
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            assert n % 2 == 0, "it is odd"
            return n

    async def node(state: State) -> State:
        return {"answers": [interrupt("how many?", response_schema=Even).n]}

    told: list[Any] = []

    async def take(item: Any) -> None:
        told.append(item)

    workflow = workflow_of(node)
    asked = await run_node(workflow, {})
    assert isinstance(asked, NodeInterrupted)
    again = await run_node(workflow, {}, stands=asked.snapshot, answer={"n": 1}, on_stream=take)
    assert again == asked
    assert "it is odd" in told[0]
    assert await run_node(workflow, {}, stands=asked.snapshot, answer={"n": 2}) == StepResult({"answers": [2]})
    assert await run_node(workflow, {}, answers=[{"n": 1}, {"n": 2}]) == StepResult({"answers": [2]})
