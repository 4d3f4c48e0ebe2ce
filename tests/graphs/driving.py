"""Two ways to run a workflow to its end: step by step through the engine, and as plain LangGraph."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from workers.graph import fold, results
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NodeInterrupted, run_node
from workers.graph.results import StepResult
from workers.workflow import Workflow


@dataclass
class Outcome:
    output: Any = None
    deltas: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By node; sorted, since parallel nodes of plain LangGraph finish in any order."""
    supersteps: int = 0
    snapshots: list[bytes] = field(default_factory=list)

    def add(self, node: str, update: Any) -> None:
        self.deltas[node].append(update)
        self.deltas[node].sort(key=repr)


def loaded(graph: Any, *, version: str | None = None, types: tuple[type, ...] = ()) -> LoadedWorkflow:
    return LoadedWorkflow("tested", Workflow(graph=graph, version=version), types)


async def drive(
    workflow: LoadedWorkflow,
    graph_input: Mapping[str, Any],
    answers: Mapping[str, list[Any]] | None = None,
    order: Callable[[list[fold.PendingStep]], None] = list.reverse,
) -> Outcome:
    """Each value goes through JSON and each snapshot through bytes, as between workers.

    `order` says in which order the steps of a superstep complete.
    """
    outcome = Outcome()
    folded = await fold.start(workflow, graph_input, session_id="a-session")
    while True:
        outcome.snapshots.append(folded.snapshot)
        outcome.supersteps = folded.superstep
        for node, update in folded.deltas:
            outcome.add(node, update)
        if folded.finished:
            outcome.output = folded.output
            return outcome
        assert fold.read(workflow, folded.snapshot).pending == folded.pending
        returned = {}
        completing = list(folded.pending)
        order(completing)
        for step in completing:
            asked = (answers or {}).get(step.node, [])
            returned[step.path] = await run_step(workflow, folded.snapshot, step, asked)
        folded = await fold.fold(workflow, folded.snapshot, returned)


async def run_step(workflow: LoadedWorkflow, snapshot: bytes, step: fold.PendingStep, answers: list[Any]) -> StepResult:
    """As the log has it afterwards."""
    outcome = await run_node(workflow, snapshot, step.path)
    for answer in answers:
        assert isinstance(outcome, NodeInterrupted)
        outcome = await run_node(workflow, snapshot, step.path, stands=outcome.snapshot, answer=answer)
    assert isinstance(outcome, StepResult)
    return through_json(workflow, outcome)


def through_json(workflow: LoadedWorkflow, result: StepResult) -> StepResult:
    written = orjson.dumps(results.encode(workflow.codec, result))
    return results.decode(workflow.codec, orjson.loads(written))


async def plain(
    workflow: LoadedWorkflow, graph_input: Mapping[str, Any], answers: Mapping[str, list[Any]] | None = None
) -> Outcome:
    """Plain LangGraph, with a saver that keeps types as they are (its own turns tuples into lists)."""
    graph = workflow.builder.compile(checkpointer=InMemorySaver(serde=workflow.serializer))
    open_answers = {node: list(asked) for node, asked in (answers or {}).items()}
    outcome = Outcome()
    next_input: Any = dict(graph_input)
    config: Any = {"configurable": {"thread_id": "plain"}, "recursion_limit": 1000}
    while next_input is not None:
        async for chunk in graph.astream(next_input, config, stream_mode="updates"):
            if "__metadata__" not in chunk and "__interrupt__" not in chunk:
                for node, update in chunk.items():
                    outcome.add(node, update)
        state = await graph.aget_state(config)
        waiting = [task for task in state.tasks if task.interrupts]
        resume = {task.interrupts[0].id: open_answers[task.name].pop(0) for task in waiting}
        next_input = Command(resume=resume) if resume else None
    names = graph.output_channels
    outcome.output = {name: state.values[name] for name in names if name in state.values}
    return outcome
