"""A state whose types stand in every kind of annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

from langgraph.graph import START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypeAliasType

T = TypeVar("T")


class InList(Enum):
    A = 1


class InUnion(Enum):
    A = 1


class InOptional(BaseModel):
    deeper: InField | None = None


class InField(NamedTuple):
    n: int


@dataclass
class InMapping:
    itself: InMapping | None
    other: InDataclass


@dataclass
class InDataclass:
    n: int


@dataclass
class Box(Generic[T]):
    content: T


class InBox(Enum):
    A = 1


class InNewType(Enum):
    A = 1


class InAlias(Enum):
    A = 1


class InTypedDict(Enum):
    A = 1


class InCallable(Enum):
    A = 1


class InAnnotated(Enum):
    A = 1


class InNodeInput(Enum):
    A = 1


Wrapped = NewType("Wrapped", InNewType)
Alias = TypeAliasType("Alias", list[InAlias])


class Nested(TypedDict):
    inner: NotRequired[InTypedDict]


class State(TypedDict, total=False):
    a: list[InList]
    b: int | InUnion
    c: Optional[InOptional]  # noqa: UP045
    d: Mapping[str, Sequence[InMapping]]
    e: Box[InBox]
    f: Wrapped
    g: Alias
    h: Nested
    i: Callable[[InCallable], None]
    j: Annotated[InAnnotated, "a note"]
    k: Literal["x"]
    m: Any


class NodeInput(TypedDict):
    k: str
    n: InNodeInput


NAMES = {
    *("InList", "InUnion", "InOptional", "InField", "InMapping", "InDataclass", "Box", "InBox", "InNewType"),
    *("InAlias", "InTypedDict", "InCallable", "InAnnotated", "InNodeInput"),
}


def node(state: NodeInput) -> None: ...


def build() -> Any:
    graph: Any = StateGraph(State)
    graph.add_node(node)
    graph.add_edge(START, "node")
    return graph
