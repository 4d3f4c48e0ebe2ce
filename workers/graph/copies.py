"""The two graphs that are made of a user's graph.

The orchestrating copy is the same graph, in which every node gives back the result that its step had. It keeps
edges, joins, branches, destinations, schemas and `defer`, so LangGraph itself decides what runs next.

The attempt's copy is the graph itself, in which a node's result is taken as the node returned it, before any of
LangGraph's writers interprets it: routers run in the fold, where an error of theirs costs no paid step. Retries
are left out: each is an attempt of its own.
"""

import copy
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from uuid import UUID

from langchain_core.messages import convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langgraph._internal._config import patch_configurable
from langgraph._internal._constants import CONFIG_KEY_RUNTIME, CONFIG_KEY_SEND, CONFIG_KEY_TASK_ID, PUSH
from langgraph._internal._runnable import RunnableCallable
from langgraph.channels import BinaryOperatorAggregate
from langgraph.channels.base import BaseChannel
from langgraph.graph import START
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel._read import PregelNode
from langgraph.types import Command
from langsmith import tracing_context

from workers.graph.channels import Channel, adds_messages, carried, untracked
from workers.graph.drawn_ids import drawn_ids
from workers.graph.results import StepResult
from workers.graph.schemas import Builder

Graph: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]

RETURNED = "__return__"
"""The channel that takes what a node returned. LangGraph has it for the functional API; no state holds it."""

IDLE = "stellwerk-idle"
"""A node that makes no task: it stands for the siblings of an attempt that was sent."""


