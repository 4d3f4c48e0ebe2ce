"""Graphs that are compiled with a store: what a node puts there, another one finds, on whichever worker."""

from typing import Any

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from langgraph.types import Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, side_by_side

# Each case has namespaces of its own: a store outlives a session.


def stored(graph: Graph) -> Any:
    return graph.compile(store=InMemoryStore())


def of(runtime: Runtime[Any]) -> BaseStore:
    assert runtime.store is not None
    return runtime.store


def put_and_get() -> Any:
    async def put(state: Log, runtime: Runtime[Any]) -> Log:
        await of(runtime).aput(("put-get", "u1"), "food", {"likes": ["pizza"], "at": None})
        return {"log": ["put"]}

    async def get(state: Log, runtime: Runtime[Any]) -> Log:
        found = await of(runtime).aget(("put-get", "u1"), "food")
        missing = await of(runtime).aget(("put-get", "u1"), "drink")
        return {"log": [found.value if found else None, found.namespace if found else None, missing]}

    return stored(row(Log, put, get))


def synchronous() -> Any:
    def put(state: Log, runtime: Runtime[Any]) -> Log:
        of(runtime).put(("sync",), "a", {"n": 1})
        of(runtime).put(("sync",), "a", {"n": 2})
        return {"log": ["put"]}

    def get(state: Log, *, store: BaseStore) -> Log:
        found = store.get(("sync",), "a")
        return {"log": [found.value if found else None, found.key if found else None]}

    return stored(row(Log, put, get))


def searched() -> Any:
    async def fill(state: Log, runtime: Runtime[Any]) -> Log:
        for number in range(7):
            await of(runtime).aput(("search", f"u{number % 2}"), f"k{number}", {"n": number, "odd": number % 2 == 1})
        return {"log": ["filled"]}

    async def search(state: Log, runtime: Runtime[Any]) -> Log:
        store = of(runtime)
        below = await store.asearch(("search",), limit=20)
        odd = await store.asearch(("search",), filter={"odd": True})
        one = await store.asearch(("search", "u0"), limit=2)
        larger = await store.asearch(("search",), filter={"n": {"$gte": 4}})
        found = [sorted(item.key for item in items) for items in (below, odd, larger)]
        return {"log": [*found, len(one)]}

    return stored(row(Log, fill, search))


def deleted() -> Any:
    async def put(state: Log, runtime: Runtime[Any]) -> Log:
        await of(runtime).aput(("delete",), "a", {"n": 1})
        await of(runtime).aput(("delete",), "b", {"n": 2})
        return {"log": ["put"]}

    async def delete(state: Log, runtime: Runtime[Any]) -> Log:
        await of(runtime).adelete(("delete",), "a")
        return {"log": [[item.key for item in await of(runtime).asearch(("delete",))]]}

    return stored(row(Log, put, delete))


def namespaces() -> Any:
    async def put(state: Log, runtime: Runtime[Any]) -> Log:
        for name in ("x", "y"):
            await of(runtime).aput(("spaces", name, "deep"), "k", {"in": name})
        return {"log": ["put"]}

    async def listed(state: Log, runtime: Runtime[Any]) -> Log:
        found = await of(runtime).alist_namespaces(prefix=("spaces",))
        short = await of(runtime).alist_namespaces(prefix=("spaces",), max_depth=2)
        return {"log": [sorted(found), sorted(short)]}

    return stored(row(Log, put, listed))


def in_batches() -> Any:
    async def write(state: Log) -> Log:
        done = await get_store().abatch([PutOp(("batch",), f"k{n}", {"n": n}) for n in range(3)])
        return {"log": [len(done)]}

    async def read(state: Log) -> Log:
        got, found = await get_store().abatch([GetOp(("batch",), "k1"), SearchOp(("batch",), limit=5)])
        return {"log": [got.value, sorted(item.key for item in found)]}  # type: ignore[union-attr]  # a batch's answers are of many types

    return stored(row(Log, write, read))


