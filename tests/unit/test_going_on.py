"""A session that goes on from another one's end is the next turn on one thread of plain LangGraph."""

import operator
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from tests.graphs.driving import loaded
from workers.graph import fold
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import run_node
from workers.graph.results import StepResult


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    log: Annotated[list[Any], operator.add]
    open: Annotated[Any, UntrackedValue]


def remembering() -> Any:
    graph: Any = StateGraph(State)
    graph.add_node("count", lambda state: {"log": [f"turn {len(state.get('log', [])) + 1}"]})
    graph.add_edge(START, "count")
    return graph.compile(checkpointer=True)


def conversation() -> Any:
    memory = remembering()

    def answer(state: State, config: RunnableConfig) -> State:
        said = f"{len(state['messages'])} so far, step {config['metadata']['langgraph_step']}, {state.get('open')}"
        return {"messages": [AIMessage(said)], "open": "opened"}

    async def count(state: State) -> State:
        return {"log": [(await memory.ainvoke({"log": []}))["log"], state.get("open")]}

    graph: Any = StateGraph(State)
    graph.add_node(answer)
    graph.add_node(count)
    graph.add_node("joined", lambda state: {"log": ["joined"]})
    graph.add_node("never", lambda state: {})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", "count")
    graph.add_edge(["count", "never"], "joined")  # half filled for ever
    return graph


async def turn(workflow: LoadedWorkflow, given: Mapping[str, Any], before: Any, session_id: str) -> fold.Fold:
    """`before` is the final state of the turn before, as a session stores it."""
    state = None if before is None else workflow.codec.decode(orjson.loads(before))
    folded = await fold.start(workflow, given, session_id=session_id, start_state=state)
    while not folded.finished:
        results = {}
        for step in folded.pending:
            result = await run_node(workflow, folded.snapshot, step.path)
            assert isinstance(result, StepResult)
            results[step.path] = result
        folded = await fold.fold(workflow, folded.snapshot, results)
    return folded


async def test_turns_are_as_on_one_thread() -> None:
    workflow = loaded(conversation())
    thread = conversation().compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "one"}}
    before: bytes | None = None
    for number in (1, 2, 3):
        given = {"messages": [{"role": "user", "content": f"question {number}"}]}
        ours = await turn(workflow, given, before, f"session-{number}")
        theirs = await thread.ainvoke(given, config)
        assert [message.content for message in ours.output["messages"]] == [m.content for m in theirs["messages"]]
        assert ours.output["log"] == theirs["log"]
        ids = [message.id for message in ours.output["messages"]]
        assert len(set(ids)) == 2 * number, "those of different sessions never meet"
        before = orjson.dumps(workflow.codec.encode(ours.final_state))


async def test_what_a_session_goes_on_from_is_its_own_and_no_part_of_the_parent() -> None:
    workflow = loaded(conversation())
    first = await turn(workflow, {"messages": "hi"}, None, "parent")
    state = workflow.codec.encode(first.final_state)
    assert first.final_state is not None
    assert "open" not in first.final_state["channel_values"], "an untracked value ends with its session"
    again = [await turn(workflow, {"messages": "and"}, orjson.dumps(state), "child") for _ in range(2)]
    assert again[0].values == again[1].values, "a rebuild needs nothing but what the child's log holds"
