"""The engine ends where plain LangGraph ends, and says so when it cannot."""

import asyncio
import operator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Annotated, Any, Literal, TypedDict

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

from app.errors import FoldFailed, FoldMismatch, NoCurrentStep, SnapshotVersionMismatch, UnstorableValue
from tests.graphs import everything
from tests.graphs.driving import drive, loaded, plain
from workers.graph import fold, invocation, node_run
from workers.graph.fold import Fold
from workers.graph.loading import LoadedWorkflow
from workers.graph.results import StepResult
from workers.graph.snapshot import FORMAT
from workers.workflow import Node, Workflow


async def folded_with(workflow: LoadedWorkflow, snapshot: bytes, returned: dict[str, Any]) -> Fold:
    return await fold.fold(workflow, snapshot, {path: StepResult(value) for path, value in returned.items()})


class Log(TypedDict, total=False):
    count: int
    last: str
    entries: Annotated[list[str], operator.add]


def graph_of(*nodes: Any, schema: Any = Log) -> Any:
    graph: Any = StateGraph(schema)
    for node in nodes:
        graph.add_node(node)
    return graph


async def a(state: Log) -> Log:
    return {"entries": ["a"]}


async def b(state: Log) -> Log:
    return {"entries": ["b"]}


async def c(state: Log) -> Log:
    return {"entries": [f"c after {len(state['entries'])}"]}


async def assert_like_plain(graph: Any, graph_input: Any, answers: Any = None) -> Any:
    ours = await drive(loaded(graph), graph_input, answers)
    theirs = await plain(loaded(graph), graph_input, answers)
    assert ours.output == theirs.output
    assert repr(ours.output) == repr(theirs.output)  # types too
    assert ours.deltas == theirs.deltas
    return ours


async def test_everything_ends_as_in_plain_langgraph() -> None:
    outcome = await assert_like_plain(everything.build(), {"goal": "all of it"}, everything.ANSWERS)
    assert len(outcome.deltas["square"]) == everything.FAN_OUT
    assert outcome.output["span"] == (1, "two", (3.0,))
    assert outcome.output["notes"][-1] == "audited", "the deferred node comes last"


def larger(old: int, new: int) -> int:
    return max(old, new)


class Harvest(TypedDict, total=False):
    fields: list[int]
    loads: Annotated[list[str], operator.add]
    best: Annotated[int, larger]
    last: str


async def reap(state: Any) -> Any:
    """By `Send`; some go on by themselves, some return nothing."""
    number = state["number"]
    update: Harvest = {"loads": [f"field {number}"], "best": number}
    return Command(goto="store", update=update) if number % 3 == 0 else update if number % 3 == 1 else None


async def look(state: Harvest) -> Harvest:
    return {"loads": ["looked"], "last": "look"}


async def store(state: Harvest) -> Harvest:
    return {"loads": [f"stored {len(state['loads'])}"], "last": "store"}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.randoms(use_true_random=False))
async def test_the_order_in_which_steps_complete_changes_nothing(fields: list[int], choice: Random) -> None:
    graph = graph_of(reap, look, store, schema=Harvest)
    graph.add_conditional_edges(START, lambda state: ["look", *(Send("reap", {"number": n}) for n in state["fields"])])
    graph.add_edge("look", "store")
    workflow = loaded(graph)
    first = await drive(workflow, {"fields": fields}, order=lambda steps: None)
    again = await drive(workflow, {"fields": fields}, order=choice.shuffle)
    assert again.output == first.output and again.deltas == first.deltas
    paths = [[[step.path for step in fold.read(workflow, s).pending] for s in run.snapshots] for run in (first, again)]
    assert paths[0] == paths[1]
    assert (await plain(workflow, {"fields": fields})).output == first.output


async def test_a_loop_goes_beyond_langgraphs_recursion_limit() -> None:
    async def count(state: Log) -> Log:
        return {"count": state["count"] + 1}

    def again(state: Log) -> Literal["count", "__end__"]:
        return "count" if state["count"] < 40 else "__end__"

    graph = graph_of(count)
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", again)
    outcome = await assert_like_plain(graph, {"count": 0})
    assert outcome.supersteps == 40


