"""The fold: a snapshot and the results of its open steps give the next snapshot and the next steps.

Pure: no clock, no database, no network. LangGraph runs the orchestrating copy of the graph for one superstep, in
which each node gives back what its step returned, and stops before the next; each task of that is a step that a
worker has to run.
"""

from collections.abc import AsyncIterator, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from langgraph.types import PregelTask, StateSnapshot

from app.errors import FoldFailed, FoldMismatch, WorkflowError
from app.sessions.model import Advance, NewStep
from workers.graph import results
from workers.graph.codec import readable
from workers.graph.copies import Folding, Graph, folding, place_of, task_path
from workers.graph.invocation import NOTHING_GIVEN, Invocation
from workers.graph.loading import LoadedWorkflow
from workers.graph.message_ids import MessageIds
from workers.graph.results import StepResult
from workers.graph.saver import FoldSaver
from workers.graph.snapshot import Snapshot

NO_INPUT: Final = object()
"""Stands for "the node reads the state": None can be a `Send`'s argument."""

BEFORE_THE_FIRST = -2
"""LangGraph counts the input as superstep -1, and the step that reads it as 0."""


@dataclass(frozen=True, slots=True)
class PendingStep:
    node: str
    path: str
    """The same for the same step in every fold; sorts in the order in which LangGraph applies results."""
    input: Any
    """A `Send`'s argument, or NO_INPUT for a node that reads the state."""
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
    final_state: dict[str, Any] | None
    """What another session may go on from, once the graph has finished."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of steps whose nodes have none of their own."""

    max_attempts: int
    time_limit: timedelta


async def begin(
    workflow: LoadedWorkflow,
    graph_input: Mapping[str, Any],
    *,
    session_id: str,
    start_state: Any = None,
    invocation: Invocation = NOTHING_GIVEN,
    defaults: Defaults,
) -> Advance:
    """`start`, in the forms in which a session is stored; `start_state` is the final one of another session."""
    state = workflow.codec.decode(start_state)
    folded = await start(workflow, graph_input, session_id=session_id, start_state=state, invocation=invocation)
    return _stored(workflow, folded, defaults)


async def advance(
    workflow: LoadedWorkflow,
    snapshot: bytes,
    updates: Mapping[str, Any],
    *,
    invocation: Invocation = NOTHING_GIVEN,
    defaults: Defaults,
) -> Advance:
    """`fold`, in the forms in which a session is stored; `updates` are the results as the log has them."""
    decoded = {path: results.decode(workflow.codec, update) for path, update in updates.items()}
    return _stored(workflow, await fold(workflow, snapshot, decoded, invocation=invocation), defaults)


def _stored(workflow: LoadedWorkflow, folded: Fold, defaults: Defaults) -> Advance:
    output = folded.output if isinstance(folded.output, dict) else {"output": folded.output}
    return Advance(
        snapshot=folded.snapshot,
        deltas=[(node, readable(delta)) for node, delta in folded.deltas],
        steps=[_new_step(workflow, pending, defaults) for pending in folded.pending],
        finished=folded.finished,
        result=readable(output) if folded.finished else {},
        state=workflow.codec.stored(folded.final_state) if folded.finished else None,
    )


def _new_step(workflow: LoadedWorkflow, pending: PendingStep, defaults: Defaults) -> NewStep:
    return NewStep(
        task_path=pending.path,
        agent=pending.node,
        queue=workflow.node(pending.node).queue,
        input=None if pending.input is NO_INPUT else workflow.codec.stored(pending.input),
        max_attempts=workflow.max_attempts(pending.node) or defaults.max_attempts,
        time_limit=workflow.time_limit(pending.node) or defaults.time_limit,
    )


async def start(
    workflow: LoadedWorkflow,
    graph_input: Mapping[str, Any],
    *,
    session_id: str = "",
    start_state: Mapping[str, Any] | None = None,
    invocation: Invocation = NOTHING_GIVEN,
) -> Fold:
    """The first steps. Raises FoldFailed with what a router, a reducer or the schema raised."""
    limit = invocation.recursion_limit(workflow.attempts)
    if start_state is None:
        snapshot, superstep = Snapshot.empty(workflow, session_id, stop=limit), BEFORE_THE_FIRST
    else:
        snapshot, superstep = Snapshot.after(workflow, session_id, start_state, limit=limit), start_state["step"]
    ids = MessageIds(workflow.message_channels.of_input(), session_id=session_id, superstep=0, path="input")
    run = _FoldRun(workflow, snapshot, invocation, {}, superstep=superstep)
    return await run.on(ids.in_returned(dict(graph_input)))


