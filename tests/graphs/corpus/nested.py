"""Graphs in graphs that ask: as nodes, and called by nodes, once or several times, beside each other, in loops."""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.func import task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, asks, row, says, side_by_side


def asking(name: str, times: int = 2, *, paid: str | None = None, **options: Any) -> Any:
    """A graph that pays, asks, pays, asks …"""
    nodes: list[Any] = []
    for number in range(1, times + 1):
        nodes += [(f"pay{number}", says(f"{name} pays {number}")), (f"ask{number}", asks(f"{name}{number}", paid))]
    return row(Log, *nodes).compile(**options)


def called(*graphs: Any, first: str | None = None, last: str | None = None) -> Graph:
    """A node that calls graphs one after the other, with questions of its own before and after."""

    async def call(state: Log) -> Log:
        log: list[Any] = []
        if first is not None:
            log.append(interrupt(first))
        for graph in graphs:
            log += (await graph.ainvoke({"log": []}))["log"]
        if last is not None:
            happened("all were called")
            log.append(interrupt(last))
        return {"log": log}

    return row(Log, ("before", says("before")), call, ("after", says("after")))


def called_in_a_thread() -> Graph:
    x, y = asking("x"), asking("y")

    def both(state: Log) -> Log:
        return {"log": x.invoke({"log": []})["log"] + y.invoke({"log": []})["log"]}

    return row(Log, both)


def called_in_a_loop() -> Graph:
    inner = asking("round", 1)

    async def call(state: Log) -> Log:
        log: list[Any] = []
        for number in range(3):
            log += (await inner.ainvoke({"log": [f"start {number}"]}))["log"]
        return {"log": log}

    return row(Log, call, ("after", says("after")))


def called_side_by_side() -> Graph:
    graphs = [asking(name, 1, paid="one of three") for name in ("x", "y", "z")]

    async def gather(state: Log) -> Log:
        parts = await asyncio.gather(*(graph.ainvoke({"log": []}) for graph in graphs))
        return {"log": [part["log"] for part in parts]}

    return row(Log, gather, ("after", says("after")))


def paid_and_then_asked() -> Graph:
    """The subagent is paid once, though the node runs again after its own question."""
    agent = row(Log, ("work", says("subagent works"))).compile()

    async def call(state: Log) -> Log:
        log = (await agent.ainvoke({"log": []}))["log"]
        return {"log": [*log, interrupt("good enough?"), interrupt("really?")]}

    return row(Log, call)


def remembering(**options: Any) -> Any:
    """A graph that keeps its state from call to call."""

    def work(state: Log) -> Log:
        happened("remembering works")
        return {"log": [f"turn {len(state['log'])}"]}

    return row(Log, work, **options).compile(checkpointer=True)


def called_again_and_again() -> Graph:
    inner = remembering()

    async def call(state: Log) -> Log:
        seen = await inner.ainvoke({"log": ["asked"]})
        return {"log": [list(seen["log"])]}

    graph = row(Log, call)
    graph.add_node("between", says("between"))
    graph.add_conditional_edges("call", lambda s: "between" if len(s["log"]) < 5 else END, ["between", END])
    graph.add_edge("between", "call")
    return graph


def remembers_as_a_node() -> Graph:
    graph: Graph = StateGraph(MessagesState)

    def work(state: Any) -> dict[str, Any]:
        happened("work")
        return {"messages": [AIMessage(f"{len(state['messages'])} before")]}

    graph.add_node("inner", row(MessagesState, work).compile(checkpointer=True))
    graph.add_edge(START, "inner")
    graph.add_conditional_edges("inner", lambda s: "inner" if len(s["messages"]) < 5 else END, ["inner", END])
    return graph


def remembers_and_asks() -> Graph:
    inner = row(Log, ("work", says("inner")), ("ask", asks("again?"))).compile(checkpointer=True)

    async def call(state: Log) -> Log:
        seen = await inner.ainvoke({"log": ["call"]})
        return {"log": [list(seen["log"])]}

    graph = row(Log, call)
    graph.add_conditional_edges("call", lambda s: "call" if len(s["log"]) < 2 else END, ["call", END])
    return graph


def two_that_remember() -> Graph:
    graphs = {name: row(Log, ("work", says(name))).compile(checkpointer=True) for name in "ab"}

    def calling(name: str) -> Any:
        async def call(state: Log) -> Log:
            return {"log": [[name, (await graphs[name].ainvoke({"log": [name]}))["log"]]]}

        return call

    graph = side_by_side(Log, [(name, calling(name)) for name in "ab"], says_between)
    graph.add_conditional_edges("says_between", lambda s: ["a", "b"] if len(s["log"]) < 5 else END, ["a", "b", END])
    return graph


def says_between(state: Log) -> Log:
    return {"log": [f"between {len(state['log'])}"]}


def nodes_that_ask(*names: str) -> Graph:
    return side_by_side(Log, [(name, asking(name)) for name in names], says_between)


