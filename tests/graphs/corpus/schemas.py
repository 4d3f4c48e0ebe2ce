"""States of all kinds: dataclasses, pydantic models, input, output and private schemas; tasks in nodes."""

import asyncio
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, Required

from langchain_core.runnables import RunnableLambda, RunnableParallel
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row


@dataclass
class Data:
    name: str = "nobody"
    log: Annotated[list[Any], operator.add] = field(default_factory=list)


class Person(BaseModel):
    name: str
    age: int = 0


class Model(BaseModel):
    person: Person
    log: Annotated[list[Any], operator.add] = Field(default_factory=list)
    count: int = 0

    @field_validator("count")
    @classmethod
    def _small(cls, value: int) -> int:
        if value > 100:
            raise ValueError("too many")
        return value


class Given(TypedDict):
    question: str


class Result(TypedDict):
    answer: str


class Whole(Given, Result):
    notes: Annotated[list[str], operator.add]


class Private(TypedDict):
    secret: str


class Partly(TypedDict, total=False):
    log: Required[Annotated[list[Any], operator.add]]
    maybe: NotRequired[int | None]


def of_a_dataclass() -> Graph:
    def rename(state: Data) -> dict[str, Any]:
        return {"name": state.name.upper(), "log": [type(state).__name__]}

    def whole(state: Data) -> Any:
        return Data(name=f"{state.name}!", log=["as an instance"])

    return row(Data, rename, whole)


def of_a_model() -> Graph:
    def grow(state: Model) -> dict[str, Any]:
        return {"person": Person(name=state.person.name, age=state.person.age + 1), "count": state.count + 1}

    def tell(state: Model) -> dict[str, Any]:
        return {"log": [type(state.person).__name__, state.person.age, state.count]}

    return row(Model, grow, tell)


def of_a_model_that_fails() -> Graph:
    def grow(state: Model) -> dict[str, Any]:
        happened("grown")
        return {"count": 500}

    return row(Model, grow, ("look", lambda state: {"log": [state.count]}))


def with_private_state() -> Graph:
    def think(state: Given) -> Private:
        return {"secret": f"hidden {state['question']}"}

    def answer(state: Private) -> Whole:
        return {"answer": f"from {state['secret']}", "notes": [str(sorted(state))]}  # type: ignore[typeddict-item]  # a part of it

    def check(state: Whole) -> dict[str, Any]:
        return {"notes": [f"{sorted(state)}"]}

    return row(Whole, think, answer, check, input_schema=Given, output_schema=Result)


def with_missing_keys() -> Graph:
    def look(state: Any) -> dict[str, Any]:
        return {"log": [sorted(state), state.get("maybe", "missing")]}

    return row(Partly, ("first", look), ("set", lambda state: {"maybe": None}), ("last", look))


def own_input_of_a_node() -> Graph:
    def narrow(state: Any) -> dict[str, Any]:
        return {"log": [sorted(state)]}

    graph: Graph = StateGraph(Partly)
    graph.add_node("narrow", narrow, input_schema=Log)
    graph.add_edge(START, "narrow")
    return graph


def subgraph_of_another_schema() -> Graph:
    class Inner(TypedDict):
        words: Annotated[list[str], operator.add]

    inner = row(Inner, ("speak", lambda state: {"words": [f"{len(state['words'])} words"]})).compile()

    def call(state: Log) -> Log:
        happened("called")
        return {"log": inner.invoke({"words": ["given"]})["words"]}

    return row(Log, call)


def subgraph_with_private_keys() -> Graph:
    class Inner(Log):
        hidden: str

    def hide(state: Any) -> dict[str, Any]:
        return {"hidden": "h", "log": ["hides"]}

    def seek(state: Any) -> dict[str, Any]:
        return {"log": [state["hidden"]]}

    inner = row(Inner, hide, seek).compile()
    return row(Log, ("inner", inner), ("look", lambda state: {"log": [sorted(state)]}))


def runnables_as_nodes() -> Graph:
    parallel: Any = RunnableParallel(a=RunnableLambda(lambda s: len(s["log"])), b=RunnableLambda(lambda s: "b"))
    return row(Log, ("chain", parallel | RunnableLambda(lambda both: {"log": [both]})))


def classes_as_nodes() -> Graph:
    class Called:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, state: Log) -> Log:
            return {"log": [self.name]}

        async def method(self, state: Log) -> Log:
            return {"log": [f"method of {self.name}"]}

    return row(Log, ("called", Called("c")), ("method", Called("m").method))


def entrypoint_in_a_node() -> Graph:
    @task
    async def square(number: int) -> int:
        happened(f"squares {number}")
        return number * number

    @entrypoint()
    async def squares(numbers: list[int]) -> list[int]:
        return list(await asyncio.gather(*(square(number) for number in numbers)))

    async def call(state: Log) -> Log:
        squared = await squares.ainvoke([1, 2, 3])
        return {"log": [squared, interrupt("enough?")]}

    return row(Log, call)


def tasks_that_fail() -> Graph:
    @task
    async def fail(number: int) -> int:
        happened("fails")
        raise ValueError(f"no {number}")

    async def call(state: Log) -> Log:
        try:
            await fail(1)
        except ValueError as error:
            return {"log": [f"caught {error}"]}
        return {"log": []}

    return row(Log, call)


def tasks_in_threads() -> Graph:
    @task
    def double(number: int) -> int:
        happened("doubles")
        return number * 2

    def call(state: Log) -> Log:
        futures = [double(number) for number in range(4)]
        return {"log": [future.result() for future in futures]}

    return row(Log, call)


def sends_of_a_model() -> Graph:
    def work(state: Person) -> Command[Any]:
        return Command(update={"log": [f"{type(state).__name__} {state.name}"]})

    graph: Graph = StateGraph(Model)
    graph.add_node("work", work)
    graph.add_conditional_edges(START, lambda s: [Send("work", Person(name=f"p{n}")) for n in range(2)], ["work"])
    return graph


def each(name: str, graph: Graph, given: Any = None, **more: Any) -> Case:
    return Case(f"schemas-{name}", "schemas", graph, {"log": []} if given is None else given, **more)


PERSON = {"person": {"name": "p", "age": 1}}
CASES = [
    each("dataclass", of_a_dataclass(), {"name": "ann"}),
    each("dataclass-defaults", of_a_dataclass(), {"log": ["given"]}),
    each("model", of_a_model(), PERSON),
    each("model-that-fails", of_a_model_that_fails(), PERSON, raises="too many"),
    each("model-input-that-fails", of_a_model(), {"person": {"age": 1}}, raises="Field required"),
    each("private", with_private_state(), {"question": "why"}),
    each("missing-keys", with_missing_keys()),
    each("own-input", own_input_of_a_node(), {"log": [], "maybe": 1}),
    each("subgraph-of-another-schema", subgraph_of_another_schema()),
    each("subgraph-with-private-keys", subgraph_with_private_keys()),
    each("runnables", runnables_as_nodes()),
    each("classes", classes_as_nodes()),
    each("entrypoint-in-a-node", entrypoint_in_a_node(), answers=["yes"]),
    each("tasks-that-fail", tasks_that_fail()),
    each("tasks-in-threads", tasks_in_threads()),
    each("sends-of-a-model", sends_of_a_model(), PERSON),
]
