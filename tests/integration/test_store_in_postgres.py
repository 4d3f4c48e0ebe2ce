"""The store in Postgres: any operations against the one in memory, many workers and projects, calls from anywhere."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from app.errors import TooManyItems, UnstorableValue
from tests.storing import CODEC, INDEX, Point, fill, places, worker_on
from workers.stores import store as store_module
from workers.stores.own_loop import OwnLoop
from workers.stores.store import PostgresStore


@pytest.fixture
async def home(database_url: str) -> AsyncIterator[OwnLoop]:
    async with worker_on(database_url) as worker:
        yield worker


@pytest.fixture
def ours(home: OwnLoop) -> PostgresStore:
    return PostgresStore(home, "web", CODEC)


@pytest.fixture(params=["ours", "in memory"])
def store(request: pytest.FixtureRequest, home: OwnLoop) -> BaseStore:
    """The contract: LangGraph's passes it, too."""
    return PostgresStore(home, "web", CODEC) if request.param == "ours" else InMemoryStore()


async def test_items_come_back_of_the_same_types(ours: PostgresStore) -> None:
    value: dict[Any, Any] = {
        "tuple": (1, "a"),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "said": [HumanMessage("hi", id="1")],
        "point": Point(1, 2),
        "text": "a\0b",
        "number": 2**70,
        "float": 1e22,
        7: "a key that is no text",
    }
    await ours.aput(("a",), "1", value)
    item = await ours.aget(("a",), "1")
    assert item is not None and item.value == value
    assert {key: type(kept) for key, kept in item.value.items()} == {key: type(kept) for key, kept in value.items()}
    assert list(item.value) == list(value)


async def test_a_value_that_cannot_be_kept_is_refused_and_nothing_is_written(ours: PostgresStore) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"deeper": deep}
    for value in ({"what": object()}, deep):
        with pytest.raises(UnstorableValue):
            await ours.abatch([PutOp(("a",), "1", {}), PutOp(("a",), "2", value)])
    assert await ours.asearch(()) == []


@pytest.mark.parametrize(
    "op",
    [
        GetOp(("a",), "\0"),
        GetOp(("\ud800",), "1"),
        PutOp((7,), "1", {}),  # type: ignore[arg-type]  # that is the test
        SearchOp((), limit=-1),
        SearchOp((), offset=-1),
        ListNamespacesOp(max_depth=-1),
    ],
    ids=str,
)
async def test_what_postgres_cannot_keep_or_count_is_refused(ours: PostgresStore, op: Any) -> None:
    with pytest.raises(ValueError, match=r"strings|surrogates|negative"):
        await ours.abatch([op])


async def test_a_key_is_as_long_as_an_index_takes(ours: PostgresStore) -> None:
    text = token_hex(1400)  # which does not get shorter when it is compressed
    longest = text[: store_module.MOST_BYTES - 3 * store_module.PER_TEXT - 2]
    await ours.aput(("a", "b"), longest, {})
    assert await ours.aget(("a", "b"), longest)
    with pytest.raises(InvalidNamespaceError, match=r"2,401 bytes with its namespace; 2,400 are possible"):
        await ours.abatch([PutOp(("a", "b"), "first", {}), PutOp(("a", "b"), f"{longest}x", {})])
    assert await ours.aget(("a", "b"), "first") is None
    assert await ours.aget(("a", "b"), text) is None, "there is none, and asking is no fault"