async def test_an_answer_gives_all_steps_anew_where_langgraphs_own_limit_is_lowered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `LANGGRAPH_DEFAULT_RECURSION_LIMIT`, which is read when LangGraph is imported."""
    monkeypatch.setattr(invocation, "DEFAULT_RECURSION_LIMIT", 2)

    async def asks(state: Log) -> Log:
        return {"last": interrupt("go on?")}

    graph = graph_of(a, asks, b)
    for source, target in ((START, "a"), ("a", "asks"), ("asks", "b"), ("b", END)):
        graph.add_edge(source, target)
    ended = await drive(loaded(graph), {}, {"asks": ["yes"]})
    assert ended.output == {"last": "yes", "entries": ["a", "b"]}


async def test_a_join_waits_for_both() -> None:
    graph = graph_of(a, b, c)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge(["a", "b"], "c")
    outcome = await assert_like_plain(graph, {})
    assert outcome.output["entries"] == ["a", "b", "c after 2"]


async def test_a_join_remembers_who_came_in_an_earlier_superstep() -> None:
    async def late(state: Log) -> Log:
        return {"entries": ["late"]}

    graph = graph_of(a, b, late, c)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge("b", "late")
    graph.add_edge(["a", "late"], "c")
    outcome = await assert_like_plain(graph, {})
    assert outcome.output["entries"] == ["a", "b", "late", "c after 3"]


async def test_states_of_pydantic_models_and_dataclasses() -> None:
    class Item(BaseModel):
        tags: tuple[str, ...]

    class Model(BaseModel):
        count: int = 0
        item: Item | None = None

    async def make(state: Model) -> dict[str, Any]:
        assert isinstance(state, Model)
        return {"count": state.count + 1, "item": Item(tags=("x",))}

    async def keep(state: Model) -> dict[str, Any]:
        assert isinstance(state.item, Item)
        return {"count": state.count + 1}

    graph = graph_of(make, keep, schema=Model)
    graph.add_edge(START, "make")
    graph.add_edge("make", "keep")
    await assert_like_plain(graph, {"count": 1})

    @dataclass
    class Data:
        count: int
        pair: tuple[int, int] = (0, 0)

    async def step(state: Data) -> Data:
        return Data(state.count + 1, (1, 2))

    graph = graph_of(step, schema=Data)
    graph.add_edge(START, "step")
    await assert_like_plain(graph, {"count": 1})


async def test_a_nodes_own_input_schema_and_private_state() -> None:
    class Private(TypedDict):
        secret: tuple[int, ...]

    class Output(TypedDict):
        last: str

    async def write(state: Log) -> Private:
        return {"secret": (4, 2)}

    async def reveal(state: Private) -> Log:
        assert set(state) == {"secret"}
        return {"last": repr(state["secret"])}

    graph: Any = StateGraph(Log, output_schema=Output)
    graph.add_node(write)
    graph.add_node(reveal)
    graph.add_edge(START, "write")
    graph.add_edge("write", "reveal")
    outcome = await assert_like_plain(graph, {"count": 1})
    assert outcome.output == {"last": "(4, 2)"}


async def test_a_node_that_reads_how_many_steps_remain() -> None:
    class Managed(TypedDict, total=False):
        left: int
        remaining: RemainingSteps

    async def look(state: Managed) -> Managed:
        return {"left": state["remaining"]}

    async def look_again(state: Managed) -> Managed:
        return {"left": state["left"] * 100 + state["remaining"]}

    graph = graph_of(look, look_again, schema=Managed)
    graph.add_edge(START, "look")
    graph.add_edge("look", "look_again")
    outcome = await drive(loaded(graph.compile().with_config(recursion_limit=9)), {"left": 0})
    expected = await graph.compile().ainvoke({"left": 0}, {"recursion_limit": 9})
    assert outcome.output == {"left": expected["left"]} == {"left": 807}


async def test_commands_of_many_kinds() -> None:
    async def lead(state: Log) -> list[Any]:
        return [
            Command(update={"entries": ["lead"]}, goto=[Send("part", {"n": 1}), Send("part", {"n": 2})]),
            {"last": "a plain update among commands"},
            Command(goto="c"),
        ]

    async def part(state: Any) -> Command[Any]:
        return Command(update=[("entries", [f"part {state['n']}"])], goto=END)

    graph = graph_of(lead, part, c)
    graph.add_edge(START, "lead")
    outcome = await assert_like_plain(graph, {})
    assert outcome.output["entries"] == ["lead", "c after 1", "part 1", "part 2"]


async def test_nothing_to_run_is_finished_at_once() -> None:
    graph = graph_of(a)
    graph.add_conditional_edges(START, lambda state: END, ["a", END])
    first = await fold.start(loaded(graph), {"count": 3})
    assert first.finished
    assert first.pending == []
    assert first.output == {"count": 3, "entries": []}


async def test_paths_sort_as_langgraph_applies_results_and_never_change() -> None:
    def fan_out(state: Log) -> list[Any]:
        return [*(Send("a", {"n": n}) for n in range(12)), "b"]

    graph = graph_of(a, b)
    graph.add_conditional_edges(START, fan_out)
    first, second = [await fold.start(loaded(graph), {}) for _ in range(2)]
    paths = [step.path for step in first.pending]
    assert paths == sorted(paths) == [step.path for step in second.pending]
    assert [step.node for step in first.pending] == ["b"] + ["a"] * 12
    assert [step.input for step in first.pending[1:]] == [{"n": n} for n in range(12)]
    assert first.pending[0].input is fold.NO_INPUT
    assert {step.superstep for step in first.pending} == {1}
    assert first.pending == second.pending


async def test_deltas_come_in_order_of_path_though_routers_run_in_threads() -> None:
    async def part(state: Any) -> Log:
        return {"entries": [str(state["n"])]}

    def router(state: Log) -> str:
        return "c"

    graph = graph_of(part, c)
    graph.add_conditional_edges(START, lambda state: [Send("part", {"n": n}) for n in range(20)], ["part"])
    graph.add_conditional_edges("part", router, ["c"])
    workflow = loaded(graph)
    first = await fold.start(workflow, {})
    results = {step.path: {"entries": [str(step.input["n"])]} for step in reversed(first.pending)}
    second = await folded_with(workflow, first.snapshot, results)
    assert second.deltas == [("part", {"entries": [str(n)]}) for n in range(20)]


async def test_messages_without_ids_get_the_same_ones_in_every_fold() -> None:
    async def answer(state: MessagesState) -> Any:
        return {"messages": [{"role": "assistant", "content": "hello"}, AIMessage("and more", id="mine")]}

    graph = graph_of(answer, schema=MessagesState)
    graph.add_edge(START, "answer")
    question = {"messages": [("user", "hi")]}
    first, second = [await drive(loaded(graph), question) for _ in range(2)]
    assert first.output == second.output
    ids = [message.id for message in first.output["messages"]]
    assert ids[2] == "mine"
    assert len(set(ids)) == 3
    assert None not in ids
    assert [type(message) for message in first.output["messages"]] == [HumanMessage, AIMessage, AIMessage]
    theirs = await plain(loaded(graph), question)
    assert [m.content for m in theirs.output["messages"]] == [m.content for m in first.output["messages"]]
    other = await fold.start(loaded(graph), question, session_id="another")
    assert other.values["messages"][0].id != ids[0], "ids are unique across sessions"


async def test_the_inputs_messages_keep_the_ids_that_they_had_before_steps_completed_with_ids() -> None:
    """A log of then names them: one that removes a message, or replaces it by its id, must be foldable for ever."""

    async def forget(state: MessagesState) -> Any:
        raise AssertionError("its result is in the log")

    graph = graph_of(forget, schema=MessagesState)
    graph.add_edge(START, "forget")
    workflow = loaded(graph)
    started = await fold.start(workflow, {"messages": [{"role": "user", "content": "hi"}]}, session_id="S")
    removed = {"messages": [RemoveMessage("8de0b3c4-7f11-5c59-b45f-717a62693226")]}
    ended = await folded_with(workflow, started.snapshot, {"node:forget": removed})
    assert ended.values == {"messages": []}


async def test_no_message_at_all_is_told_in_langgraphs_words() -> None:
    async def nothing(state: MessagesState) -> Any:
        return {"messages": None}

    graph = graph_of(nothing, schema=MessagesState)
    graph.add_edge(START, "nothing")
    with pytest.raises(FoldFailed, match="Must specify non-null arguments"):
        await drive(loaded(graph), {"messages": "hi"})


async def test_siblings_that_write_one_channel_fail_the_fold_with_langgraphs_error() -> None:
    graph = graph_of(a, b)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    workflow = loaded(graph)
    first = await fold.start(workflow, {})
    with pytest.raises(FoldFailed, match=r"InvalidUpdateError: At key 'last'"):
        await folded_with(workflow, first.snapshot, {s.path: {"last": s.node} for s in first.pending})


@pytest.mark.parametrize("error", [LookupError("no way on"), NoCurrentStep("no way on")], ids=["its own", "ours"])
async def test_a_router_that_raises_fails_the_fold_with_its_error(error: Exception) -> None:
    """Also with an error of this project, as report_progress() raises one outside of a step."""

    def router(state: Log) -> str:
        raise error

    graph = graph_of(a)
    graph.add_edge(START, "a")
    graph.add_conditional_edges("a", router, ["a"])
    workflow = loaded(graph)
    first = await fold.start(workflow, {})
    with pytest.raises(FoldFailed, match=rf"^{type(error).__name__}: no way on$") as raised:
        await folded_with(workflow, first.snapshot, {"node:a": None})
    assert raised.value.__cause__ is error


async def test_a_slow_router_can_be_timed_out() -> None:
    async def router(state: Log) -> str:
        await asyncio.Event().wait()
        return "a"

    graph = graph_of(a)
    graph.add_conditional_edges(START, router, ["a"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await fold.start(loaded(graph), {})


async def test_results_must_be_those_of_the_open_steps() -> None:
    graph = graph_of(a, b)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    workflow = loaded(graph)
    first = await fold.start(workflow, {})
    for results in ({}, {"node:a": None}, {"node:a": None, "node:b": None, "node:c": None}):
        with pytest.raises(FoldMismatch):
            await folded_with(workflow, first.snapshot, results)
    with pytest.raises(FoldMismatch):
        end = await folded_with(workflow, first.snapshot, {"node:a": None, "node:b": None})
        assert end.finished
        await folded_with(workflow, end.snapshot, {})


@pytest.mark.parametrize("send", [False, True])
async def test_a_renamed_node_is_a_mismatch_and_never_an_end(send: bool) -> None:
    def graph(name: str) -> Any:
        made: Any = StateGraph(Log)
        made.add_node(name, a)
        if send:
            made.add_conditional_edges(START, lambda state: [Send(name, {})], [name])
        else:
            made.add_edge(START, name)
        return made

    old = await fold.start(loaded(graph("old"), version="1"), {})
    renamed = loaded(graph("new"), version="1")
    with pytest.raises(FoldMismatch):
        fold.read(renamed, old.snapshot)
    with pytest.raises(FoldMismatch):
        await folded_with(renamed, old.snapshot, {old.pending[0].path: None})
    with pytest.raises(SnapshotVersionMismatch, match="snapshot's version is 1, this worker's is "):
        fold.read(loaded(graph("new")), old.snapshot)
    with pytest.raises(SnapshotVersionMismatch, match="cannot be read"):
        fold.read(renamed, b"\x93nonsense")


async def test_a_snapshot_of_another_langgraph_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(a)
    graph.add_edge(START, "a")
    first = await fold.start(loaded(graph), {})
    monkeypatch.setattr("workers.graph.snapshot.Header.__init__.__defaults__", ("0.1.0", FORMAT))
    with pytest.raises(SnapshotVersionMismatch, match=r"langgraph is .*, this worker's is 0\.1\.0"):
        fold.read(loaded(graph), first.snapshot)


async def test_a_rebuilt_fold_reads_the_same() -> None:
    workflow = loaded(everything.build())
    runs = [await drive(workflow, {"goal": "twice"}, everything.ANSWERS) for _ in range(2)]
    for one, other in zip(*(run.snapshots for run in runs), strict=True):
        first, second = fold.read(workflow, one), fold.read(workflow, other)
        assert first.values == second.values
        assert [step.path for step in first.pending] == [step.path for step in second.pending]


async def test_a_value_of_an_unknown_type_is_refused_by_name() -> None:
    @dataclass
    class Unheard:
        n: int

    async def look(state: Log) -> Any:
        return {"last": str(state["last"])}

    graph = graph_of(look)
    graph.add_edge(START, "look")
    with pytest.raises(UnstorableValue, match=r"Unheard cannot be stored.*inside of a function"):
        await fold.start(loaded(graph), {"last": Unheard(1)})
    allowed = loaded(graph, types=(Unheard,))
    first = await fold.start(allowed, {"last": Unheard(1)})
    result = await node_run.run_node(allowed, first.snapshot, "node:look")
    assert isinstance(result, StepResult)
    assert result.returned == {"last": str(Unheard(1))}


async def test_what_is_stored_of_a_fold_is_encoded_for_steps_and_readable_for_people() -> None:
    async def part(state: Any) -> Log:
        raise AssertionError("a fold runs no node")

    graph = graph_of(part, c)
    graph.add_conditional_edges(START, lambda state: [Send("part", (1, state["last"])), "c"], ["part", "c"])
    workflow = LoadedWorkflow("tested", Workflow(graph=graph, nodes={"part": Node("slow", max_attempts=7)}))
    defaults = fold.Defaults(max_attempts=3, time_limit=timedelta(minutes=5))
    first = await fold.begin(workflow, {"last": "ü"}, session_id="a-session", defaults=defaults)
    assert [(step.task_path, step.agent, step.queue, step.max_attempts, step.time_limit) for step in first.steps] == [
        ("node:c", "c", "default", 3, timedelta(minutes=5)),
        ("send:0000000000:part", "part", "slow", 7, timedelta(minutes=5)),
    ]
    reads_the_state, sent = (step.input for step in first.steps)
    assert reads_the_state is None
    assert sent is not None and workflow.codec.decode(orjson.loads(sent)) == (1, "ü")
    assert (first.finished, first.deltas, first.result, first.base_commit) == (False, [], {}, None)

    update: Any = {"entries": ["c"], "count": 2**70}
    updates = {"node:c": workflow.codec.encode(update), "send:0000000000:part": None}
    end = await fold.advance(workflow, first.snapshot, orjson.loads(orjson.dumps(updates)), defaults=defaults)
    assert (end.finished, end.steps) == (True, [])
    assert list(end.deltas) == [("c", {"entries": ["c"], "count": str(2**70)}), ("part", None)]
    assert end.result == {"last": "ü", "entries": ["c"], "count": str(2**70)}


async def test_a_fold_runs_no_node_and_retries_nothing() -> None:
    ran: list[str] = []

    async def work(state: Log) -> Log:
        ran.append("work")
        return {}

    graph: Any = StateGraph(Log)
    graph.add_node(work, retry_policy=RetryPolicy(max_attempts=5))
    graph.add_edge(START, "work")
    workflow = loaded(graph)
    first = await fold.start(workflow, {})
    end = await folded_with(workflow, first.snapshot, {"node:work": {"count": 1}})
    assert end.finished
    assert ran == []
    assert workflow.builder.nodes["work"].retry_policy is not None, "the user's graph stays as it is"


async def test_the_last_step_that_the_recursion_limit_allows_is_paid_for_and_kept() -> None:
    graph = graph_of(a, b, c)
    for edge in ((START, "a"), ("a", "b"), ("b", "c")):
        graph.add_edge(*edge)
    for limit in (1, 2):
        limited = graph.compile().with_config(recursion_limit=limit)
        with pytest.raises(GraphRecursionError) as plainly:
            await limited.ainvoke({})
        with pytest.raises(FoldFailed) as folded:
            await drive(loaded(limited), {})
        assert str(plainly.value) in str(folded.value)