def in_sends() -> Any:
    async def work(state: Any, runtime: Runtime[Any]) -> Log:
        happened("worked")
        await of(runtime).aput(("sends",), f"n{state['n']}", {"n": state["n"]})
        return {"log": [state["n"]]}

    async def gather(state: Log, runtime: Runtime[Any]) -> Log:
        return {"log": [sorted(item.value["n"] for item in await of(runtime).asearch(("sends",), limit=50))]}

    graph: Graph = StateGraph(Log)
    graph.add_node("work", work)
    graph.add_node("gather", gather)
    graph.add_conditional_edges(START, lambda state: [Send("work", {"n": n}) for n in range(12)], ["work"])
    graph.add_edge("work", "gather")
    return stored(graph)


def in_parallel() -> Any:
    def put(name: str) -> Any:
        async def run(state: Log, runtime: Runtime[Any]) -> Log:
            await of(runtime).aput(("parallel",), name, {"from": name})
            return {"log": [name]}

        return run

    async def gather(state: Log, runtime: Runtime[Any]) -> Log:
        return {"log": [sorted(item.key for item in await of(runtime).asearch(("parallel",)))]}

    return stored(side_by_side(Log, [(name, put(name)) for name in "abcd"], gather))


def in_a_subgraph() -> Any:
    async def remember(state: Log, runtime: Runtime[Any]) -> Log:
        await of(runtime).aput(("sub",), "k", {"from": "inside"})
        return {"log": ["inside"]}

    async def recall(state: Log, runtime: Runtime[Any]) -> Log:
        found = await of(runtime).aget(("sub",), "k")
        return {"log": [found.value if found else None]}

    return stored(row(Log, ("inner", row(Log, remember).compile()), recall))


def before_a_question() -> Any:
    """A node that runs again finds what it put before."""

    async def ask(state: Log, runtime: Runtime[Any]) -> Log:
        store = of(runtime)
        before = await store.aget(("question",), "times")
        times = before.value["times"] + 1 if before else 1
        await store.aput(("question",), "times", {"times": times})
        return {"log": [interrupt("go on?"), times]}

    return stored(row(Log, ask))


def counted() -> Any:
    """Each of five steps adds one to what the steps before have counted, wherever they ran."""

    def count(name: str) -> Any:
        async def add(state: Log, runtime: Runtime[Any]) -> Log:
            found = await of(runtime).aget(("counted",), "n")
            number = (found.value["n"] if found else 0) + 1
            await of(runtime).aput(("counted",), "n", {"n": number})
            return {"log": [f"{name} {number}"]}

        return add

    return stored(row(Log, *((name, count(name)) for name in "abcde")))


def listed() -> Any:
    async def fill(state: Log, runtime: Runtime[Any]) -> Log:
        for user in ("u1", "u2", "u3"):
            await of(runtime).aput(("listed", user), "profile", {"name": user})
        return {"log": ["filled"]}

    async def look(state: Log, runtime: Runtime[Any]) -> Log:
        found = await of(runtime).asearch(("listed",), query=None, limit=2)
        return {"log": [[item.value["name"] for item in found]]}

    async def again(state: Log, runtime: Runtime[Any]) -> Log:
        found = await of(runtime).asearch(("listed",), limit=10, offset=2)
        return {"log": [[item.value["name"] for item in found]]}

    return stored(row(Log, fill, look, again))


def each(name: str, graph: Any, **more: Any) -> Case:
    return Case(f"store-{name}", "store", graph, {"log": []}, **more)


CASES = [
    each("put-and-get", put_and_get()),
    each("synchronous", synchronous()),
    each("searched", searched()),
    each("deleted", deleted()),
    each("namespaces", namespaces()),
    each("in-batches", in_batches()),
    each("in-sends", in_sends()),
    each("counted", counted()),
    each("listed", listed()),
    each("in-parallel", in_parallel()),
    each("in-a-subgraph", in_a_subgraph()),
    each("before-a-question", before_a_question(), answers=["yes"]),
]
