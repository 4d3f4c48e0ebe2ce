"""Running one step: a node in its one-node graph, until it returns or interrupts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Interrupt

from app.errors import FoldMismatch
from workers.graph.copies import RETURNED, Graph
from workers.graph.loading import LoadedWorkflow
from workers.graph.saver import SnapshotSaver

NO_ANSWER: Final = object()
"""Stands for "not answered yet": None is an answer."""

OnStream = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NodeReturned:
    value: Any
    """As the node returned it: None, a dict, a `Command`, a list of them …"""


@dataclass(frozen=True, slots=True)
class NodeInterrupted:
    question: Any
    interrupt_id: str
    snapshot: bytes
    """The one-node graph's own; an answer resumes it."""
    response_schema: dict[str, Any] | None = None
    """JSON Schema of the answer, if the node gave one."""


async def run_node(
    workflow: LoadedWorkflow,
    node: str,
    input: Any,  # noqa: A002
    *,
    snapshot: bytes | None = None,
    answer: Any = NO_ANSWER,
    answers: Sequence[Any] = (),
    on_stream: OnStream | None = None,
    session_id: str = "",
) -> NodeReturned | NodeInterrupted:
    """Runs a node on `input`; resumes it from `snapshot` with `answer`, or from its start with all `answers`.

    `on_stream` gets what the node gives to its stream writer. What the node raises comes out as it is.
    Raises SnapshotVersionMismatch for a snapshot of another version, and FoldMismatch when the node does not
    take the answers (its code has changed).
    """
    run = _NodeRun(workflow, node, SnapshotSaver.opened(workflow, snapshot, session_id=session_id))
    given = [*answers] if answer is NO_ANSWER else [*answers, answer]
    if snapshot is None:
        outcome = await run.on({"step_input": input}, None if given else on_stream)
    else:
        outcome = run.interrupted()
    while given:
        if isinstance(outcome, NodeReturned):
            raise FoldMismatch(f"the node {node} asks fewer questions than were answered")
        answer = given.pop(0)
        # The output of a run up to a question that is answered already was streamed before.
        outcome = await run.on(Command(resume={outcome.interrupt_id: answer}), None if given else on_stream)
    return outcome


class _NodeRun:
    def __init__(self, workflow: LoadedWorkflow, node: str, saver: SnapshotSaver) -> None:
        self._node = node
        self._saver = saver
        self._graph: Graph = saver.attached_to(workflow.node_graph(node))
        self._returned: list[Any] = []
        self._config: RunnableConfig = {
            "configurable": {"thread_id": saver.header.session_id, RETURNED: self._returned}
        }

    async def on(self, graph_input: Any, on_stream: OnStream | None) -> NodeReturned | NodeInterrupted:
        output = self._graph.astream(
            graph_input,
            self._config,
            stream_mode="custom",
            subgraphs=True,
            durability="exit",  # one write of the snapshot instead of one for every task
        )
        async for _, item in output:
            if on_stream is not None:
                await on_stream(item)
        return NodeReturned(self._returned[-1]) if self._returned else self.interrupted()

    def interrupted(self) -> NodeInterrupted:
        question = self._first_question()
        schema = question.response_schema
        return NodeInterrupted(
            question.value,
            question.id,
            self._saver.dumps(),
            schema if isinstance(schema, dict) else None,
        )

    def _first_question(self) -> Interrupt[Any]:
        """Parallel branches of a subgraph may ask at the same time; they are answered in a stable order."""
        open_ids = {question.id for question in self._graph.get_state(self._config).interrupts}
        for question in self._saver.interrupts():
            if question.id in open_ids:
                return question
        raise FoldMismatch(f"the node {self._node} neither returned nor asked anything")
