"""The two graphs that are made of a user's graph.

The orchestrating copy is the same graph, in which every node only asks for its result. It keeps edges,
joins, branches, destinations, schemas and `defer`, so LangGraph itself decides what runs next; retries,
caches and time limits are a step's business and are left out.

A one-node graph holds a single node's own runnable, reached by a `Send`. So the stream writer, the injected
runtime, `interrupt()` and subgraphs work as in plain LangGraph, and what the node returned is taken as it is,
before any of LangGraph's writers interprets it.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeAlias, TypedDict
from uuid import UUID

from langchain_core.messages import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph._internal._runnable import RunnableCallable
from langgraph.channels import BinaryOperatorAggregate, EphemeralValue
from langgraph.channels.base import BaseChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore
from langgraph.types import Command, Send, interrupt
from langsmith import tracing_context

from workers.graph.schemas import Builder

Graph: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]

RETURNED = "stellwerk_returned"
"""The key in a run's `configurable` whose list takes what the node returned."""

_folded_session: ContextVar[str] = ContextVar("folded_session", default="")


def orchestrating_copy(builder: Builder) -> Graph:
    """Compiled, without a saver."""
    duplicate = copy.copy(builder)
    duplicate._node_defaults = type(builder._node_defaults)()
    duplicate.nodes = {
        name: replace(spec, runnable=_ask_for_result(name), retry_policy=None, cache_policy=None, timeout=None)
        for name, spec in builder.nodes.items()
    }
    duplicate.channels = {name: _repeatable(channel) for name, channel in builder.channels.items()}
    return duplicate.compile()


@contextmanager
def folding(session_id: str) -> Iterator[None]:
    """Names the session whose messages get their ids in this context; switches tracing off, which is I/O."""
    token = _folded_session.set(session_id)
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        _folded_session.reset(token)


def _ask_for_result(node: str) -> RunnableCallable:
    # A node runs again from its start at every resume: nothing but the one call may stand here.
    async def ask(_state: Any) -> Any:
        return interrupt({"node": node})

    return RunnableCallable(None, ask, name=node, trace=False)


def _repeatable(channel: BaseChannel[Any, Any, Any]) -> BaseChannel[Any, Any, Any]:
    """The channel; one of messages gives them the same ids in every fold of the same log.

    `add_messages` makes up a random id for a message without one, and then a fold that is repeated would
    not give the same state.
    """
    if not isinstance(channel, BinaryOperatorAggregate) or not _adds_messages(channel.operator):
        return channel
    repeatable: BinaryOperatorAggregate[Any] = BinaryOperatorAggregate(channel.typ, _with_ids(channel.operator))
    repeatable.key = channel.key
    return repeatable


def _adds_messages(reducer: Callable[..., Any]) -> bool:
    # add_messages(format=…) is a partial of the undecorated function.
    plain = reducer.func if isinstance(reducer, partial) else reducer
    return plain is add_messages or plain.__module__ == add_messages.__module__


def _with_ids(reducer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def add_messages_with_ids(left: Any, right: Any) -> Any:
        left, right = _messages(left), _messages(right)
        # All ids so far go in, so a new one cannot be an old one.
        seed = hashlib.sha256(_folded_session.get().encode())
        for message in (*left, *right):
            if message.id is None:
                message.id = str(UUID(bytes=seed.digest()[:16], version=5))
            seed.update(message.id.encode())
        return reducer(left, right)

    return add_messages_with_ids


def _messages(value: Any) -> list[Any]:
    return list(convert_to_messages(value if isinstance(value, list) else [value]))


class Call(TypedDict):
    # Ephemeral, so a snapshot holds the input once, in the `Send`.
    step_input: Annotated[Any, EphemeralValue]


def node_graph(builder: Builder, node: str, store: BaseStore | None = None) -> Graph:
    """Compiled, without a saver; runs on a `Call`."""

    def send(call: Call) -> Send:
        return Send(node, call["step_input"])

    spec = builder.nodes[node]
    single: Builder = StateGraph(Call, builder.context_schema)
    single.nodes[node] = replace(
        spec,
        input_schema=Call,
        retry_policy=None,
        cache_policy=None,
        timeout=spec.timeout or builder._node_defaults.timeout,
        ends=(),
        defer=False,
    )
    single.add_conditional_edges(START, send)
    graph = single.compile(store=store)
    graph.nodes[node].writers[:] = [RunnableCallable(_take, name="take", trace=False)]
    return graph


def _take(returned: Any, config: RunnableConfig) -> None:
    # A subgraph that commands its parent comes with the parent's namespace for a graph.
    if isinstance(returned, Command) and returned.graph not in (None, Command.PARENT):
        returned = replace(returned, graph=None)
    config["configurable"][RETURNED].append(returned)