async def test_a_search_that_would_read_too_much_is_refused(home: OwnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_SCORED", 2)
    ours = PostgresStore(home, "web", CODEC, INDEX)
    await fill(ours, "a:1", "a:2", "b:1", text="a")
    assert len(await ours.asearch(("a",), query="a")) == 2
    with pytest.raises(TooManyItems, match="narrower namespace"):
        await ours.asearch((), query="a")


async def test_a_project_sees_its_own_items_alone(home: OwnLoop, ours: PostgresStore) -> None:
    other = PostgresStore(home, "mail", CODEC)
    await fill(ours, "a:1")
    await fill(other, "a:1", "b:1")
    await other.adelete(("a",), "1")
    assert places(await ours.asearch(())) == ["a:1"]
    assert await ours.alist_namespaces() == [("a",)]
    assert await ours.aget(("b",), "1") is None


async def test_two_workers_see_one_store(database_url: str, ours: PostgresStore) -> None:
    async with worker_on(database_url) as other:
        theirs = PostgresStore(other, "web", CODEC)
        await fill(ours, "a:1")
        await fill(theirs, "a:2")
        assert places(await ours.asearch(())) == places(await theirs.asearch(())) == ["a:1", "a:2"]


async def test_batches_that_meet_in_the_same_items_take_turns(ours: PostgresStore) -> None:
    """Each as a whole: none waits for another one that waits for it."""
    keys = [str(n) for n in range(20)]

    async def put(writer: int) -> None:
        ordered = keys if writer % 2 else keys[::-1]
        gone = [PutOp(("a",), f"gone {key}", None if writer % 3 else {}) for key in ordered]
        await ours.abatch([*(PutOp(("a",), key, {"by": writer}) for key in ordered), *gone])

    async with asyncio.timeout(60):
        await asyncio.gather(*(put(writer) for writer in range(12)))
    found = [item for item in await ours.asearch(("a",), limit=100) if item.key in keys]
    assert len(found) == 20 and len({item.value["by"] for item in found}) == 1


LABELS = st.sampled_from(["a", "b", "aa"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
PATHS = st.lists(LABELS | st.just("*"), max_size=3).map(tuple)
KEYS = st.sampled_from(["1", "2", "3"])
NUMBERS = st.integers(0, 4)
COMPARED = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
WANTED = st.none() | st.fixed_dictionaries({"n": NUMBERS | st.dictionaries(COMPARED, NUMBERS, min_size=1)})
OPS = st.one_of(
    st.builds(PutOp, NAMESPACES, KEYS, st.none() | st.fixed_dictionaries({"n": NUMBERS})),
    st.builds(GetOp, NAMESPACES, KEYS),
    st.builds(SearchOp, st.lists(LABELS, max_size=2).map(tuple), WANTED, NUMBERS, NUMBERS),
    st.builds(
        ListNamespacesOp,
        st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATHS), max_size=2).map(tuple),
        st.none() | NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
)


def plain(result: Any) -> Any:
    """Without times, which differ."""
    if isinstance(result, Item):
        return type(result), result.namespace, result.key, result.value
    return [plain(one) if isinstance(one, Item) else one for one in result] if result else result


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has a project of its own
)
@given(batches=st.lists(st.lists(OPS, min_size=1, max_size=5), min_size=1, max_size=12))
async def test_it_answers_as_the_store_in_memory_does(home: OwnLoop, batches: list[list[Any]]) -> None:
    ours, memory = PostgresStore(home, str(uuid4()), CODEC), InMemoryStore()
    for ops in [*batches, [SearchOp((), limit=100), ListNamespacesOp()]]:
        answers = [answer for op, answer in zip(ops, await ours.abatch(ops), strict=True) if not isinstance(op, PutOp)]
        expected = []
        for op in ops:
            if not isinstance(op, PutOp):
                expected += await memory.abatch([op])
                forget_the_empty(memory)
        assert [plain(answer) for answer in answers] == [plain(answer) for answer in expected]
        last = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        there = {(namespace, key) for namespace, items in memory._data.items() for key in items}
        await memory.abatch([op for place, op in last.items() if op.value is not None or place in there])
        forget_the_empty(memory)


def forget_the_empty(memory: InMemoryStore) -> None:
    """The one difference: in memory, a namespace that was only named, or that is empty again, is still one."""
    for namespace in [namespace for namespace, items in memory._data.items() if not items]:
        del memory._data[namespace]


def use(store: BaseStore) -> list[str]:
    """All that a synchronous node can do."""
    store.put(("a",), "1", {"n": 1})
    store.put(("a",), "2", {"n": 2})
    store.delete(("a",), "1")
    item = store.get(("a",), "2")
    assert item is not None and store.list_namespaces() == [("a",)]
    return places([item, *store.search(("a",), filter={"n": 2})])


async def test_a_node_in_a_thread_calls_it(store: BaseStore) -> None:
    assert await asyncio.to_thread(use, store) == ["a:2", "a:2"]


async def test_a_node_on_the_event_loop_that_does_not_await(store: BaseStore) -> None:
    assert use(store) == ["a:2", "a:2"]


async def test_a_node_with_an_event_loop_of_its_own(store: BaseStore) -> None:
    async def node() -> list[str]:
        await store.aput(("a",), "1", {})
        return places(await store.asearch(()))

    assert await asyncio.to_thread(asyncio.run, node()) == ["a:1"]
