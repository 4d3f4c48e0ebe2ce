"""`Command`: updates, destinations, to the parent, several at once; and errors, which end a run."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, joined, row, says, side_by_side


class One(Log):
    one: str


def commanded(command: Any, *names: str, schema: type = Log) -> Graph:
    graph: Graph = StateGraph(schema)

    def command_node(state: Any) -> Any:
        happened("commands")
        return command

    graph.add_node("command", command_node, destinations=names)
    for name in names:
        graph.add_node(name, says(name))
    graph.add_edge(START, "command")
    return graph


def goes_on_by_edges_too() -> Graph:
    graph = commanded(Command(goto="x", update={"log": ["u"]}), "x", "y")
    graph.add_edge("command", "y")
    return graph


def to_the_parent(*commands: Any) -> Graph:
    def leave(state: Log) -> Any:
        return list(commands) if len(commands) > 1 else commands[0]

    inner = row(Log, ("inside", says("inside")), leave).compile()
    graph: Graph = StateGraph(Log)
    graph.add_node("inner", inner, destinations=("x", "y"))
    for name in "xy":
        graph.add_node(name, says(name))
    graph.add_edge(START, "inner")
    return graph


def hand_over() -> Graph:
    """Agents that hand over to each other, as graphs in a graph."""

    def agent(name: str, other: str) -> Any:
        def work(state: Any) -> Any:
            happened(name)
            if len(state["log"]) >= 4:
                return {"log": [f"{name} ends"]}
            return Command(graph=Command.PARENT, goto=other, update={"log": [f"{name} to {other}"]})

        return row(Log, work).compile()

    graph: Graph = StateGraph(Log)
    graph.add_node("alice", agent("alice", "bob"), destinations=("bob",))
    graph.add_node("bob", agent("bob", "alice"), destinations=("alice",))
    graph.add_edge(START, "alice")
    return graph


def from_two_levels_down() -> Graph:
    def leave(state: Log) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="x", update={"log": ["leaves"]})

    deepest = row(Log, leave).compile()
    middle: Graph = StateGraph(Log)
    middle.add_node("deepest", deepest, destinations=("x",))
    middle.add_node("x", says("middle x"))
    middle.add_edge(START, "deepest")
    return row(Log, ("middle", middle.compile()), ("after", says("after")))


def as_tuples() -> Graph:
    return commanded(Command(update=[("log", ["a"]), ("log", ["b"])], goto="x"), "x")


def after_a_question() -> Graph:
    def choose(state: Log) -> Command[Any]:
        answer = interrupt("where to?")
        return Command(goto=answer["to"], update={"log": [answer["why"]]})

    graph: Graph = StateGraph(Log)
    graph.add_node("choose", choose, destinations=("x", "choose", END))
    graph.add_node("x", says("x"))
    graph.add_edge(START, "choose")
    return graph


def raising(name: str, error: Exception) -> Any:
    def run(state: Any) -> Any:
        happened(name)
        raise error

    return run


class Own(Exception):
    def __str__(self) -> str:
        return "told in its own words"


def in_a_router() -> Graph:
    def route(state: Log) -> str:
        raise LookupError(f"no way after {len(state['log'])}")

    graph = row(Log, ("first", says("first")))
    graph.add_conditional_edges("first", route, [END])
    return graph


def nowhere() -> Graph:
    graph = row(Log, ("first", says("first")))
    graph.add_conditional_edges("first", lambda state: "nowhere")
    return graph


def in_a_reducer() -> Graph:
    def write(state: Any) -> Any:
        happened("writes")
        return {"log": 5}

    return row(Log, ("first", says("first")), write)


def two_write_one() -> Graph:
    return side_by_side(One, [(name, lambda state, name=name: {"one": name}) for name in "ab"])


def in_a_subgraph() -> Graph:
    inner = row(Log, ("pays", says("pays")), ("fails", raising("fails", ValueError("deep inside")))).compile()
    return row(Log, ("before", says("before")), ("inner", inner))


def caught_inside() -> Graph:
    inner = row(Log, ("fails", raising("fails", ValueError("caught")))).compile()

    async def careful(state: Log) -> Log:
        try:
            return {"log": (await inner.ainvoke({"log": []}))["log"]}
        except ValueError as error:
            return {"log": [f"caught {error}"]}

    return row(Log, careful, ("after", says("after")))


def after_an_answer() -> Graph:
    def ask(state: Log) -> Log:
        if interrupt("fail?") == "yes":
            raise RuntimeError("as you wish")
        return {"log": ["did not"]}

    return row(Log, ask)


def unknown_key() -> Graph:
    return row(Log, ("write", lambda state: {"log": ["a"], "unknown": 1}))


def not_an_update() -> Graph:
    return row(Log, ("write", lambda state: "just text"))


def in_a_join() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in ("a", "b"):
        graph.add_node(name, says(name))
        graph.add_edge(START, name)
    graph.add_node("join", raising("join", KeyError("missing")))
    graph.add_edge(["a", "b"], "join")
    joined(graph, ["join", END])
    return graph


def each(name: str, graph: Graph, **more: Any) -> Case:
    return Case(f"commands-{name}", "commands", graph, {"log": []}, **more)


def fails(name: str, graph: Graph, raises: str, **more: Any) -> Case:
    return Case(f"errors-{name}", "errors", graph, {"log": []}, raises=raises, **more)


PARENT = Command(graph=Command.PARENT, goto="x", update={"log": ["from inside"]})
CASES = [
    each("update", commanded(Command(update={"log": ["u"]}))),
    each("goto", commanded(Command(goto="x"), "x")),
    each("both", commanded(Command(goto="x", update={"log": ["u"]}), "x")),
    each("several-destinations", commanded(Command(goto=["x", "y"]), "x", "y")),
    each("sends", commanded(Command(goto=[Send("x", {"log": [1]}), "y", Send("x", {"log": []})]), "x", "y")),
    each("a-list", commanded([Command(update={"log": ["a"]}), Command(goto="x"), {"log": ["b"]}], "x")),
    each("to-the-end", commanded(Command(goto=END, update={"log": ["u"]}), "x")),
    each("edges-too", goes_on_by_edges_too()),
    each("as-tuples", as_tuples()),
    each("parent", to_the_parent(PARENT)),
    each("parent-several", to_the_parent(Command(graph=Command.PARENT, goto=["x", "y"], update={"log": ["two"]}))),
    each("parent-sends", to_the_parent(Command(graph=Command.PARENT, goto=Send("x", {"log": [1, 2]})))),
    each("hand-over", hand_over()),
    each("from-two-levels-down", from_two_levels_down()),
    each("after-a-question", after_a_question(), answers=[{"to": "choose", "why": "1"}, {"to": "x", "why": "2"}]),
    fails("node", row(Log, ("first", says("first")), ("fails", raising("fails", ValueError("broken")))), "broken"),
    fails("own-words", row(Log, ("fails", raising("fails", Own()))), "told in its own words"),
    fails("router", in_a_router(), "no way"),
    each("nowhere", nowhere()),
    fails("reducer", in_a_reducer(), "TypeError"),
    fails("two-write-one", two_write_one(), "InvalidUpdateError"),
    fails("subgraph", in_a_subgraph(), "deep inside"),
    each("caught-inside", caught_inside()),
    fails("after-an-answer", after_an_answer(), "as you wish", answers=["yes"]),
    each("unknown-key", unknown_key()),
    fails("not-an-update", not_an_update(), "InvalidUpdateError"),
    fails("join", in_a_join(), "missing"),
    fails("parent-of-nothing", commanded(PARENT, "x"), "ParentCommand"),
]
