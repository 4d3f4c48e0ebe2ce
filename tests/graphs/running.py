"""One case in plain LangGraph, and the same step by step through the engine."""

import asyncio
import copy
import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from langgraph.cache.memory import InMemoryCache
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, PregelTask

from app.errors import WorkflowError
from tests.graphs.cases import Case
from tests.graphs.comparing import Asked, Seen, literal
from tests.graphs.driving import drive, fold_again
from tests.graphs.effects import recorded
from workers.graph import fold
from workers.graph.loading import LoadedWorkflow
from workers.workflow import Workflow

PATIENCE_SECONDS = 10.0
"""A graph that never ends is a difference, too."""


class Pickled:
    """A saver's serializer that keeps every type as it is; LangGraph's own makes lists of tuples."""

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        return "pickle", pickle.dumps(value)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return pickle.loads(data[1])


class Answers:
    """The answers of a case, one after the other or by question."""

    def __init__(self, case: Case) -> None:
        self._by_question = dict(case.answers) if isinstance(case.answers, Mapping) else None
        self._in_order = [] if isinstance(case.answers, Mapping) else list(case.answers)

    def to(self, question: Any) -> Any:
        if self._by_question is not None:
            return self._by_question.pop(str(question))
        return self._in_order.pop(0)

    def left(self) -> list[Any]:
        return [*(self._by_question or {}), *self._in_order]


class Replies:
    """What plain LangGraph's questions were answered, for a run that asks the same ones, perhaps in another order."""

    def __init__(self, plain: Seen, form: Callable[[Any], Any] = lambda question: question) -> None:
        """`form` makes of a question what the other run shows of it."""
        self._open = [asked._replace(question=form(asked.question)) for asked in plain.questions]

    def to(self, node: str, question: Any) -> Any:
        """Raises LookupError for a question that plain LangGraph did not ask, or not as often."""
        for asked in self._open:
            if asked.node == node and repr(asked.question) == repr(question):
                self._open.remove(asked)
                return asked.answer
        raise LookupError(f"{node} asks {question!r}, which it does not in plain LangGraph")


async def in_plain_langgraph(case: Case) -> Seen:
    graph = _plain(case)
    config: Any = {**case.config, "configurable": {**case.config.get("configurable", {}), "thread_id": str(uuid4())}}
    answers, seen = Answers(case), Seen()
    given: Any = dict(case.input)
    with recorded() as effects:
        try:
            while given is not None:
                seen.output = await graph.ainvoke(given, config, context=case.context)
                if not graph.checkpointer:
                    break
                state = await graph.aget_state(config)
                seen.state = without_untracked(case, state.values)
                given = _answered(sorted(state.tasks, key=_place), answers, seen)
        except Exception as error:  # noqa: BLE001  whatever it is, it is compared
            seen.error = _told(error)
    seen.effects = Counter(effects)
    if seen.error is None:
        assert not answers.left(), f"{case.name} asks fewer questions than it has answers: {answers.left()}"
    return seen


def _plain(case: Case) -> Any:
    graph: Any = case.graph.compile() if isinstance(case.graph, StateGraph) else copy.copy(case.graph)
    # No saver of LangGraph's takes what ours refuses.
    graph.checkpointer = None if case.refuses else InMemorySaver(serde=Pickled())
    graph.store = None if graph.store is None else InMemoryStore()
    graph.cache = None if graph.cache is None else InMemoryCache()
    return graph


def _answered(tasks: list[PregelTask], answers: Answers, seen: Seen) -> Any:
    """One answer for each task that asks: a task runs again with each, so it gets one at a time."""
    resume = {}
    for task in tasks:
        if task.interrupts:
            question = task.interrupts[0]
            resume[question.id] = answers.to(question.value)
            seen.questions.append(Asked(task.name, question.value, resume[question.id]))
    return Command(resume=resume) if resume else None


def _place(task: PregelTask) -> tuple[str, int, str]:
    """Nodes by name, then `Send`s as they were sent."""
    kind, *place = task.path
    return (kind, int(str(place[0])), task.name) if kind == "__pregel_push" else ("", 0, task.name)


def without_untracked(case: Case, values: Any) -> Any:
    """No saver of LangGraph's keeps an untracked value; what a snapshot keeps beyond that is no part of the state."""
    graph = case.graph if isinstance(case.graph, StateGraph) else case.graph.builder
    untracked = {name for name, channel in graph.channels.items() if isinstance(channel, UntrackedValue)}
    return {name: value for name, value in values.items() if name not in untracked}


def case_loaded(case: Case) -> LoadedWorkflow:
    return LoadedWorkflow(case.name, Workflow(graph=case.graph, nodes=case.nodes))


async def step_by_step(case: Case, plain: Seen) -> Seen:
    """Through the engine, in this process, with the answers that plain LangGraph's questions had."""
    workflow, replies, seen = case_loaded(case), Replies(plain), Seen()

    def answering(step: fold.PendingStep, question: Any) -> Any:
        return replies.to(step.node, question)

    with recorded() as effects:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                outcome = await drive(workflow, case.input, answering, context=case.context, config=case.config)
                again = await fold_again(workflow, case.input, outcome)
        except Exception as error:  # noqa: BLE001  whatever it is, it is compared
            seen.error = str(error) if isinstance(error, WorkflowError) else _told(error)
        else:
            ended = fold.read(workflow, outcome.snapshots[-1])
            assert literal(ended.values) == literal(again.values), "folded again from its log, it ends otherwise"
            seen.state, seen.output = without_untracked(case, ended.values), outcome.output
            seen.questions = [Asked(node, question) for node, question in outcome.questions]
    seen.effects = Counter(effects)
    return seen


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