def three_deep() -> Graph:
    deepest = asking("deep")
    middle = row(Log, ("m1", says("middle")), ("deepest", deepest), ("m2", asks("middle"))).compile()
    return row(Log, ("o1", says("outer")), ("middle", middle), ("o2", asks("outer")))


def parallel_inside() -> Graph:
    """Two questions of one subgraph at once."""
    inner = side_by_side(
        Log, [(name, asks(name, paid="one of two")) for name in ("left", "right")], says_between
    ).compile()
    return row(Log, ("before", says("before")), ("inner", inner), ("after", says("after")))


def sends_that_call() -> Graph:
    graph: Graph = StateGraph(Log)

    async def call(state: Any) -> Log:
        inner = asking(f"n{state['n']}", 1)
        return {"log": [[state["n"], (await inner.ainvoke({"log": []}))["log"]]]}

    graph.add_node("call", call)
    graph.add_conditional_edges(START, lambda state: [Send("call", {"n": n}) for n in range(3)], ["call"])
    return graph


def tasks_in_a_node() -> Graph:
    """What a task gave is kept while its node asks."""

    @task
    async def pay(what: str) -> str:
        happened(f"paid for {what}")
        return f"paid {what}"

    async def work(state: Log) -> Log:
        first = await pay("first")
        both = await asyncio.gather(pay("left"), pay("right"))
        answer = interrupt("go on?")
        return {"log": [first, *both, answer, await pay(f"after {answer}"), interrupt("sure?")]}

    return row(Log, work, ("after", says("after")))


def tasks_that_ask() -> Graph:
    @task
    def ask(what: str) -> str:
        happened(f"asks {what}")
        return str(interrupt(what))

    async def work(state: Log) -> Log:
        return {"log": [await ask("one"), await ask("two")]}

    return row(Log, work)


def commands_its_parent() -> Graph:
    def leave(state: Log) -> Command[Any]:
        answer = interrupt("where?")
        return Command(graph=Command.PARENT, goto=answer, update={"log": [f"to {answer}"]})

    inner = row(Log, ("pay", says("inner pays")), leave).compile()
    graph: Graph = StateGraph(Log)
    graph.add_node("inner", inner, destinations=("x", "y"))
    graph.add_node("x", says("x"))
    graph.add_node("y", says("y"))
    graph.add_edge(START, "inner")
    return graph


def fails_after_an_answer() -> Graph:
    def fail(state: Log) -> Log:
        raise ValueError("the subgraph is broken")

    return called(row(Log, ("ask", asks("first")), fail).compile())


def questions_in_a_loop() -> Graph:
    def talk(state: Log) -> Log:
        happened("talk")
        said: list[Any] = []
        while not said or said[-1] != "bye":
            said.append(interrupt(f"after {len(said)}"))
        return {"log": said}

    return row(Log, talk)


def same_graph_twice() -> Graph:
    inner = asking("same", 1)
    return called(inner, inner, last="both?")


def each(name: str, graph: Graph, answers: Any = (), given: Any = None, **more: Any) -> Case:
    return Case(f"nested-{name}", "nested", graph, given or {"log": []}, answers=answers, **more)


CASES = [
    each("two-agents", called(asking("x"), asking("y")), ["a", "b", "c", "d"]),
    each("in-a-thread", called_in_a_thread(), ["a", "b", "c", "d"]),
    each("in-a-loop", called_in_a_loop(), ["a", "b", "c"]),
    each("side-by-side", called_side_by_side(), {"x1": "a", "y1": "b", "z1": "c"}),
    each("paid-and-then-asked", paid_and_then_asked(), ["yes", "yes"]),
    each("asked-around", called(asking("x"), first="begin?", last="end?"), ["b", "1", "2", "e"]),
    each("three-agents", called(asking("x", 1), asking("y", 1), asking("z", 1), last="all?"), [1, 2, 3, 4]),
    each("same-twice", same_graph_twice(), [1, 2, 3]),
    each("remembers", called_again_and_again()),
    each("remembers-as-a-node", remembers_as_a_node(), given={"messages": "hi"}),
    each("remembers-and-asks", remembers_and_asks(), ["one", "two"]),
    each("two-that-remember", two_that_remember()),
    each("node", nodes_that_ask("x"), ["1", "2"]),
    each("nodes", nodes_that_ask("x", "y"), ["1", "2", "3", "4"]),
    each("three-deep", three_deep(), [1, 2, 3, 4]),
    each("parallel-inside", parallel_inside(), {"left": "l", "right": "r"}),
    each("sends", sends_that_call(), ["a", "b", "c"]),
    each("tasks", tasks_in_a_node(), ["yes", "sure"]),
    each("tasks-that-ask", tasks_that_ask(), ["1", "2"]),
    each("commands-its-parent", commands_its_parent(), ["y"]),
    each("fails-after-an-answer", fails_after_an_answer(), ["a"], raises="the subgraph is broken"),
    each("questions-in-a-loop", questions_in_a_loop(), ["hello", "well", "bye"]),
]