async def fold(
    workflow: LoadedWorkflow,
    snapshot: bytes,
    step_results: Mapping[str, StepResult],
    *,
    invocation: Invocation = NOTHING_GIVEN,
) -> Fold:
    """Gives the open superstep its results, by the paths of all its steps.

    Raises FoldMismatch when the paths are not those of the open steps, SnapshotVersionMismatch for a
    snapshot of another version, FoldFailed with what a router, a reducer or LangGraph raised.
    """
    before = Snapshot.loads(workflow, snapshot)
    open_paths = before.open_tasks.keys()
    if not open_paths or open_paths != step_results.keys():
        raise _mismatch(open_paths, step_results.keys())
    superstep = before.superstep
    if any(result.answers for result in step_results.values()):
        before.stop = superstep + 2 + invocation.recursion_limit(workflow.attempts)
    for _, result in sorted(step_results.items()):
        before.keep(result.kept)
    return await _FoldRun(workflow, before, invocation, step_results, superstep=superstep).on(None)


def check(workflow: LoadedWorkflow, snapshot: bytes) -> None:
    """Raises SnapshotVersionMismatch for a snapshot that `fold` would not read."""
    Snapshot.loads(workflow, snapshot)


def read(workflow: LoadedWorkflow, snapshot: bytes) -> Fold:
    """What the snapshot says, without deltas. Two folds of one log are equal in this, not in their bytes.

    Raises FoldMismatch for open steps that the graph does not have (any more), of which LangGraph itself would say
    nothing.
    """
    stored = Snapshot.loads(workflow, snapshot)
    open_paths = set(stored.open_tasks)
    found = _FoldRun(workflow, stored, NOTHING_GIVEN, {}, superstep=0).outcome([])
    if found_paths := open_paths ^ {step.path for step in found.pending}:
        raise FoldMismatch(f"the graph has no step {', '.join(sorted(found_paths))} (any more)")
    return found


class _FoldRun:
    """One superstep of the orchestrating copy, after the `superstep` that was finished last."""

    def __init__(
        self,
        workflow: LoadedWorkflow,
        snapshot: Snapshot,
        invocation: Invocation,
        step_results: Mapping[str, StepResult],
        *,
        superstep: int,
    ) -> None:
        self._snapshot = snapshot
        self._untracked = workflow.untracked
        self._invocation = invocation
        rounds = max((result.answers for result in step_results.values()), default=0)
        saver = FoldSaver(snapshot, forgets=workflow.untracked if rounds else frozenset())
        self._graph: Graph = saver.attached_to(workflow.orchestration)
        session_id = snapshot.header.session_id
        self._folding = Folding(session_id, superstep, step_results, rounds)
        self._config = invocation.config_of(workflow.attempts, session_id, next_step=superstep + 1, stop=snapshot.stop)

    async def on(self, graph_input: Any) -> Fold:
        """Runs the graph until the next superstep."""
        deltas: dict[str, tuple[str, Any]] = {}
        update: Any = None
        output: AsyncIterator[Any] = self._graph.astream(
            graph_input,
            self._config,
            context=self._invocation.context,
            stream_mode=["updates", "tasks"],
            interrupt_before=list(self._graph.builder.nodes),
            durability="exit",  # one write of the snapshot instead of one for every task
        )
        try:
            with folding(self._folding):
                async for mode, item in output:
                    # Right after an update comes its task's result.
                    if mode == "updates":
                        update = item
                    elif item.get("error") is None and item["id"] in self._folding.given and "result" in item:
                        deltas[self._folding.given[item["id"]]] = (item["name"], update[item["name"]])
                self._folding.check_forgotten(self._graph.channels)
        except WorkflowError:
            raise
        except Exception as error:
            raise FoldFailed(f"{type(error).__name__}: {error}") from error
        if unread := self._folding.results.keys() - set(self._folding.given.values()):
            raise FoldMismatch(f"the graph has no step {', '.join(sorted(unread))} (any more)")
        return self.outcome([deltas[path] for path in sorted(deltas)])

    def outcome(self, deltas: list[tuple[str, Any]]) -> Fold:
        with folding(self._folding):
            state = self._graph.get_state(self._config)
        tasks = {task_path(task.path, task.name): task for task in state.tasks}
        tasks = dict(sorted(tasks.items()))
        self._snapshot.open_tasks = {path: task.name for path, task in tasks.items()}
        return Fold(
            snapshot=self._snapshot.dumps(),
            superstep=_superstep(state),
            pending=self._steps(state, tasks),
            deltas=deltas,
            finished=not tasks,
            output=None if tasks else self._output(state),
            values=state.values,
            final_state=None if tasks else self._snapshot.final_state(forgets=self._untracked),
        )

    def _steps(self, state: StateSnapshot, tasks: Mapping[str, PregelTask]) -> list[PendingStep]:
        return [
            PendingStep(
                node=task.name,
                path=path,
                input=NO_INPUT if (place := place_of(path)) is None else self._snapshot.send(place).arg,
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


def _mismatch(open_steps: Set[str], given: Set[str]) -> FoldMismatch:
    missing, unknown = sorted(open_steps - given), sorted(given - open_steps)
    return FoldMismatch(
        f"the graph's open steps do not match the results: none for {missing}, no open step for {unknown}"
    )
