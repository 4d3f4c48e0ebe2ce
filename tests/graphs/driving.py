"""Two ways to run a workflow to its end: step by step through the engine, and as plain LangGraph."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from workers.graph import fold, results
from workers.graph.invocation import NOTHING_GIVEN, Invocation
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import EMPTY_WORLD, NodeInterrupted, World, run_node
from workers.graph.results import StepResult
from workers.workflow import Workflow

Answering: TypeAlias = Callable[[fold.PendingStep, Any], Any]
"""Gives a step's question its answer."""


@dataclass
class Outcome:
    output: Any = None
    deltas: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By node; sorted, since parallel nodes of plain LangGraph finish in any order."""
    supersteps: int = 0
    snapshots: list[bytes] = field(default_factory=list)
    log: list[dict[str, bytes]] = field(default_factory=list)
    """What the steps of each superstep gave, by path, as it is stored."""
    asked: list[tuple[int, int, str, str, Any]] = field(default_factory=list)
    """Superstep, how many questions of the step came before, path, node, question."""
    invocation: Invocation = NOTHING_GIVEN

    @property
    def questions(self) -> list[tuple[str, Any]]:
        """As plain LangGraph asks them, when each round answers what is open, by path."""
        return [(node, question) for *_, node, question in sorted(self.asked, key=lambda one: one[:3])]

    def add(self, node: str, update: Any) -> None:
        self.deltas[node].append(update)
        self.deltas[node].sort(key=repr)


def loaded(graph: Any, *, version: str | None = None, types: tuple[type, ...] = ()) -> LoadedWorkflow:
    return LoadedWorkflow("tested", Workflow(graph=graph, version=version), types)


async def drive(
    workflow: LoadedWorkflow,
    graph_input: Mapping[str, Any],
    answers: Mapping[str, list[Any]] | Answering | None = None,
    order: Callable[[list[fold.PendingStep]], None] = list.reverse,
    *,
    context: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Outcome:
    """Each value goes through JSON and each snapshot through bytes, as between workers.

    `order` says in which order the steps of a superstep complete; `context` and `config` are the session's.
    """
    invocation = Invocation(context, config or {})
    world = World(
        invocation,
        store=None if workflow.compiled.store is None else InMemoryStore(),
        cache=None if workflow.compiled.cache is None else InMemoryCache(),
    )
    outcome = Outcome(invocation=invocation)
    folded = await fold.start(workflow, graph_input, session_id="a-session", invocation=invocation)
    while True:
        outcome.snapshots.append(folded.snapshot)
        outcome.supersteps = folded.superstep
        for node, update in folded.deltas:
            outcome.add(node, update)
        if folded.finished:
            outcome.output = folded.output
            return outcome
        assert fold.read(workflow, folded.snapshot).pending == folded.pending
        stored = {}
        completing = list(folded.pending)
        order(completing)
        for step in completing:
            answering = answers if callable(answers) else _one_after_the_other((answers or {}).get(step.node, []))
            result = await run_step(workflow, folded.snapshot, step, answering, outcome, world)
            stored[step.path] = orjson.dumps(results.encode(workflow.codec, result))
        outcome.log.append(stored)
        folded = await fold.fold(workflow, folded.snapshot, _results(workflow, stored), invocation=invocation)


async def fold_again(workflow: LoadedWorkflow, graph_input: Mapping[str, Any], outcome: Outcome) -> fold.Fold:
    """From the log alone, as when a snapshot is rebuilt."""
    given = outcome.invocation
    folded = await fold.start(workflow, graph_input, session_id="a-session", invocation=given)
    for stored in outcome.log:
        folded = await fold.fold(workflow, folded.snapshot, _results(workflow, stored), invocation=given)
    return folded


def _results(workflow: LoadedWorkflow, stored: Mapping[str, bytes]) -> dict[str, StepResult]:
    return {path: results.decode(workflow.codec, orjson.loads(value)) for path, value in stored.items()}


async def run_step(
    workflow: LoadedWorkflow,
    snapshot: bytes,
    step: fold.PendingStep,
    answering: Answering,
    outcome: Outcome,
    world: World = EMPTY_WORLD,
) -> StepResult:
    ran = await run_node(workflow, snapshot, step.path, world=world)
    before = 0
    while isinstance(ran, NodeInterrupted):
        outcome.asked.append((step.superstep, before, step.path, step.node, ran.question))
        answer = answering(step, ran.question)
        ran = await run_node(workflow, snapshot, step.path, stands=ran.snapshot, answer=answer, world=world)
        before += 1
    return ran


def _one_after_the_other(answers: list[Any]) -> Answering:
    left = iter(answers)
    return lambda step, question: next(left)


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
