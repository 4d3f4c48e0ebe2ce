"""The two runs of a random graph, and a third that folds the log of the second again."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import INTERRUPT
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, PregelTask

from app.errors import FoldFailed
from tests.fuzz.ending import Ending, without_ids
from tests.fuzz.world import Seen, World
from workers.graph import fold, results
from workers.graph.copies import task_path
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NodeInterrupted, run_node
from workers.graph.results import StepResult

INPUT = {"turns": 1, "messages": [{"role": "user", "content": "begin"}], "items": ["given"]}
MOST_SUPERSTEPS = 60

Script = dict[tuple[int, str], list[str]]
"""The questions of a step, by superstep and path, in the order in which they were answered."""


def answer_to(question: Any) -> Any:
    return ("answer", question)


@dataclass
class Driven:
    """What the engine made of a graph."""

    ending: Ending = field(default_factory=Ending)
    script: Script = field(default_factory=dict)
    log: list[dict[str, bytes]] = field(default_factory=list)
    """The results of each superstep by path, as they are stored."""
    ran: set[str] = field(default_factory=set)
    states: list[str] = field(default_factory=list)
    """After each fold."""


async def driven(workflow: LoadedWorkflow, world: World, order: Sequence[int]) -> Driven:
    """Step by step: each value goes through JSON and each snapshot through bytes, as between workers."""
    run = Driven()
    finished_calls: list[Seen] = []
    try:
        folded = await fold.start(workflow, INPUT, session_id="a-session")
        while True:
            finished_calls = list(world.calls)
            run.states.append(exact(workflow, folded))
            if folded.finished:
                # Plain LangGraph has no untracked values any more once a run has ended; its output has them.
                run.ending.values = {
                    name: value for name, value in folded.values.items() if name not in workflow.untracked
                }
                run.ending.output = folded.output
                run.ending.calls = counted(world.calls)
                return run
            assert folded.superstep < MOST_SUPERSTEPS, "the graph does not end"
            if len(folded.pending) > 1:
                world.features["parallel nodes"] += 1
            if run.ran & (running := {step.node for step in folded.pending}):
                world.features["loop"] += 1
            run.ran |= running
            written = await _superstep(workflow, folded, order, run)
            if run.ending.errors:
                break
            run.log.append(written)
            folded = await fold.fold(workflow, folded.snapshot, decoded(workflow, written))
    except FoldFailed as failure:
        run.ending.broke(failure.__cause__ or failure)
    run.ending.calls = counted(call for call in finished_calls if "." not in call.node)
    return run


async def _superstep(
    workflow: LoadedWorkflow, folded: fold.Fold, order: Sequence[int], run: Driven
) -> dict[str, bytes]:
    written: dict[str, bytes] = {}
    for step in ordered(folded.pending, order):
        try:
            result = await _step(workflow, folded.snapshot, step, run)
            written[step.path] = orjson.dumps(results.encode(workflow.codec, result))
        except Exception as error:  # noqa: BLE001 - whatever it is, plain LangGraph must raise it, too
            run.ending.broke(error)
    return written


async def _step(workflow: LoadedWorkflow, snapshot: bytes, step: fold.PendingStep, run: Driven) -> StepResult:
    outcome = await run_node(workflow, snapshot, step.path)
    while isinstance(outcome, NodeInterrupted):
        run.ending.questions[repr(outcome.question)] += 1
        run.script.setdefault((step.superstep, step.path), []).append(outcome.question)
        answer = answer_to(outcome.question)
        outcome = await run_node(workflow, snapshot, step.path, stands=outcome.snapshot, answer=answer)
    return outcome


def ordered(steps: list[fold.PendingStep], order: Sequence[int]) -> list[fold.PendingStep]:
    numbers = {step.path: order[place % len(order)] if order else 0 for place, step in enumerate(steps)}
    return sorted(steps, key=lambda step: numbers[step.path])


async def rebuilt(workflow: LoadedWorkflow, run: Driven) -> list[str]:
    """The states, folded from the log once more."""
    folded = await fold.start(workflow, INPUT, session_id="a-session")
    states = [exact(workflow, folded)]
    for written in run.log:
        folded = await fold.fold(workflow, folded.snapshot, decoded(workflow, written))
        states.append(exact(workflow, folded))
    return states


def exact(workflow: LoadedWorkflow, folded: fold.Fold) -> str:
    read = fold.read(workflow, folded.snapshot)
    pending = [(step.path, step.node, step.superstep, step.input) for step in read.pending]
    return f"{read.values!r} {read.output!r} {[step[:3] for step in pending]} " + " ".join(
        repr(step[3]) for step in pending if step[3] is not fold.NO_INPUT
    )


def decoded(workflow: LoadedWorkflow, written: Mapping[str, bytes]) -> dict[str, StepResult]:
    return {path: results.decode(workflow.codec, orjson.loads(result)) for path, result in written.items()}


async def plain(workflow: LoadedWorkflow, world: World, script: Script) -> Ending:
    """Plain LangGraph with a saver that keeps types; of a task's open questions that is answered which `script` says,
    and those of all tasks at once.
    """
    saver = InMemorySaver(serde=workflow.serializer)
    graph = workflow.builder.compile(checkpointer=saver)
    ending = Ending()
    config: Any = {"configurable": {"thread_id": "plain"}}
    open_script = {step: list(questions) for step, questions in script.items()}
    next_input: Any = dict(INPUT)
    try:
        while next_input is not None:
            ending.output = await graph.ainvoke(next_input, config)
            state = await graph.aget_state(config)
            superstep = finished_supersteps(saver, config) + 1
            resume = {}
            for task in (task for task in state.tasks if task.interrupts):
                open_now = in_order(saver, task.interrupts)
                asked = _next_question(open_now, open_script.get((superstep, path_of(task)), []))
                ending.questions[repr(asked.value)] += 1
                resume[asked.id] = answer_to(asked.value)
            next_input = Command(resume=resume) if resume else None
        ending.values, ending.calls = state.values, counted(world.calls)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must raise it, too
        ending.broke(error)
        finished = finished_supersteps(saver, config)
        ending.calls = counted(call for call in world.calls if call.step <= finished and "." not in call.node)
    return ending


def finished_supersteps(saver: InMemorySaver, config: RunnableConfig) -> int:
    # A graph whose last superstep cannot be applied has no state that LangGraph would show.
    latest = saver.get_tuple(config)
    return latest.metadata["step"] if latest else 0


def _next_question(questions: Sequence[Any], script: list[str]) -> Any:
    wanted = script.pop(0) if script else None
    return next((question for question in questions if question.value == wanted), questions[0])


def in_order(saver: InMemorySaver, questions: Sequence[Any]) -> list[Any]:
    """By the paths of the tasks that asked, the outermost first: two branches may ask the same."""
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (_, namespace, _), writes in saver.writes.items():
        for _, channel, value, path in writes.values():
            if channel == INTERRUPT:
                for question in saver.serde.loads_typed(value):
                    places[question.id].append((namespace.count("|") + bool(namespace), path))
    return sorted(questions, key=lambda question: sorted(places[question.id]))


def path_of(task: PregelTask) -> str:
    """As the fold names it."""
    return task_path(task.path, task.name)


def counted(calls: Iterable[Seen]) -> Counter[str]:
    return Counter(without_ids(f"{call.node} at {call.place} saw {call.saw}") for call in calls)