@dataclass(frozen=True, slots=True)
class Folding:
    """A fold under way: whose, the results that its nodes give back, and which did."""

    session_id: str
    superstep: int
    results: Mapping[str, StepResult]
    rounds: int
    """How often LangGraph began its run anew for the answers of this superstep, and forgot untracked values."""
    given: dict[str, str] = field(default_factory=dict)
    """The paths, by the ids of the tasks."""
    forgotten: dict[tuple[int, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Values for untracked channels, written before the last round, by round and channel."""

    def check_forgotten(self, channels: Mapping[str, Any]) -> None:
        """Raises InvalidUpdateError where LangGraph would have, before it forgot the values."""
        for (_, name), values in self.forgotten.items():
            channels[name].copy().update(values)


_folding: ContextVar[Folding] = ContextVar("folding")


@contextmanager
def folding(current: Folding) -> Iterator[None]:
    """Switches tracing off, too, which is I/O."""
    token = _folding.set(current)
    try:
        with tracing_context(enabled=False), drawn_ids(f"{current.session_id}/{current.superstep}"):
            yield
    finally:
        _folding.reset(token)


def orchestrating_copy(builder: Builder) -> Graph:
    """Compiled, without a saver."""
    duplicate = copy.copy(builder)
    duplicate._node_defaults = type(builder._node_defaults)()
    duplicate.nodes = {
        name: replace(spec, runnable=_give_result(name), retry_policy=None, cache_policy=None, timeout=None)
        for name, spec in builder.nodes.items()
    }
    duplicate.channels = {name: carried(_repeatable(channel)) for name, channel in builder.channels.items()}
    graph = duplicate.compile()
    if names := untracked(builder):
        for name in builder.nodes:  # after all writers, for routers still see what is written
            graph.nodes[name].writers.append(_forget(name, names))
    return graph


def attempt_copy(graph: Graph) -> Graph:
    """Without a saver; runs from a checkpoint that has one task."""
    duplicate = copy.copy(graph)
    take = RunnableCallable(_take, name="take", trace=False)
    duplicate.nodes = {
        name: node if name == START else node.copy({"writers": [take], "retry_policy": None})
        for name, node in graph.nodes.items()
    }
    duplicate.nodes[IDLE] = PregelNode(channels=[], triggers=[])
    duplicate.channels = {
        name: carried(channel) if isinstance(channel, BaseChannel) else channel
        for name, channel in graph.channels.items()
    }
    duplicate.retry_policy = ()
    duplicate.step_timeout = None  # the step's own time limit holds, which takes it over
    duplicate.interrupt_before_nodes = duplicate.interrupt_after_nodes = ()
    return duplicate


def task_path(path: tuple[Any, ...], node: str) -> str:
    """Sorts like LangGraph's own task paths: nodes by name, then `Send`s as they were sent."""
    kind, place, *_ = path
    return f"send:{place:010d}:{node}" if kind == PUSH else f"node:{node}"


def place_of(path: str) -> int | None:
    """Among those that were sent, from 0; None for a node that reads the state."""
    kind, place, *_ = path.split(":", 2)
    return int(place) if kind == "send" else None


class TriedAgain(Runnable[Any, Any]):
    """A node that failed before: LangGraph, which runs each attempt for the first time, is told which one it is."""

    def __init__(self, node: Runnable[Any, Any], attempt: int) -> None:
        self._node = node
        self._attempt = attempt

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return self._node.invoke(input, self._told(config), **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return await self._node.ainvoke(input, self._told(config), **kwargs)

    def _told(self, config: RunnableConfig | None) -> RunnableConfig:
        given = ensure_config(config)
        runtime = given["configurable"][CONFIG_KEY_RUNTIME].patch_execution_info(node_attempt=self._attempt)
        return patch_configurable(given, {CONFIG_KEY_RUNTIME: runtime})


def _give_result(node: str) -> RunnableCallable:
    def give(_state: Any, config: RunnableConfig) -> Any:
        current = _folding.get()
        path = task_path(config["metadata"]["langgraph_path"], node)
        result = current.results[path]
        current.given[config["configurable"][CONFIG_KEY_TASK_ID]] = path
        if result.sent:
            config["configurable"][CONFIG_KEY_SEND](result.sent)
        return result.returned

    return RunnableCallable(give, None, name=node, trace=False)


def _forget(node: str, names: Set[str]) -> RunnableCallable:
    """Drops the writes to untracked channels of a step that had ended before the last answer was given."""

    def forget(returned: Any, config: RunnableConfig) -> Any:
        current = _folding.get()
        result = current.results[task_path(config["metadata"]["langgraph_path"], node)]
        if result.answers < current.rounds:
            writes = config["configurable"][CONFIG_KEY_SEND].__self__  # the task's, a deque
            written = list(writes)
            writes.clear()
            writes.extend(write for write in written if write[0] not in names)
            for name, value in written:
                if name in names:
                    current.forgotten[result.answers, name].append(value)
        return returned

    return RunnableCallable(forget, None, name="forget", trace=False)


def _take(returned: Any, config: RunnableConfig) -> None:
    # A subgraph that commands its parent comes with the parent's namespace for a graph.
    if isinstance(returned, Command) and returned.graph not in (None, Command.PARENT):
        returned = replace(returned, graph=None)
    config["configurable"][CONFIG_KEY_SEND]([(RETURNED, returned)])


def _repeatable(channel: Channel) -> Channel:
    """The channel; one of messages gives them the same ids in every fold of the same log.

    Steps complete with ids. Older logs hold messages without one, for which `add_messages` would make up another
    at every fold.
    """
    if not isinstance(channel, BinaryOperatorAggregate) or not adds_messages(channel):
        return channel
    repeatable: BinaryOperatorAggregate[Any] = BinaryOperatorAggregate(channel.typ, _with_ids(channel.operator))
    repeatable.key = channel.key
    return repeatable


def _with_ids(reducer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def add_messages_with_ids(left: Any, right: Any) -> Any:
        if right is None:
            return reducer(left, right)  # which has the words for that
        left, right = _messages(left), _messages(right)
        # All ids so far go in, so a new one cannot be an old one.
        seed = hashlib.sha256(_folding.get().session_id.encode())
        for message in (*left, *right):
            if message.id is None:
                message.id = str(UUID(bytes=seed.digest()[:16], version=5))
            seed.update(message.id.encode())
        return reducer(left, right)

    return add_messages_with_ids


def _messages(value: Any) -> list[Any]:
    return list(convert_to_messages(value if isinstance(value, list) else [value]))
