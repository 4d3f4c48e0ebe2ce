"""Edges, joins, `defer`, loops, fan-out with `Send`, and what a node returns."""

import operator
from typing import Annotated, Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Overwrite, Send, interrupt
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, joined, row, says, side_by_side


class Sum(Log):
    total: Annotated[int, operator.add]
    last: str


def diamond() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in ("first", "left", "right", "last"):
        graph.add_node(name, says(name))
    joined(graph, [START, "first", "left"])
    graph.add_edge("first", "right")
    graph.add_edge(["left", "right"], "last")
    return graph


def branches_of_unequal_length() -> Graph:
    """Without a join `last` runs twice; with one, once."""
    graph: Graph = StateGraph(Log)
    for name in ("a", "b1", "b2", "last", "joined"):
        graph.add_node(name, says(name))
    joined(graph, [START, "a", "last"])
    joined(graph, [START, "b1", "b2", "last"])
    graph.add_edge(["a", "b2"], "joined")
    return graph


def deferred() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in ("a", "b1", "b2", "b3"):
        graph.add_node(name, says(name))
    graph.add_node("last", says("last"), defer=True)
    joined(graph, [START, "a", "last"])
    joined(graph, [START, "b1", "b2", "b3", "last"])
    return graph


def deferred_after_sends() -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("work", lambda state: {"log": [f"work {state['n']}"]})
    graph.add_node("long", says("long"))
    graph.add_node("longer", says("longer"))
    graph.add_node("last", says("last"), defer=True)
    graph.add_conditional_edges(
        START, lambda s: ["long", *(Send("work", {"n": n}) for n in range(3))], ["work", "long"]
    )
    graph.add_edge("work", "last")
    joined(graph, ["long", "longer", "last"])
    return graph


def loop_with_a_join() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in ("again", "x", "y", "both"):
        graph.add_node(name, says(name))
    joined(graph, [START, "again", "x"])
    graph.add_edge("again", "y")
    graph.add_edge(["x", "y"], "both")
    graph.add_conditional_edges("both", lambda s: "again" if len(s["log"]) < 9 else END, ["again", END])
    return graph


def several_routers() -> Graph:
    def two(state: Log) -> list[str]:
        return ["x", "y"]

    def another(state: Log) -> str:
        return {True: "z"}[len(state["log"]) == 1]

    graph = row(Log, ("first", says("first")))
    for name in ("x", "y", "z"):
        graph.add_node(name, says(name))
    graph.add_conditional_edges("first", two, ["x", "y"])
    graph.add_conditional_edges("first", another, ["z"])
    return graph


def routed_by_a_map() -> Graph:
    def route(state: Log) -> Literal["many", "few"]:
        return "many" if len(state["log"]) > 2 else "few"

    graph = row(Log, ("first", says("first")))
    graph.add_node("x", says("x"))
    graph.add_node("y", says("y"))
    graph.add_conditional_edges("first", route, {"many": "x", "few": "y"})
    graph.add_conditional_edges("y", route, {"many": "x", "few": END})
    return graph


def sends_of_sends() -> Graph:
    def split(state: Any) -> Command[Any]:
        happened(f"split {state['n']}")
        leaves = [Send("leaf", {"n": state["n"], "m": m}) for m in range(2)]
        return Command(update={"log": [f"split {state['n']}"]}, goto=leaves)

    graph: Graph = StateGraph(Log)
    graph.add_node("split", split, destinations=("leaf",))
    graph.add_node("leaf", lambda state: {"log": [[state["n"], state["m"]]]})
    graph.add_conditional_edges(START, lambda state: [Send("split", {"n": n}) for n in range(3)], ["split"])
    return graph


def sends_beside_edges() -> Graph:
    graph: Graph = StateGraph(Sum)
    graph.add_node("a", says("a"))
    graph.add_node("work", lambda state: {"log": [state["n"]], "total": state["n"]})
    graph.add_node("end", lambda state: {"log": [state["total"]]})
    graph.add_conditional_edges(START, lambda s: ["a", *(Send("work", {"n": n}) for n in (3, 1, 2))], ["a", "work"])
    graph.add_edge(["a", "work"], "end")
    return graph


def sends_to_several_nodes() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in "xyz":
        graph.add_node(name, lambda state, name=name: {"log": [f"{name}{state['n']}"]})
    graph.add_conditional_edges(
        START, lambda state: [Send(name, {"n": n}) for n, name in enumerate("zxyzx")], ["x", "y", "z"]
    )
    return graph


