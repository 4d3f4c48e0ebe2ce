"""What a graph is given beside its state: context, tags, metadata, configurable values, limits, `with_config`."""

from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, says

OWN = ("color", "size", "model")


@dataclass
class Who:
    user: str
    level: int = 1


@dataclass
class Usual:
    user: str = "anyone"


class Where(BaseModel):
    city: str
    streets: list[str] = []


class Settings(TypedDict, total=False):
    color: str


class Left(Log):
    left: RemainingSteps


def tells_config(state: Any, config: RunnableConfig) -> Log:
    own = {name: config["configurable"][name] for name in OWN if name in config["configurable"]}
    tags = sorted(tag for tag in config.get("tags") or [] if not tag.startswith(("seq:", "graph:")))
    metadata = {name: config["metadata"].get(name) for name in (*OWN, "customer")}
    return {"log": [[own, tags, metadata, config.get("recursion_limit")]]}


def tells_context(state: Any, runtime: Runtime[Any]) -> Log:
    return {"log": [[type(runtime.context).__name__, runtime.context]]}


def tells_context_deep(state: Any) -> Log:
    return {"log": [get_runtime().context]}


def configured(**config: Any) -> Any:
    graph: Any = row(Log, tells_config).compile()
    return graph.with_config(config)


def configured_node() -> Graph:
    return row(Log, ("node", RunnableLambda(tells_config).with_config({"tags": ["own"], "metadata": {"size": 9}})))


def in_context(schema: type) -> Graph:
    inner = row(Log, ("deep", tells_context_deep), context_schema=schema).compile()
    graph = row(Log, tells_context, ("inner", inner), context_schema=schema)
    graph.add_node("sent", tells_context)
    graph.add_conditional_edges("inner", lambda state: [Send("sent", {})], ["sent"])
    return graph


def in_context_with_a_question() -> Graph:
    def ask(state: Log, runtime: Runtime[Who]) -> Log:
        happened(f"asks {runtime.context.user}")
        return {"log": [interrupt(f"{runtime.context.user}?"), runtime.context.level]}

    return row(Log, ask, tells_context, context_schema=Who)


def routed_by_context() -> Graph:
    def route(state: Any, runtime: Runtime[Who]) -> str:
        return "high" if runtime.context.level > 3 else "low"

    graph: Graph = StateGraph(Log, context_schema=Who)
    for name in ("high", "low"):
        graph.add_node(name, says(name))
    graph.add_conditional_edges(START, route, ["high", "low"])
    return graph


def routed_by_config() -> Graph:
    def route(state: Any, config: RunnableConfig) -> str:
        return str(config["configurable"].get("color", "blue"))

    graph: Graph = StateGraph(Log)
    for name in ("red", "blue"):
        graph.add_node(name, says(name))
    graph.add_conditional_edges(START, route, ["red", "blue"])
    return graph


def endless() -> Graph:
    graph = row(Log, ("again", says("again")))
    graph.add_edge("again", "once_more")
    graph.add_node("once_more", says("once more"))
    graph.add_edge("once_more", "again")
    return graph


def ends_in_time() -> Graph:
    def watch(state: Any) -> Log:
        return {"log": [state["left"]]}

    graph = row(Left, watch)
    graph.add_conditional_edges("watch", lambda s: END if s["left"] < 3 else "watch", ["watch", END])
    return graph


class Counting(BaseCallbackHandler):
    """Tells of the chains that begin in a node."""

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        if more.get("name") == "called":
            happened("a callback")


def with_callbacks() -> Any:
    def called(value: Any) -> Any:
        return value

    async def call(state: Log) -> Log:
        return {"log": [await RunnableLambda(called).ainvoke("x")]}

    return row(Log, call).compile().with_config({"callbacks": [Counting()]})


def each(name: str, graph: Any, **more: Any) -> Case:
    return Case(f"config-{name}", "config", graph, {"log": []}, **more)


GIVEN = {"tags": ["given"], "metadata": {"customer": "c"}, "configurable": {"color": "red", "size": 3}}
CASES = [
    each("given", row(Log, tells_config, ("again", tells_config)), config={**GIVEN, "recursion_limit": 12}),
    each(
        "with-config", configured(tags=["t"], metadata={"size": 1}, configurable={"color": "blue"}, recursion_limit=11)
    ),
    each("given-over-with-config", configured(tags=["t"], configurable={"color": "blue", "model": "m"}), config=GIVEN),
    each("of-a-node", configured_node(), config=GIVEN),
    each("context-dataclass", in_context(Who), context={"user": "u1", "level": 4}),
    each("context-model", in_context(Where), context={"city": "Bern", "streets": ["a"]}),
    each("context-typed-dict", in_context(Settings), context={"color": "red"}),
    each("context-none", in_context(Who)),
    each("context-empty", in_context(Usual), context={}),
    each("context-and-a-question", in_context_with_a_question(), context={"user": "u"}, answers=["yes"]),
    each("context-that-does-not-fit", in_context(Who), context={"nobody": 1}, raises="nobody"),
    each("routed-by-context", routed_by_context(), context={"user": "u", "level": 5}),
    each("routed-by-config", routed_by_config(), config={"configurable": {"color": "red"}}),
    each("limit-reached", endless(), config={"recursion_limit": 5}, raises="Recursion limit of 5"),
    each("limit-with-config", endless().compile().with_config({"recursion_limit": 4}), raises="Recursion limit of 4"),
    each("remaining-with-config", ends_in_time().compile().with_config({"recursion_limit": 8})),
    each("callbacks", with_callbacks()),
]
