"""Graphs that once ended otherwise than in plain LangGraph, as small as they became."""

from itertools import pairwise
from typing import Final

from tests.fuzz.description import Call, Case, Goto, Graph, Node, Router, Write

SCRATCH: Final = Write(channel="scratch")


def together(*nodes: Node) -> Case:
    """All in the first superstep, and one more that sees what came of it."""
    last = Node(name="z")
    begin = tuple(("__start__", node.name) for node in nodes)
    return Case(graph=Graph(nodes=(*nodes, last), edges=(*begin, (nodes[0].name, last.name))))


def one_after_the_other(*nodes: Node) -> Case:
    names = ["__start__", *(node.name for node in nodes)]
    return Case(graph=Graph(nodes=nodes, edges=tuple(pairwise(names))))


ASKING: Final = Graph(
    nodes=(Node(name="a", asks=1), Node(name="b", asks=1)), edges=(("__start__", "a"), ("__start__", "b"))
)
PAID: Final = Graph(nodes=(Node(name="a"),), edges=(("__start__", "a"),))
REMEMBERING: Final = Graph(nodes=(Node(name="a"),), edges=(("__start__", "a"),), persistent=True)

FOUND: Final = {
    "messages without ids from two nodes, before a router": Case(
        graph=Graph(
            nodes=(
                Node(name="a", writes=(Write(channel="messages", form="dict"),)),
                Node(name="b", writes=(Write(channel="messages", form="several"),)),
            ),
            edges=(("__start__", "a"), ("__start__", "b")),
            routers=(Router(source="b", targets=(Goto(node="a"),)),),
        )
    ),
    "a reducer that wraps add_messages": one_after_the_other(
        Node(name="a", returns="command", writes=(Write(channel="window", form="text"),), gotos=(Goto(node="a"),)),
        Node(name="b"),
    ),
    "an untracked value in the next superstep": one_after_the_other(
        Node(name="a", writes=(SCRATCH,)), Node(name="b", writes=(SCRATCH,))
    ),
    "an untracked value that is written after an answer": together(Node(name="a", writes=(SCRATCH,), asks=1)),
    "an untracked value that is written after an answer, at the end": one_after_the_other(
        Node(name="a", writes=(SCRATCH,), asks=1)
    ),
    "an untracked value beside a question, among commands": together(
        Node(name="a", returns="commands", writes=(SCRATCH,)), Node(name="b", asks=1)
    ),
    "an untracked value that is written after an answer, before another": together(
        Node(name="a", writes=(SCRATCH,), asks=1), Node(name="b", asks=2)
    ),
    "an untracked value that is written after two answers, in turn": together(
        Node(name="a", writes=(SCRATCH,), asks=1), Node(name="b", writes=(SCRATCH,), asks=2)
    ),
    "two untracked values of one channel beside a question": together(
        Node(name="a", writes=(SCRATCH,)), Node(name="b", asks=1), Node(name="c", writes=(SCRATCH,))
    ),
    "one message in two channels": together(
        Node(name="a", writes=(Write(channel="messages", form="shared"), Write(channel="window", form="shared")))
    ),
    "the steps that remain": one_after_the_other(
        Node(name="a", asks=1), Node(name="b", reads="managed"), Node(name="c", reads="managed")
    ),
    "two called subgraphs that each ask, in two branches": together(Node(name="a", call=Call(graph=ASKING, times=2))),
    "a called subgraph before its node's own question": together(
        Node(name="a", asks_after=1, call=Call(graph=PAID, times=2))
    ),
    "a persistent subgraph in a loop": Case(
        graph=Graph(
            nodes=(Node(name="a", returns="command", gotos=(Goto(node="a"),), call=Call(graph=REMEMBERING)),),
            edges=(("__start__", "a"),),
        )
    ),
    "a persistent subgraph as a node, in a loop": Case(
        graph=Graph(
            nodes=(Node(name="a", subgraph=REMEMBERING), Node(name="b")),
            edges=(("__start__", "a"), ("a", "b")),
            routers=(Router(source="b", targets=(Goto(node="a"),)),),
        )
    ),
    "two Sends of a called graph that ask the same, in turn": one_after_the_other(
        Node(
            name="a",
            call=Call(
                graph=Graph(
                    nodes=(
                        Node(name="a", returns="command", gotos=(Goto(node="b", times=2),)),
                        Node(
                            name="b",
                            call=Call(graph=Graph(nodes=(Node(name="a", asks=1),), edges=(("__start__", "a"),))),
                        ),
                    ),
                    edges=(("__start__", "a"),),
                )
            ),
        ),
        Node(name="b"),
    ),
}
"""Each by what was special about it."""