def sends_of_odd_arguments() -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("work", lambda state: {"log": [[type(state).__name__, state]]})
    arguments: list[Any] = [None, 0, "text", [1], (1, 2), {"a": {1}}]
    graph.add_conditional_edges(START, lambda state: [Send("work", a) for a in arguments], ["work"])
    return graph


def sends_that_ask() -> Graph:
    def work(state: Any) -> Log:
        happened(f"before {state['n']}")
        return {"log": [[state["n"], interrupt(f"number {state['n']}")]]}

    graph: Graph = StateGraph(Log)
    graph.add_node("work", work)
    graph.add_node("last", says("last"))
    graph.add_conditional_edges(START, lambda state: [Send("work", {"n": n}) for n in range(3)], ["work"])
    graph.add_edge("work", "last")
    return graph


def returns_of_all_kinds() -> Graph:
    nodes: list[Any] = [
        ("nothing", lambda state: None),
        ("empty", lambda state: {}),
        ("one", lambda state: {"log": ["one"]}),
        ("total", lambda state: {"total": 2, "last": "total"}),
        ("none_in_it", lambda state: {"last": None}),
        ("seen", lambda state: {"log": [state["total"], state["last"]]}),
    ]
    return row(Sum, *nodes)


def overwritten() -> Graph:
    def replace(state: Any) -> dict[str, Any]:
        return {"log": Overwrite(["anew"]), "total": Overwrite(100)}

    return row(Sum, ("first", says("first")), replace, ("last", says("last")))


def overwritten_twice() -> Graph:
    def replace(state: Any) -> dict[str, Any]:
        return {"log": Overwrite(["anew"])}

    return side_by_side(Log, [("a", replace), ("b", replace)])


def edits_that_are_lost() -> Graph:
    """What a node does to its own copy of the state is no update."""

    def edit(state: Any) -> dict[str, Any]:
        state["last"] = "edited"
        state["total"] = 7
        return {"log": ["edited"]}

    return row(Sum, edit, ("look", lambda state: {"log": [state["last"], state["total"]]}))


class Ordered(TypedDict):
    order: Annotated[list[str], lambda left, right: [*(left or []), *right, str(len(right))]]


def order_of_a_reducer() -> Graph:
    names = ["d", "b", "a", "c"]
    nodes: list[Any] = [(name, lambda state, name=name: {"order": [name]}) for name in names]
    return side_by_side(Ordered, nodes)


def each(name: str, graph: Graph, given: Any = None, **more: Any) -> Case:
    return Case(f"edges-{name}", "edges", graph, {"log": []} if given is None else given, **more)


SUM = {"log": [], "total": 1, "last": "given"}


def an_error_handled_in_a_subgraph() -> Graph:
    def fail(state: Any) -> Any:
        happened("fail")
        raise ValueError("handled inside")

    graph: Graph = StateGraph(Log)
    graph.add_node("one", fail, error_handler=lambda state: {"log": ["handled"]})
    graph.add_edge(START, "one")
    return row(Log, ("before", says("before")), ("inner", graph.compile()))


CASES = [
    Case("edges-error-handled-in-a-subgraph", "edges", an_error_handled_in_a_subgraph(), {"log": []}),
    each("diamond", diamond()),
    each("unequal-branches", branches_of_unequal_length()),
    each("deferred", deferred()),
    each("deferred-after-sends", deferred_after_sends()),
    each("loop-with-a-join", loop_with_a_join()),
    each("several-routers", several_routers()),
    each("routed-by-a-map", routed_by_a_map(), {"log": [1]}),
    each("sends-of-sends", sends_of_sends()),
    each("sends-beside-edges", sends_beside_edges(), SUM),
    each("sends-to-several", sends_to_several_nodes()),
    each("sends-of-odd-arguments", sends_of_odd_arguments()),
    each("sends-that-ask", sends_that_ask(), answers=["a", "b", "c"]),
    each("returns-of-all-kinds", returns_of_all_kinds(), SUM),
    each("overwritten", overwritten(), SUM),
    each("overwritten-twice", overwritten_twice(), raises="Overwrite"),
    each("edits-that-are-lost", edits_that_are_lost(), SUM),
    each("order-of-a-reducer", order_of_a_reducer(), {"order": ["given"]}),
]
