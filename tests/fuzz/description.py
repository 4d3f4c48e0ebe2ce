"""What a random graph is, as pure data: `repr` of one is Python that a test can hold."""

from dataclasses import dataclass, fields, replace
from typing import Literal

Schema = Literal["typed", "dataclass", "pydantic"]
Reads = Literal["state", "private", "managed"]
Returns = Literal["dict", "none", "command", "commands"]
Form = Literal["value", "overwrite", "id", "no id", "dict", "tuple", "text", "several", "shared", "removal", "message"]
"""How a value is written: a message in one of its forms; "message" is one in a channel that has no reducer."""


@dataclass(frozen=True)
class Short:
    """Prints no field that has its default."""

    def __repr__(self) -> str:
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) != item.default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Write(Short):
    channel: str
    form: Form = "value"


@dataclass(frozen=True, kw_only=True, repr=False)
class Goto(Short):
    """A way to a node, as its name or in `times` Sends. Ways back, and Sends, are taken up to the graph's bound."""

    node: str
    times: int = 0
    with_message: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Call(Short):
    """Subgraphs that a node calls itself, one after the other."""

    graph: "Graph"
    times: int = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class Node(Short):
    name: str
    returns: Returns = "dict"
    writes: tuple[Write, ...] = ()
    gotos: tuple[Goto, ...] = ()
    parent_goto: str = ""
    """Where a subgraph's node sends the graph around it."""
    reads: Reads = "state"
    asks: int = 0
    """Questions, one after the other, before the calls of subgraphs."""
    asks_after: int = 0
    raises: bool = False
    sync: bool = False
    defer: bool = False
    call: Call | None = None
    subgraph: "Graph | None" = None
    """The node is this graph; nothing else of it counts but `defer`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Router(Short):
    source: str
    targets: tuple[Goto, ...]
    many: bool = False
    """All ways are taken; otherwise one of them, by the state."""
    raises: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Graph(Short):
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    joins: tuple[tuple[tuple[str, ...], str], ...] = ()
    routers: tuple[Router, ...] = ()
    schema: Schema = "typed"
    bound: int = 4
    """Nobody goes back once the state counts so many turns."""
    persistent: bool = False
    """Compiled with `checkpointer=True`; for subgraphs."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Case(Short):
    """A graph, and the order in which the steps of a superstep complete: they are sorted by these numbers."""

    graph: Graph
    order: tuple[int, ...] = ()


def all_sync(graph: Graph) -> Graph:
    """For a sync caller, who cannot run async nodes."""
    nodes = [
        replace(
            node,
            sync=True,
            subgraph=node.subgraph and all_sync(node.subgraph),
            call=node.call and replace(node.call, graph=all_sync(node.call.graph)),
        )
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def has_persistent(graph: Graph) -> bool:
    inner = [node.subgraph or (node.call.graph if node.call else None) for node in graph.nodes]
    return graph.persistent or any(has_persistent(one) for one in inner if one is not None)
