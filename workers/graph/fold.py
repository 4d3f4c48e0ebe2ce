"""The fold: a snapshot and the results of its open steps give the next snapshot and the next steps.

Pure: no clock, no database, no network. LangGraph runs the orchestrating copy of the graph until nothing but
interrupts is left; each open interrupt is a step that a worker has to run.
"""

from collections.abc import AsyncIterator, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from inspect import isclass
from types import SimpleNamespace
from typing import Any, Final

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.managed.base import ManagedValue
from langgraph.types import Command, PregelTask, StateSnapshot

from app.errors import FoldFailed, FoldMismatch, WorkflowError
from app.sessions.model import Advance, NewStep
from workers.graph.codec import readable
from workers.graph.copies import Graph, folding
from workers.graph.loading import LoadedWorkflow
from workers.graph.saver import SnapshotSaver

NO_INPUT: Final = object()
"""Stands for "the node reads the state": None can be a `Send`'s argument."""

_SENDS = "__pregel_tasks"
_PUSH = "__pregel_push"

# A resume map with an id that is not open would be ignored in silence.
_STRICT_RESUME = "__pregel_strict_resume"


@dataclass(frozen=True, slots=True)
class PendingStep:
    node: str
    path: str
    """The same for the same step in every fold; sorts in the order in which LangGraph applies results."""
    interrupt_id: str
    """Holds a random part: never match steps by it."""
    input: Any
    """A `Send`'s argument, or NO_INPUT for a node that reads the state (see `state_for`)."""
    superstep: int


@dataclass(frozen=True, slots=True)
class Fold:
    snapshot: bytes
    superstep: int
    pending: list[PendingStep]
    """What is open now, in order of path."""
    deltas: list[tuple[str, Any]]
    """(node, update) of every step that this fold finished, in order of path."""
    finished: bool
    output: Any
    """The graph's output, once it has finished."""
    values: Any
    """The state."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of steps whose nodes have none of their own."""

    max_attempts: int
    time_limit: timedelta


async def begin(
    workflow: LoadedWorkflow, graph_input: Mapping[str, Any], *, session_id: str, defaults: Defaults
) -> Advance:
    """`start`, in the forms in which a session is stored."""
    return _stored(workflow, await start(workflow, graph_input, session_id=session_id), defaults)


async def advance(
    workflow: LoadedWorkflow, snapshot: bytes, updates: Mapping[str, Any], *, defaults: Defaults
) -> Advance:
    """`fold`, in the forms in which a session is stored; `updates` are the results as the codec wrote them."""
    results = {path: workflow.codec.decode(update) for path, update in updates.items()}
    return _stored(workflow, await fold(workflow, snapshot, results), defaults)


def _stored(workflow: LoadedWorkflow, folded: Fold, defaults: Defaults) -> Advance:
    output = folded.output if isinstance(folded.output, dict) else {"output": folded.output}
    return Advance(
        snapshot=folded.snapshot,
        deltas=[(node, readable(delta)) for node, delta in folded.deltas],
        steps=[_new_step(workflow, pending, defaults) for pending in folded.pending],
        finished=folded.finished,
        result=readable(output) if folded.finished else {},
    )


def _new_step(workflow: LoadedWorkflow, pending: PendingStep, defaults: Defaults) -> NewStep:
    node = workflow.node(pending.node)
    return NewStep(
        task_path=pending.path,
        agent=pending.node,
        queue=node.queue,
        interrupt_id=pending.interrupt_id,
        input=None if pending.input is NO_INPUT else orjson.dumps(workflow.codec.encode(pending.input)),
        max_attempts=node.max_attempts or defaults.max_attempts,
        time_limit=node.time_limit or defaults.time_limit,
    )


async def start(workflow: LoadedWorkflow, graph_input: Mapping[str, Any], *, session_id: str = "") -> Fold:
    """The first steps. Raises FoldFailed with what a router, a reducer or the schema raised."""
    run = _FoldRun(workflow, None, session_id=session_id)
    return await run.on(dict(graph_input), paths={})


async def fold(workflow: LoadedWorkflow, snapshot: bytes, results: Mapping[str, Any]) -> Fold:
    """Gives the open superstep its results, by the paths of all its steps, as the nodes returned them.

    Raises FoldMismatch when the paths are not those of the open steps, SnapshotVersionMismatch for a
    snapshot of another version, FoldFailed with what a router, a reducer or LangGraph raised.
    """
    run = _FoldRun(workflow, snapshot)
    tasks = run.open_tasks(run.state())
    if not tasks or tasks.keys() != results.keys():
        raise _mismatch(tasks.keys(), results.keys())
    resume = {task.interrupts[0].id: results[path] for path, task in tasks.items()}
    return await run.on(Command(resume=resume), paths={task.id: path for path, task in tasks.items()})


def check(workflow: LoadedWorkflow, snapshot: bytes) -> None:
    """Raises SnapshotVersionMismatch for a snapshot that `fold` would not read."""
    SnapshotSaver.opened(workflow, snapshot)


