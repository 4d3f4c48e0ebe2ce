"""Running one step: its node in the graph itself, until it returns or interrupts.

LangGraph's own loop runs the attempt's copy from the checkpoint before the superstep, of which everything but the
one task is left out. So the node sees the state's channels, its place, its limits and its subgraphs' namespaces as
it would in plain LangGraph.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langgraph._internal._constants import CONFIG_KEY_RESUMING, INTERRUPT, PULL, PUSH
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata
from langgraph.errors import GraphRecursionError, is_invalid_resume
from langgraph.pregel._algo import sanitize_untracked_values_in_send, task_path_str
from langgraph.store.base import BaseStore
from langgraph.types import Command, Interrupt, Send

from app.errors import BadWorkflow, FoldMismatch, SnapshotVersionMismatch, UnstorableValue, describe
from workers.graph.copies import IDLE, RETURNED, Graph, TriedAgain, place_of
from workers.graph.invocation import Invocation
from workers.graph.loading import LoadedWorkflow
from workers.graph.message_ids import MessageIds
from workers.graph.results import StepResult
from workers.graph.saver import AttemptSaver
from workers.graph.snapshot import SENDS, Snapshot

NO_ANSWER: Final = object()
"""Stands for "not answered yet": None is an answer."""

OnStream = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NodeInterrupted:
    question: Any
    interrupt_id: str
    snapshot: bytes
    """Where the attempt stands; an answer resumes it."""
    response_schema: dict[str, Any] | None = None
    """JSON Schema of the answer, if the node gave one."""


@dataclass(frozen=True, slots=True)
class World:
    """What a node finds beside the state."""

    invocation: Invocation = field(default_factory=Invocation)
    store: BaseStore | None = None
    cache: "BaseCache[Any] | None" = None
    callbacks: Sequence[BaseCallbackHandler] = ()
    on_stream: OnStream | None = None
    """Gets what the node gives to its stream writer."""
    node_attempt: int = 1
    """Which try of the node this is, as `runtime.execution_info` says it."""


EMPTY_WORLD = World()


async def run_node(
    workflow: LoadedWorkflow,
    snapshot: bytes,
    path: str,
    *,
    stands: bytes | None = None,
    answer: Any = NO_ANSWER,
    answers: Sequence[Any] = (),
    world: World = EMPTY_WORLD,
) -> StepResult | NodeInterrupted:
    """Runs the step of this path, which is open in the session's `snapshot`.

    Resumes it from where it `stands` with `answer`, or from its start with all `answers`. What the node raises comes
    out as it is. Raises SnapshotVersionMismatch for a snapshot of another version, and FoldMismatch when the graph has
    no such step (any more), or the node does not take the answers (its code has changed).
    """
    given = [*answers] if answer is NO_ANSWER else [*answers, answer]
    run = _NodeRun(workflow, Snapshot.loads(workflow, snapshot), path, world)
    if stands is None:
        # The output of a run up to a question that is answered already was streamed before.
        outcome = await run.begun(is_streamed=not given)
    else:
        outcome = run.standing(stands)
    while given:
        if isinstance(outcome, StepResult):
            raise FoldMismatch(f"the node {run.node} asks fewer questions than were answered")
        answer = given.pop(0)
        try:
            outcome = await run.answered(outcome.interrupt_id, answer, is_streamed=not given)
        except Exception as error:
            if not is_invalid_resume(error):
                raise
            # What only the node finds wrong: as in LangGraph, the question can be answered again.
            if world.on_stream is not None and not given:
                await world.on_stream(f"the answer does not fit, and the question stays: {describe(error)}")
    return outcome


class _NodeRun:
    def __init__(self, workflow: LoadedWorkflow, snapshot: Snapshot, path: str, world: World) -> None:
        node = snapshot.open_tasks.get(path)
        if node is None or node not in workflow.nodes:
            raise FoldMismatch(f"the graph has no open step {path} (any more)")
        self.node = node
        self._path = path
        self._workflow = workflow
        self._snapshot = snapshot
        self._world = world
        self._answers = 0
        self._place = place_of(path)
        langgraph_path = (PULL, self.node) if self._place is None else (PUSH, self._place, False)
        self._saver = AttemptSaver(workflow.serializer, self._read, path=task_path_str(langgraph_path))
        self._saver.load_kept(snapshot.kept)
        self._graph: Graph = self._saver.attached_to(workflow.attempts)
        if world.store is not None:
            self._graph.store = world.store
        if world.cache is not None:
            self._graph.cache = world.cache
        if world.node_attempt > 1:
            tried = self._graph.nodes[node]
            again = TriedAgain(tried.bound, world.node_attempt)
            self._graph.nodes = {**self._graph.nodes, node: tried.copy({"bound": again})}
        self._superstep = snapshot.superstep + 1

    async def begun(self, *, is_streamed: bool) -> StepResult | NodeInterrupted:
        return await self._on(None, is_streamed=is_streamed)

    async def answered(self, interrupt_id: str, answer: Any, *, is_streamed: bool) -> StepResult | NodeInterrupted:
        self._answers += 1
        return await self._on(Command(resume={interrupt_id: answer}), is_streamed=is_streamed)

    async def _on(self, graph_input: Any, *, is_streamed: bool) -> StepResult | NodeInterrupted:
        invocation, on_stream = self._world.invocation, self._world.on_stream
        # An answer makes LangGraph begin its run anew, and count its steps from there.
        limit = invocation.recursion_limit(self._workflow.attempts)
        stop = self._superstep + limit + 1 if self._answers else self._snapshot.stop
        config = invocation.config_of(
            self._workflow.attempts, self._snapshot.header.session_id, next_step=self._superstep, stop=stop
        )
        if graph_input is None:  # neither input nor an answer: the run goes on, as one that never stopped
            config["configurable"][CONFIG_KEY_RESUMING] = False
        if self._world.callbacks:
            config["callbacks"] = list(self._world.callbacks)
        output = self._graph.astream(
            graph_input,
            config,
            context=invocation.context,
            stream_mode="custom",
            subgraphs=True,
            interrupt_before=list(self._workflow.nodes),  # the next superstep is not ours
            durability="async",  # subgraphs that ended well must not run again after a question
        )
        try:
            async for _, item in output:
                if on_stream is not None and is_streamed:
                    await on_stream(item)
        except GraphRecursionError:
            if self._saver.writes is None:  # of a graph that the node runs
                raise  # else the node has ended well, and the fold says that it was the last step
        if self._saver.writes is None:
            return self.interrupted()
        return self._result(self._saver.writes)

    def standing(self, stands: bytes) -> NodeInterrupted:
        """The question with which the attempt stopped. Raises SnapshotVersionMismatch."""
        try:
            *written_by, answers, namespaces = self._workflow.serializer.loads(stands)
        except (ValueError, TypeError, UnstorableValue) as error:
            raise SnapshotVersionMismatch(f"where the attempt stands cannot be read: {error}") from error
        if written_by != self._written_by:
            raise SnapshotVersionMismatch(f"where the attempt stands was written by {written_by}")
        self._saver.load(namespaces)
        self._answers = answers
        return self.interrupted()

    @property
    def _written_by(self) -> list[Any]:
        header = self._snapshot.header
        return [header.format, header.langgraph, header.workflow, header.version]

    def interrupted(self) -> NodeInterrupted:
        question = self._first_question()
        schema = question.response_schema
        return NodeInterrupted(
            question.value,
            question.id,
            self._workflow.serializer.dumps([*self._written_by, self._answers, self._saver.dumps()]),
            schema if isinstance(schema, dict) else None,
        )

    def _result(self, writes: Sequence[tuple[str, Any]]) -> StepResult:
        workflow = self._workflow
        session_id = self._snapshot.header.session_id
        ids = MessageIds(workflow.message_channels, session_id=session_id, superstep=self._superstep, path=self._path)
        returned = [value for channel, value in writes if channel == RETURNED][-1]
        sent = [(channel, value) for channel, value in writes if channel in self._graph.channels]
        return StepResult(
            ids.in_returned(returned),
            ids.in_writes(sent),
            self._saver.kept(),
            self._answers if workflow.notices_answers(self._world.invocation) else 0,
        )

    def _read(self) -> tuple[Checkpoint, CheckpointMetadata]:
        """The checkpoint before the superstep, in which only this task is to be done."""
        checkpoint = self._snapshot.checkpoint()
        values, versions, seen = (
            checkpoint["channel_values"],
            checkpoint["channel_versions"],
            checkpoint["versions_seen"],
        )
        for node in self._workflow.nodes:
            if self._place is not None or node != self.node:
                seen[node] = dict(versions)
        seen[INTERRUPT] = dict(versions)
        if self._place is not None:
            sent = self._snapshot.send(self._place)
            if self._answers:
                sent = sanitize_untracked_values_in_send(sent, self._workflow.builder.channels)
            values[SENDS] = [*[Send(IDLE, None)] * self._place, sent]
        if self._answers:
            for name in self._workflow.untracked:
                values.pop(name, None)
        return checkpoint, self._snapshot.metadata()

    def _first_question(self) -> Interrupt[Any]:
        """Parallel branches of a subgraph may ask at the same time; they are answered in a stable order."""
        config: Any = {"configurable": {"thread_id": self._snapshot.header.session_id}}
        open_ids = {question.id for question in self._graph.get_state(config).interrupts}
        for question in self._saver.interrupts():
            if question.id in open_ids:
                return question
        raise BadWorkflow(
            f"the node {self.node} stopped without a result or a question: a graph that it runs has interrupt_before "
            "or interrupt_after; call interrupt() instead"
        )
