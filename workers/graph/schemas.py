"""What a graph's annotations say: which types its state holds, and its shape as a version."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import is_typeddict

from workers.graph.classes import is_storable
from workers.graph.closures import closed_over

Builder: TypeAlias = StateGraph[Any, Any, Any, Any]


def subgraphs(builder: Builder) -> dict[str, Builder]:
    """The graphs that are nodes themselves, by node."""
    return {
        name: spec.runnable.builder
        for name, spec in builder.nodes.items()
        if isinstance(spec.runnable, CompiledStateGraph)
    }


def state_types(builder: Builder) -> set[type]:
    """The classes of values that the schemas of a graph and its subgraphs name, and that its nodes close over.

    The latter are how a node that is made by a function holds the class of its answer, such as LangChain's agent
    its `response_format`.
    """
    seen: set[Any] = set()
    named = [*builder.schemas, *(cls for spec in builder.nodes.values() for cls in closed_over(spec.runnable))]
    found = {cls for schema in named for cls in _classes(schema, seen) if _is_storable(cls)}
    for subgraph in subgraphs(builder).values():
        found |= state_types(subgraph)
    return found


def shape_digest(builder: Builder) -> str:
    """The same in every process and on every machine for the same nodes, edges, branches and schemas."""
    return hashlib.sha256(json.dumps(_shape(builder), sort_keys=True).encode()).hexdigest()[:16]


def _shape(builder: Builder) -> dict[str, Any]:
    seen: set[Any] = set()
    schemas = (builder.state_schema, builder.input_schema, builder.output_schema)
    return {
        "schemas": [_describe(schema, seen) for schema in schemas],
        "nodes": {
            name: [_describe(spec.input_schema, seen), spec.defer, sorted(spec.ends or ())]
            for name, spec in sorted(builder.nodes.items())
        },
        "edges": sorted(builder.edges),
        "joins": sorted(builder.waiting_edges),
        "branches": {
            source: {
                name: branch.ends and sorted((str(key), end) for key, end in branch.ends.items())
                for name, branch in branches.items()
            }
            for source, branches in builder.branches.items()
        },
        "subgraphs": {name: _shape(subgraph) for name, subgraph in subgraphs(builder).items()},
    }


def _classes(annotation: Any, seen: set[Any]) -> Iterator[type]:
    """Every class that an annotation names, with those that its fields name."""
    if isinstance(annotation, list):  # the arguments of a Callable
        for item in annotation:
            yield from _classes(item, seen)
        return
    origin = get_origin(annotation)
    if origin is Literal:
        return
    if origin is not None:
        arguments = get_args(annotation)
        for item in (origin, *(arguments[:1] if origin is Annotated else arguments)):
            yield from _classes(item, seen)
    elif isinstance(annotation, type) and annotation not in seen:
        seen.add(annotation)
        yield annotation
        for field in _fields(annotation).values():
            yield from _classes(field, seen)
    elif (inner := _aliased(annotation)) is not None and annotation not in seen:
        seen.add(annotation)
        yield from _classes(inner, seen)


def _aliased(annotation: Any) -> Any:
    """What a NewType or a type alias stands for."""
    return getattr(annotation, "__supertype__", getattr(annotation, "__value__", None))


def _is_storable(cls: type) -> bool:
    return is_storable(cls) and cls.__module__ != "builtins" and not is_typeddict(cls)


def _fields(cls: type) -> dict[str, Any]:
    if not (is_typeddict(cls) or dataclasses.is_dataclass(cls) or hasattr(cls, "__annotations__")):
        return {}
    try:
        return get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):  # a forward reference that only a type checker can follow
        return dict(getattr(cls, "__annotations__", {}))


def _describe(annotation: Any, seen: set[Any]) -> Any:
    """An annotation as JSON, without memory addresses; a class's fields where it is named first."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ["Literal", *map(repr, arguments)]
    if origin is Annotated:
        return [_describe(arguments[0], seen), *(_name(item) for item in annotation.__metadata__)]
    if origin in (Union, UnionType):
        return ["Union", *(_describe(item, seen) for item in arguments)]
    if origin is not None:
        return [_name(origin), *(_describe(item, seen) for item in arguments)]
    if isinstance(annotation, type) and not _is_foreign(annotation) and annotation not in seen:
        seen.add(annotation)
        fields = {name: _describe(field, seen) for name, field in _fields(annotation).items()}
        members = [member.name for member in annotation] if issubclass(annotation, Enum) else []
        return [_name(annotation), fields, members]
    if (inner := _aliased(annotation)) is not None and annotation not in seen:
        seen.add(annotation)
        return [_name(annotation), _describe(inner, seen)]
    return _name(annotation)


def _is_foreign(cls: type) -> bool:
    """Says whether its name is enough: an upgrade of these must not make another version of every workflow."""
    return cls.__module__.partition(".")[0] in ("builtins", "langchain_core", "langgraph")


def _name(item: Any) -> str:
    """The name of a class, function or other thing, or of its class."""
    if item is None or isinstance(item, str | int):
        return repr(item)
    named = item if hasattr(item, "__name__") else type(item)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', named.__name__)}"
