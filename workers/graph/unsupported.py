"""What a graph may not hold, since what became of it would differ from plain LangGraph: found when it is loaded.

Each is told with its place and with what to do instead.
"""

import asyncio
import collections.abc
import io
import threading
import types
from _socket import SocketType  # what all sockets inherit; beside the fold nothing does I/O
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import IO, Annotated, Any, Union, get_args, get_origin

from langgraph.channels import DeltaChannel, UntrackedValue
from langgraph.channels.base import BaseChannel
from langgraph.graph.state import CompiledStateGraph

from workers.graph.nested import Nested, nested_graphs
from workers.graph.schemas import Builder

_NEVER_STORED: tuple[type, ...] = (
    *(type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.Semaphore),
    *(threading.Barrier, threading.Thread, Executor, asyncio.Lock, asyncio.Condition, asyncio.Event),
    *(asyncio.Semaphore, asyncio.Queue, asyncio.Future, asyncio.AbstractEventLoop, SocketType, io.IOBase, IO),
    *(types.FunctionType, types.MethodType, types.ModuleType, types.GeneratorType, types.AsyncGeneratorType),
)
"""No value of these, or of what inherits from them, can be written down."""
_NEVER_STORED_ABSTRACT = (
    *(collections.abc.Callable, collections.abc.Generator, collections.abc.AsyncGenerator, collections.abc.Coroutine),
)
"""As they stand: a model of the user's that can be called as well is none of them."""
_LOCKS = (threading.Lock, threading.RLock)
"""What people annotate with: functions, in Python before 3.13."""
_ROOT = "__root__"
_NO_OBJECTS = (
    *(list, tuple, set, frozenset, str, bytes, int, float, bool),
    *(collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Set, collections.abc.MutableSet),
)


def unsupported(builder: Builder, compiled: Nested | None) -> Iterator[str]:
    """What is wrong with a workflow's graph; `compiled` is it as the user compiled it, if so."""
    yield from _root(builder)
    if compiled is not None:
        yield from _breakpoints("it", compiled)
    yield from _error_handlers(builder)
    yield from _delta_channels("its state", builder.channels, "annotate it with a reducer")
    yield from _unstorable(builder)
    for place, graph in nested_graphs(builder):
        yield from _breakpoints(f"the subgraph in its node {place!r}", graph)
        # Without a checkpointer it is never read back.
        if isinstance(graph, CompiledStateGraph) and graph.checkpointer is not False:
            where = f"the state of the subgraph in its node {place!r}"
            remedy = "annotate it with a reducer, or compile the subgraph with checkpointer=False"
            yield from _delta_channels(where, graph.builder.channels, remedy)


def _root(builder: Builder) -> Iterator[str]:
    # A session's input, state and output are objects, by field.
    kinds = {"state": builder.state_schema, "input": builder.input_schema, "output": builder.output_schema}
    for kind, schema in kinds.items():
        channel = builder.schemas[schema].get(_ROOT)
        if isinstance(channel, BaseChannel) and any(_plain(channel.ValueType) is kind for kind in _NO_OBJECTS):
            yield (
                f"its {kind} is a {_plain(channel.ValueType).__name__}, not an object; make it a TypedDict, a dataclass"
                " or a pydantic model with a field for that"
            )
            return


def _breakpoints(what: str, graph: Nested) -> Iterator[str]:
    for option, nodes in (
        ("interrupt_before", graph.interrupt_before_nodes),
        ("interrupt_after", graph.interrupt_after_nodes),
    ):
        if nodes:
            names = nodes if isinstance(nodes, str) else ", ".join(nodes)
            yield f"{what} is compiled with {option}={names}; call interrupt() in the node instead"


def _error_handlers(builder: Builder) -> Iterator[str]:
    """Those inside of a subgraph are run: they are a part of its step's attempt."""
    remedy = "catch the error in the node, or make a subgraph of the node and its handler"
    if builder._node_defaults.error_handler is not None:
        yield f"set_node_defaults() gives its nodes an error handler, which would not be run; {remedy}"
        return  # compiling gave each of them that one
    for name, spec in builder.nodes.items():
        if spec.error_handler_node is not None:
            yield f"its node {str.__str__(name)!r} has an error handler, which would not be run; {remedy}"


def _delta_channels(whose: str, channels: dict[str, BaseChannel[Any, Any, Any]], remedy: str) -> Iterator[str]:
    # They are read from the writes of all checkpoints, and a snapshot holds the latest only.
    for name, channel in channels.items():
        if isinstance(channel, DeltaChannel):
            yield f"{whose} has a DeltaChannel, {name!r}, whose history is not kept; {remedy}"


def _unstorable(builder: Builder) -> Iterator[str]:
    for name, channel in builder.channels.items():
        if not isinstance(channel, UntrackedValue) and _is_unstorable(channel.ValueType):
            yield (
                f"its state's {name!r} holds what cannot be stored ({channel.ValueType!r}); make it where it is"
                " needed, or annotate it with UntrackedValue"
            )


def _is_unstorable(annotation: Any) -> bool:
    """Only where no value at all could be stored: an optional lock may be None, and a list of them empty."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_unstorable(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return all(map(_is_unstorable, get_args(annotation)))
    kind = origin or annotation
    if any(kind is known for known in (*_LOCKS, *_NEVER_STORED_ABSTRACT)):
        return True
    return isinstance(kind, type) and issubclass(kind, _NEVER_STORED)


def _plain(annotation: Any) -> Any:
    """The class alone: of `list[int]` it is `list`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    return get_origin(annotation) or annotation
