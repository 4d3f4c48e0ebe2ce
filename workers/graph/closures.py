"""The classes that a node's function holds: in its closure and in the graphs that it calls, at any depth."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from langchain_core.runnables import RunnableSequence
from langgraph._internal._runnable import RunnableCallable
from langgraph.graph.state import CompiledStateGraph

_MAX_DEPTH = 16


def closed_over(node: Any) -> Iterator[type]:
    yield from _classes(node, set(), 0)


def _classes(value: Any, seen: set[int], depth: int) -> Iterator[type]:
    if isinstance(value, type):
        yield value
    elif id(value) not in seen and depth < _MAX_DEPTH:
        seen.add(id(value))
        for part in _parts(value):
            yield from _classes(part, seen, depth + 1)


def _parts(value: Any) -> Iterator[Any]:
    """Only of kinds whose parts can be read without running code of theirs."""
    match value:
        case FunctionType():
            yield from value.__closure__ or ()
            yield from value.__defaults__ or ()
            yield from (value.__kwdefaults__ or {}).values()
            named = (value.__globals__.get(name) for name in value.__code__.co_names)
            yield from (graph for graph in named if isinstance(graph, CompiledStateGraph))
        case CellType():
            try:
                yield value.cell_contents
            except ValueError:  # a variable that was never set
                return
        case MethodType():
            yield value.__func__
            yield from getattr(value.__self__, "__dict__", {}).values()
        case partial():
            yield from (value.func, *value.args, *value.keywords.values())
        case RunnableCallable():
            yield from (value.func, value.afunc, value.kwargs)
        case RunnableSequence():
            yield from value.steps
        case CompiledStateGraph():
            yield from value.builder.schemas
            yield from (spec.runnable for spec in value.builder.nodes.values())
        case Mapping():
            yield from value.values()
        case list() | tuple() | set() | frozenset():
            yield from value
        case _ if dataclasses.is_dataclass(value):
            yield from vars(value).values() if hasattr(value, "__dict__") else ()
