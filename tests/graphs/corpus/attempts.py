"""What the builder says of attempts: retries, time limits, caches. Honoured by workers, not by a fold."""

import asyncio
from typing import Any

from langgraph.cache.memory import InMemoryCache
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, RetryPolicy, Send, TimeoutPolicy, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, says


class Busy(Exception):
    """Something that may pass."""


class Busier(Busy):
    """Likewise."""


def fails(times: int, error: type[Exception] = ValueError) -> Any:
    def work(state: Log) -> Log:
        tries = happened("tries")
        if tries <= times:
            raise error(f"not yet, {tries}")
        return {"log": [f"after {tries}"]}

    return work


def with_policy(node: Any, policy: Any = None, **options: Any) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("work", node, retry_policy=policy, **options)
    graph.add_node("after", says("after"))
    graph.add_edge(START, "work")
    graph.add_edge("work", "after")
    return graph


def quickly(attempts: int, retry_on: Any, **more: Any) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial_interval=0.01, jitter=False, retry_on=retry_on, **more)


def several_policies() -> Graph:
    def work(state: Log) -> Log:
        tries = happened("tries")
        if tries == 1:
            raise Busy("first")
        if tries == 2:
            raise KeyError("second")
        return {"log": [f"after {tries}"]}

    return with_policy(work, [quickly(3, KeyError), quickly(3, Busy)])


def by_default() -> Graph:
    graph = with_policy(fails(2, ConnectionError))
    graph.set_node_defaults(retry_policy=quickly(4, ConnectionError))
    return graph


def knows_its_attempt() -> Graph:
    def work(state: Log, runtime: Runtime[Any]) -> Log:
        happened("tries")
        assert runtime.execution_info is not None
        if runtime.execution_info.node_attempt < 3:
            raise Busy("again")
        return {"log": [runtime.execution_info.node_attempt]}

    return with_policy(work, quickly(3, Busy))


def retried_sends() -> Graph:
    def work(state: Any) -> Log:
        tries = happened(f"tries {state['n']}")
        if tries <= state["n"]:
            raise Busy(f"{state['n']}")
        return {"log": [[state["n"], tries]]}

    graph: Graph = StateGraph(Log)
    graph.add_node("work", work, retry_policy=quickly(5, Busy))
    graph.add_conditional_edges(START, lambda state: [Send("work", {"n": n}) for n in range(3)], ["work"])
    return graph


def retried_with_a_question() -> Graph:
    def work(state: Log) -> Log:
        answer = interrupt("go on?")
        if happened("tries") < 3:
            raise Busy("again")
        return {"log": [answer]}

    return with_policy(work, quickly(4, Busy))


def retried_before_and_after_a_question() -> Graph:
    """With each answer the node has all its tries again."""

    def work(state: Log, runtime: Runtime[Any]) -> Log:
        if happened("before") < 3:
            raise Busy("before")
        answer = interrupt("go on?")
        if happened("after") < 3:
            raise Busy("after")
        assert runtime.execution_info is not None
        return {"log": [answer, runtime.execution_info.node_attempt]}

    return with_policy(work, quickly(3, Busy))


def retried_inside() -> Graph:
    """Of a subgraph only the node that fails is run again."""
    inner = row(Log, ("paid", says("paid")))
    inner.add_node("work", fails(2, Busy), retry_policy=quickly(3, Busy))
    inner.add_edge("paid", "work")
    return row(Log, ("inner", inner.compile()), ("after", says("after")))


async def slow(state: Log) -> Log:
    if happened("tries") == 1:
        await asyncio.sleep(30)
    return {"log": ["in time"]}


async def always_slow(state: Log) -> Log:
    happened("tries")
    await asyncio.sleep(30)
    return {"log": ["never"]}


def sent_with_a_time_limit() -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("work", always_slow)
    graph.add_conditional_edges(START, lambda state: [Send("work", {}, timeout=0.2)], ["work"])
    return graph


def limited_as_a_whole() -> Any:
    graph = with_policy(always_slow).compile()
    graph.step_timeout = 0.3
    return graph


def cached(**policy: Any) -> Any:
    def work(state: Any) -> Log:
        return {"log": [f"{state['n']} for the {happened('paid')}. time"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("work", work, cache_policy=CachePolicy(**policy))
    graph.add_node("between", lambda state: {"log": []})
    graph.add_conditional_edges(START, lambda state: [Send("work", {"n": 1})], ["work"])
    graph.add_edge("work", "between")
    graph.add_conditional_edges(
        "between", lambda s: [Send("work", {"n": 1})] if len(s["log"]) < 3 else END, ["work", END]
    )
    return graph.compile(cache=InMemoryCache())


def each(name: str, graph: Any, **more: Any) -> Case:
    return Case(f"attempts-{name}", "attempts", graph, {"log": []}, **more)


CASES = [
    each("retried", with_policy(fails(3), quickly(5, ValueError))),
    each("retried-in-vain", with_policy(fails(9), quickly(3, ValueError)), raises="not yet, 3"),
    each("no-policy", with_policy(fails(1, ConnectionError)), raises="not yet, 1", on_purpose="an error that may pass"),
    each("another-error", with_policy(fails(2, TypeError), quickly(5, ValueError)), raises="not yet, 1"),
    each("a-list-of-errors", with_policy(fails(2, TypeError), quickly(5, (ValueError, TypeError)))),
    each("a-subclass", with_policy(fails(2, Busier), quickly(5, Busy))),
    each("a-function", with_policy(fails(2), quickly(5, lambda error: "not yet" in str(error)))),
    each(
        "a-function-says-no", with_policy(fails(2), quickly(5, lambda e: "not yet, 1" in str(e))), raises="not yet, 2"
    ),
    each("by-default-of-the-policy", with_policy(fails(2, ConnectionError), RetryPolicy(initial_interval=0.01))),
    each("default-says-no", with_policy(fails(1), RetryPolicy(initial_interval=0.01)), raises="not yet, 1"),
    each("several-policies", several_policies()),
    each("of-the-whole-graph", by_default()),
    each("knows-its-attempt", knows_its_attempt()),
    each("sends", retried_sends()),
    each("with-a-question", retried_with_a_question(), answers=["yes"]),
    each("before-and-after-a-question", retried_before_and_after_a_question(), answers=["yes"]),
    each("inside-a-subgraph", retried_inside()),
    each("timed-out", with_policy(always_slow, timeout=0.2), raises="NodeTimeoutError"),
    each("timed-out-and-retried", with_policy(slow, RetryPolicy(initial_interval=0.01), timeout=0.3)),
    each("idle", with_policy(always_slow, timeout=TimeoutPolicy(idle_timeout=0.2)), raises="NodeTimeoutError"),
    each("sent-with-a-limit", sent_with_a_time_limit(), raises="NodeTimeoutError"),
    each("step-timeout", limited_as_a_whole(), raises="TimeoutError", refuses="StepTimeout"),
    each("cached", cached()),
    each("cached-by-a-key", cached(key_func=lambda state: str(state["n"]))),
    each("cached-for-a-while", cached(ttl=600)),
]
