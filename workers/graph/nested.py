"""The graphs inside of a graph's nodes, as far as they can be seen before anything runs."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langgraph._internal._runnable import RunnableCallable, RunnableSeq
from langgraph.pregel import Pregel
from langgraph.pregel._utils import get_function_nonlocals

from workers.graph.schemas import Builder

Nested: TypeAlias = Pregel[Any, Any, Any, Any]


def nested_graphs(builder: Builder) -> Iterator[tuple[str, Nested]]:
    """Each with its place, `outer / inner`: the nodes on the way to it.

    The search is that of LangGraph's `find_subgraph_pregel`, which stops at the first graph of a node. It looks into
    sequences and at what functions name, not into what they call.
    """
    yield from _below({name: spec.runnable for name, spec in builder.nodes.items()}, (), set())


def _below(nodes: Mapping[str, Any], way: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Nested]]:
    for name, runnable in nodes.items():
        here = (*way, str.__str__(name))
        for graph in _graphs_in(runnable):
            if id(graph) not in seen:  # a function may name its own graph
                seen.add(id(graph))
                yield " / ".join(here), graph
                yield from _below({name: node.bound for name, node in graph.nodes.items()}, here, seen)


def _graphs_in(runnable: Any) -> Iterator[Nested]:
    candidates = [runnable]
    for candidate in candidates:
        if isinstance(candidate, Pregel):
            yield candidate
        elif isinstance(candidate, Runnable):
            candidates.extend(_parts(candidate))


def _parts(runnable: Runnable[Any, Any]) -> Iterator[Any]:
    match runnable:
        case RunnableSequence() | RunnableSeq():
            yield from runnable.steps
        case RunnableParallel():
            yield from runnable.steps__.values()
        case RunnableBindingBase():
            yield runnable.bound
        case RunnableLambda():
            yield from runnable.deps
        case RunnableCallable():
            for function in (runnable.func, runnable.afunc):
                if function is not None:
                    yield from (getattr(value, "__self__", value) for value in get_function_nonlocals(function))
