"""What cannot be recorded: said, once paid, and never taken for a worker that died."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row


class Opaque:
    """An object of a class that has no fields to write."""

    def __init__(self) -> None:
        self.generator = (number for number in range(3))


class Unfriendly:
    """Raises when it is looked at."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} here")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def returning(make: Any) -> Graph:
    def give(state: Any) -> Any:
        happened("paid")
        return {"log": [make()]}

    def after(state: Any) -> Log:
        happened("after")
        return {"log": ["after"]}

    return row(Log, give, after)


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def in_a_command() -> Graph:
    def give(state: Any) -> Any:
        happened("paid")
        return Command(update={"log": [Opaque()]})

    return row(Log, give)


def nested_dicts(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"in": value}
    return value


def nested_in_a_command() -> Graph:
    def give(state: Any) -> Any:
        happened("paid")
        return Command(update={"log": [nested(300)]})

    return row(Log, give)


def in_a_send() -> Graph:
    def give(state: Any) -> Any:
        happened("paid")
        return Command(goto=Send("take", {"object": Opaque()}))

    graph: Graph = StateGraph(Log)
    graph.add_node("give", give, destinations=("take",))
    graph.add_node("take", lambda state: {"log": [type(state["object"]).__name__]})
    graph.add_edge(START, "give")
    return graph


def each(name: str, graph: Graph, refuses: str) -> Case:
    return Case(f"unrecordable-{name}", "unrecordable", graph, {"log": []}, refuses=refuses)


CASES = [
    each("object", returning(Opaque), "Opaque"),
    each("object-in-a-command", in_a_command(), "Opaque"),
    each("object-in-a-send", in_a_send(), "Opaque"),
    each("function", returning(lambda: nested), "function"),
    each("generator", returning(lambda: (n for n in range(2))), "generator"),
    each("unfriendly", returning(Unfriendly), "Unfriendly"),
    each("complex", returning(lambda: complex(1, 2)), "complex"),
    each("error-as-a-value", returning(lambda: ValueError("v")), "ValueError"),
    *(
        each(f"nested-{depth}", returning(lambda depth=depth: nested(depth)), "nested")
        for depth in (254, 300, 340, 5000)
    ),
    each("nested-dicts", returning(lambda: nested_dicts(300)), "nested"),
    each("nested-in-a-command", nested_in_a_command(), "nested"),
    each("circular", returning(circular), "nested"),
]
