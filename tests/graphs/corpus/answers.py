"""Questions that say what an answer looks like, and what their nodes get of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, says, side_by_side


class Decision(BaseModel):
    verdict: Literal["yes", "no"]
    reason: str = Field(default="none given", max_length=40)


@dataclass
class Amount:
    euros: int
    cents: int = 0


class Address(TypedDict):
    street: str
    number: int


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def question(text: str, schema: Any) -> Any:
    def ask(state: Log) -> Log:
        happened(f"before {text}")
        answer = interrupt(text, response_schema=schema)
        return {"log": [text, type(answer).__name__, answer]}

    return ask


def one(schema: Any) -> Graph:
    return row(Log, ("ask", question("which?", schema)), ("after", says("after")))


def several() -> Graph:
    def ask(state: Log) -> Log:
        decision = interrupt("decide", response_schema=Decision)
        amount = interrupt(f"how much for {decision.verdict}", response_schema=Amount)
        return {"log": [decision.verdict, amount.euros, interrupt("anything else?")]}

    return row(Log, ask)


def in_a_subgraph() -> Graph:
    inner = row(Log, ("pay", says("pay")), ("ask", question("inside", Decision))).compile()
    return row(Log, ("inner", inner))


def in_sends() -> Graph:
    def ask(state: Any) -> Log:
        decision = interrupt(f"number {state['n']}", response_schema=Decision)
        return {"log": [[state["n"], decision.verdict]]}

    graph: Graph = StateGraph(Log)
    graph.add_node("ask", ask)
    graph.add_conditional_edges(START, lambda state: [Send("ask", {"n": n}) for n in range(3)], ["ask"])
    return graph


def beside_each_other() -> Graph:
    return side_by_side(Log, [("a", question("a", Decision)), ("b", question("b", SCHEMA))], says_last)


def says_last(state: Log) -> Log:
    return {"log": [len(state["log"])]}


def any_answer() -> Graph:
    def ask(state: Log) -> Log:
        return {"log": [interrupt("nothing"), interrupt("false"), interrupt("list"), interrupt({"deep": ["q"]})]}

    return row(Log, ask)


def none_is_an_answer() -> Graph:
    def ask(state: Log) -> Log:
        first = interrupt("first")
        return {"log": [first, interrupt("second")]}

    return row(Log, ask)


def each(name: str, graph: Graph, *answers: Any, misfits: Sequence[Any] = ()) -> Case:
    return Case(f"answers-{name}", "answers", graph, {"log": []}, answers=answers, misfits=misfits)


CASES = [
    each("model", one(Decision), {"verdict": "yes", "reason": "because"}, misfits=["yes", {"verdict": "maybe"}, {}]),
    each("model-with-defaults", one(Decision), {"verdict": "no"}, misfits=[{"verdict": "no", "reason": "x" * 41}]),
    each("dataclass", one(Amount), {"euros": 3}, misfits=[{"euros": "three"}, {"cents": 1}]),
    each("typed-dict", one(Address), {"street": "Main", "number": 1}, misfits=[{"street": "Main"}, []]),
    each("json-schema", one(SCHEMA), {"n": 4}, misfits=[{"n": "four"}, {}, None]),
    each("several", several(), {"verdict": "yes"}, {"euros": 1, "cents": 2}, "no"),
    each("subgraph", in_a_subgraph(), {"verdict": "no"}, misfits=[{"verdict": 1}]),
    each("sends", in_sends(), {"verdict": "no"}, {"verdict": "yes"}, {"verdict": "no"}, misfits=["no"]),
    each("beside-each-other", beside_each_other(), {"verdict": "no"}, {"n": 1}, misfits=[{"v": 1}]),
    each("any", any_answer(), "text", False, [1, {"a": None}], {"x": 1.5}),
    each("falsy", none_is_an_answer(), 0, ""),
]
