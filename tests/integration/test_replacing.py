"""A graph that was compiled with a store or a cache in memory ends the same with the ones in Postgres."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from operator import add
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, SearchItem
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy
from structlog.testing import capture_logs
from typing_extensions import TypedDict

from app.database import DriverPool
from app.errors import UnstorableValue
from tests.graphs.driving import loaded
from tests.roles import as_app
from workers.stores.cache import PostgresCache
from workers.stores.own_loop import OwnLoop
from workers.stores.replacing import cache_for, store_for, tell_what_is_replaced
from workers.stores.seeds import Seeds
from workers.stores.store import PostgresStore

MEMORIES = ("users", "ann", "memories")


class State(TypedDict):
    seen: Annotated[list[Any], add]


def remember(state: State, *, store: BaseStore) -> dict[str, Any]:
    """In a thread, as LangGraph runs it."""
    known = store.search(MEMORIES)
    store.put(MEMORIES, str(len(known)), {"message": HumanMessage(f"hi {len(known)}", id="1"), "pair": (1, 2)})
    return {"seen": [[item.key for item in known]]}


async def recall(state: State, runtime: Runtime[None]) -> dict[str, Any]:
    assert runtime.store is not None
    found = await runtime.store.asearch(MEMORIES, filter={"pair": (1, 2)})
    hasty = runtime.store.get(MEMORIES, "0")  # works in LangGraph without an await, too
    assert hasty is not None
    return {"seen": [[item.value for item in found], hasty.value["message"]]}


def with_store() -> StateGraph[State, None, State, State]:
    graph = StateGraph(State)
    graph.add_node("remember", remember)
    graph.add_node("recall", recall)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", "recall")
    graph.add_edge("recall", END)
    return graph


class Calls:
    """A node that counts how often it runs."""

    def __init__(self) -> None:
        self.count = 0

    def graph(self, policy: CachePolicy[Any]) -> StateGraph[State, None, State, State]:
        graph = StateGraph(State)
        graph.add_node("answer", self.answer, cache_policy=policy)
        graph.add_edge(START, "answer")
        return graph

    async def answer(self, state: State) -> dict[str, Any]:
        self.count += 1
        return {"seen": [self.count, AIMessage("well", id="2")]}


@pytest.fixture
async def homes(database_url: str) -> AsyncIterator[list[OwnLoop]]:
    """Two workers."""
    pools = [DriverPool(as_app(database_url)) for _ in range(2)]
    yield [OwnLoop(pool) for pool in pools]
    for pool in pools:
        await pool.close()


async def test_two_workers_run_a_graph_as_one_process_does(homes: list[OwnLoop]) -> None:
    builder = with_store()
    plain = builder.compile(store=InMemoryStore())
    workflow = loaded(plain)
    for home in (*homes, *homes):
        store = store_for(workflow, home, "web")
        assert isinstance(store, PostgresStore)
        here = builder.compile(store=store)
        assert await here.ainvoke({"seen": []}) == await plain.ainvoke({"seen": []})


async def test_two_workers_compute_what_is_cached_once(homes: list[OwnLoop]) -> None:
    plain_calls, calls = Calls(), Calls()
    plain = plain_calls.graph(CachePolicy(ttl=60)).compile(cache=InMemoryCache())
    builder = calls.graph(CachePolicy(ttl=60))
    workflow = loaded(builder.compile(cache=InMemoryCache()))
    for given in ([], ["a"], [], ["a"]):
        for home in homes:
            here = builder.compile(cache=cache_for(workflow, home, "web"))
            assert await here.ainvoke({"seen": given}) == await plain.ainvoke({"seen": given})
    assert calls.count == plain_calls.count == 2


async def test_the_index_is_taken_over(homes: list[OwnLoop]) -> None:
    made: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        made.extend(texts)
        return [[float(len(text)), 1.0] for text in texts]

    plain = InMemoryStore(index={"dims": 2, "embed": embed, "fields": ["text"]})
    full = InMemoryStore(index={"dims": 2, "embed": embed, "fields": ["text"]})
    full.put(("a",), "bare", {})
    full.put(("a",), "given", {"text": "yy"})
    made.clear()
    seeded = store_for(loaded(with_store().compile(store=full)), homes[0], "mail")
    store = store_for(loaded(with_store().compile(store=plain)), homes[0], "web")
    assert store is not None
    for one in (plain, store):
        await one.aput(("a",), "short", {"text": "x"})
        await one.aput(("a",), "long", {"text": "x" * 9})
    assert seeded is not None
    given = await seeded.asearch((), query="yy")
    assert [(item.key, item.score is None) for item in given] == [("given", False), ("bare", True)]
    made.remove("yy")
    found = [[(item.key, item.score) for item in await one.asearch((), query="x" * 8)] for one in (plain, store)]
    assert found[0] == found[1] and found[0][0][0] == "long"
    assert made == ["x", "x" * 9] * 2 + ["x" * 8] * 2


def ages(found: list[SearchItem]) -> list[tuple[str, Any]]:
    return [(item.key, item.value["age"]) for item in found]


async def test_each_project_finds_what_the_module_put_into_its_store(homes: list[OwnLoop]) -> None:
    def another_process(home: OwnLoop, project: str, *more: str) -> BaseStore:
        memory = InMemoryStore()
        for age, name in enumerate(("ann", "bob", "cy", *more)):
            memory.put(("users",), name, {"age": (age,)})
        store = store_for(loaded(with_store().compile(store=memory)), home, project)
        assert store is not None
        return store

    first = another_process(homes[0], "web")
    assert ages(await first.asearch(("users",))) == [("ann", (0,)), ("bob", (1,)), ("cy", (2,))]
    await first.aput(("users",), "ann", {"age": 40})
    await first.adelete(("users",), "bob")
    assert ages(await first.asearch(())) == [("ann", 40), ("cy", (2,))]
    second = another_process(homes[1], "web", "dee")
    assert ages(await second.asearch(())) == [("ann", 40), ("cy", (2,)), ("dee", (3,))]
    assert len(await another_process(homes[1], "mail").asearch(())) == 3


async def test_what_a_module_puts_is_given_once_by_processes_that_begin_together(homes: list[OwnLoop]) -> None:
    memory = InMemoryStore()
    for number in range(50):
        memory.put(("users",), str(number), {"age": number})
    workflow = loaded(with_store().compile(store=memory))
    stores = [PostgresStore(home, "web", workflow.codec, seeds=Seeds.of(memory, workflow.codec)) for home in homes * 4]

    async def change(store: PostgresStore) -> None:
        assert await store.aget(("users",), "1") is not None
        await store.aput(("users",), "1", {"age": "changed"})

    await asyncio.gather(*map(change, stores))
    assert ages(await stores[0].asearch(("users",), limit=2)) == [("0", 0), ("1", "changed")]


async def test_an_item_of_the_module_that_cannot_be_kept_is_refused_before_a_node_runs(homes: list[OwnLoop]) -> None:
    memory = InMemoryStore()
    memory.put(("users",), "ann", {"what": object()})
    with pytest.raises(UnstorableValue):
        store_for(loaded(with_store().compile(store=memory)), homes[0], "web")


async def test_a_node_that_uses_the_modules_own_variable_is_told_of_once(homes: list[OwnLoop]) -> None:
    memory = InMemoryStore()
    memory.put(("users",), "ann", {})
    workflow = loaded(with_store().compile(store=memory))
    with capture_logs() as logs:
        store_for(workflow, homes[0], "web")
        assert logs == []
        memory.put(("users",), "bob", {})
        for home in homes:
            store_for(workflow, home, "web")
    assert ["module's variable" in line["event"] for line in logs] == [True]


class OwnStore(InMemoryStore):
    pass


class OwnCache(InMemoryCache[Any]):
    pass


async def test_the_users_own_are_used_as_they_are(homes: list[OwnLoop]) -> None:
    store, cache = OwnStore(), OwnCache()
    workflow = loaded(with_store().compile(store=store, cache=cache))
    assert store_for(workflow, homes[0], "web") is store
    assert cache_for(workflow, homes[0], "web") is cache


@pytest.mark.parametrize("graph", [with_store(), with_store().compile()])
async def test_a_graph_without_any_gets_none(homes: list[OwnLoop], graph: Any) -> None:
    assert store_for(loaded(graph), homes[0], "web") is None
    assert cache_for(loaded(graph), homes[0], "web") is None


async def test_a_serializer_that_the_user_chose_writes_the_cache(homes: list[OwnLoop]) -> None:
    serde = JsonPlusSerializer()
    workflow = loaded(with_store().compile(cache=InMemoryCache(serde=serde)))
    cache = cache_for(workflow, homes[0], "web")
    assert isinstance(cache, PostgresCache) and cache.serde is serde


def test_what_is_replaced_is_told() -> None:
    builder = with_store()
    with capture_logs() as logs:
        tell_what_is_replaced([loaded(builder), loaded(builder.compile())])
        assert logs == []
        tell_what_is_replaced([loaded(builder.compile(store=InMemoryStore(), cache=OwnCache()))])
    assert [(line["log_level"], line["event"], line["workflow"]) for line in logs] == [
        ("info", "its InMemoryStore is replaced by one in Postgres, which all workers share", "tested"),
        ("warning", "its OwnCache keeps what it has in memory, so each worker has another one", "tested"),
    ]