def read(workflow: LoadedWorkflow, snapshot: bytes) -> Fold:
    """What the snapshot says, without deltas.

    Two folds of one log are equal in this (but for `interrupt_id`), not in their bytes.
    """
    return _FoldRun(workflow, snapshot).outcome([])


def state_for(workflow: LoadedWorkflow, snapshot: bytes, node: str, *, max_supersteps: int = 10_000) -> Any:
    """What a node that reads the state gets: its part of the state, as an instance of its input schema."""
    state = _FoldRun(workflow, snapshot).state()
    graph = workflow.orchestration
    process = graph.nodes[node]
    if isinstance(process.channels, str):
        value = state.values
    else:
        scratchpad: Any = SimpleNamespace(step=_superstep(state), stop=max_supersteps + 1)
        value = {name: state.values[name] for name in process.channels if name in state.values}
        for name in process.channels:
            # RemainingSteps and the like: no channel holds them.
            if isclass(managed := graph.channels[name]) and issubclass(managed, ManagedValue):
                value[name] = managed.get(scratchpad)
    return process.mapper(value) if process.mapper else value


class _FoldRun:
    def __init__(self, workflow: LoadedWorkflow, snapshot: bytes | None, *, session_id: str = "") -> None:
        self._saver = SnapshotSaver.opened(workflow, snapshot, session_id=session_id)
        self._graph: Graph = self._saver.attached_to(workflow.orchestration)
        self._config: RunnableConfig = {
            "configurable": {"thread_id": self._saver.header.session_id, _STRICT_RESUME: True},
        }

    async def on(self, graph_input: Any, *, paths: Mapping[str, str]) -> Fold:
        """Runs the graph until it only waits; `paths` are those of the tasks that finish, by task id."""
        deltas: dict[str, tuple[str, Any]] = {}
        update: Any = None
        output: AsyncIterator[Any] = self._graph.astream(
            graph_input,
            self._config,
            stream_mode=["updates", "tasks"],
            durability="exit",  # one write of the snapshot instead of one for every task
        )
        try:
            with folding(self._saver.header.session_id):
                async for mode, item in output:
                    # Right after an update comes its task's result, unless it only comes again as cached.
                    if mode == "updates":
                        update = item
                    elif "result" in item and item["id"] in paths:
                        deltas[paths[item["id"]]] = (item["name"], update[item["name"]])
        except WorkflowError:
            raise
        except Exception as error:
            raise FoldFailed(f"{type(error).__name__}: {error}") from error
        return self.outcome([deltas[path] for path in sorted(deltas)])

    def state(self) -> StateSnapshot:
        return self._graph.get_state(self._config)

    def open_tasks(self, state: StateSnapshot) -> dict[str, PregelTask]:
        """The open tasks by path. Raises FoldMismatch for a snapshot with a node that the graph has not (any more):
        LangGraph itself would say that there is nothing left to do.
        """
        tasks = {_path(task): task for task in state.tasks}
        waiting = {question.id for question in self._saver.interrupts()}
        if waiting != {question.id for task in state.tasks for question in task.interrupts}:
            raise FoldMismatch(f"of the snapshot's open steps the graph knows {sorted(tasks)} only")
        return dict(sorted(tasks.items()))

    def outcome(self, deltas: list[tuple[str, Any]]) -> Fold:
        state = self.state()
        tasks = self.open_tasks(state)
        return Fold(
            snapshot=self._saver.dumps(),
            superstep=_superstep(state),
            pending=self._steps(state, tasks),
            deltas=deltas,
            finished=not tasks,
            output=None if tasks else self._output(state),
            values=state.values,
        )

    def _steps(self, state: StateSnapshot, tasks: Mapping[str, PregelTask]) -> list[PendingStep]:
        sends = self._saver.channel_values().get(_SENDS, [])
        return [
            PendingStep(
                node=task.name,
                path=path,
                interrupt_id=task.interrupts[0].id,
                input=sends[task.path[1]].arg if task.path[0] == _PUSH else NO_INPUT,
                superstep=_superstep(state),
            )
            for path, task in tasks.items()
        ]

    def _output(self, state: StateSnapshot) -> Any:
        names = self._graph.output_channels
        if isinstance(names, str):
            return state.values
        return {name: state.values[name] for name in names if name in state.values}


def _superstep(state: StateSnapshot) -> int:
    """The open superstep, counted from 1; once there is none, the last."""
    finished: int = (state.metadata or {}).get("step", 0)
    return finished + 1 if state.tasks else finished


def _path(task: PregelTask) -> str:
    """Sorts like LangGraph's own task paths: nodes by name, then `Send`s as they were sent."""
    kind, *place = task.path
    if kind == _PUSH:
        return f"send:{place[0]:010d}:{task.name}"
    return f"node:{task.name}"


def _mismatch(open_steps: Set[str], given: Set[str]) -> FoldMismatch:
    missing, unknown = sorted(open_steps - given), sorted(given - open_steps)
    return FoldMismatch(
        f"the graph's open steps do not match the results: none for {missing}, no open step for {unknown}"
    )
