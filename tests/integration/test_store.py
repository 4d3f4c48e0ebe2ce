"""The store of a project answers as LangGraph's own store in memory does, from any number of workers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from app.database import DriverPool
from app.errors import TooManyItems, UnstorableValue
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer
from workers.stores import store as store_module
from workers.stores.own_loop import OwnLoop
from workers.stores.store import PostgresStore


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


CODEC = Codec(ExactSerializer([Colour, Point]))


def embed(texts: Sequence[str]) -> list[list[float]]:
    """How often a text says a, b and c."""
    return [[float(text.count(letter)) for letter in "abc"] for text in texts]


INDEX: IndexConfig = {"dims": 3, "embed": embed, "fields": ["text"]}


@pytest.fixture
async def home(database_url: str) -> AsyncIterator[OwnLoop]:
    pool = DriverPool(database_url)
    yield OwnLoop(pool)
    await pool.close()


@pytest.fixture
def ours(home: OwnLoop) -> PostgresStore:
    return PostgresStore(home, "web", CODEC)


@pytest.fixture(params=["ours", "in memory"])
def store(request: pytest.FixtureRequest, home: OwnLoop) -> BaseStore:
    """The contract: LangGraph's passes it, too."""
    return PostgresStore(home, "web", CODEC) if request.param == "ours" else InMemoryStore()


@pytest.fixture(params=["ours", "in memory"])
def indexed(request: pytest.FixtureRequest, home: OwnLoop) -> BaseStore:
    return PostgresStore(home, "web", CODEC, INDEX) if request.param == "ours" else InMemoryStore(index=INDEX)


async def fill(store: BaseStore, *places: str, **more: Any) -> None:
    """Each place is a namespace and a key, as `users/ann:name`; the value holds its number."""
    for number, place in enumerate(places):
        path, _, key = place.partition(":")
        await store.aput(tuple(path.split("/")), key, {"number": number} | more)


def places(found: list[Any]) -> list[str]:
    return [f"{'/'.join(item.namespace)}:{item.key}" for item in found]


async def test_what_was_put_is_there_until_it_is_deleted(store: BaseStore) -> None:
    assert await store.aget(("users",), "ann") is None
    await store.aput(("users",), "ann", {"age": 40})
    item = await store.aget(("users",), "ann")
    assert item is not None and type(item) is Item
    assert (item.namespace, item.key, item.value) == (("users",), "ann", {"age": 40})
    await store.adelete(("users",), "ann")
    await store.adelete(("users",), "ann")
    assert await store.aget(("users",), "ann") is None


async def test_a_put_replaces_the_whole_value_and_its_times(store: BaseStore) -> None:
    before = datetime.now(UTC)
    await store.aput(("users",), "ann", {"age": 40, "name": "Ann"})
    first = await store.aget(("users",), "ann")
    await store.aput(("users",), "ann", {"age": 41})
    second = await store.aget(("users",), "ann")
    assert first is not None and second is not None
    assert second.value == {"age": 41}
    assert before <= first.created_at <= first.updated_at < second.created_at <= second.updated_at
    assert first.created_at.tzinfo is second.updated_at.tzinfo is UTC


async def test_a_key_that_is_no_text_becomes_one(store: BaseStore) -> None:
    await store.aput(("users",), 7, {"a": 1})  # type: ignore[arg-type]  # as people do
    assert await store.aget(("users",), "7") is not None


async def test_keys_and_labels_are_taken_as_they_are(store: BaseStore) -> None:
    for text in ("a b", "é🎯", "%_\\", '"', "{a,b}", "NULL", ",", "a/b"):
        await store.aput((text, text), text, {"text": text})
        item = await store.aget((text, text), text)
        assert item is not None and item.value == {"text": text}
        assert [found.key for found in await store.asearch((text,))] == [text]


@pytest.mark.parametrize("namespace", [(), ("langgraph", "a"), ("a.b",), ("",), (7,), ("a\0",)])
async def test_namespaces_that_are_none_are_refused(store: BaseStore, namespace: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidNamespaceError):
        await store.aput(namespace, "key", {})


async def test_there_is_no_time_to_live(store: BaseStore) -> None:
    with pytest.raises(NotImplementedError, match="TTL is not supported"):
        await store.aput(("a",), "key", {}, ttl=5)


async def test_results_stand_by_namespace_and_then_by_age(store: BaseStore) -> None:
    await fill(store, "z:2", "a/y:1", "z:1", "a:3", "a/y:0", "z:0", "a:1")
    assert places(await store.asearch(())) == ["z:2", "z:1", "z:0", "a/y:1", "a/y:0", "a:3", "a:1"]
    assert places(await store.asearch(("a",))) == ["a/y:1", "a/y:0", "a:3", "a:1"]
    assert places(await store.asearch((), limit=3, offset=2)) == ["z:0", "a/y:1", "a/y:0"]
    assert await store.asearch((), offset=7) == await store.asearch((), limit=0) == []
    await fill(store, "z:1")  # keeps its place
    await store.adelete(("z",), "2")
    await fill(store, "z:2")  # comes last, but its namespace stays first
    assert places(await store.asearch(()))[:4] == ["z:1", "z:0", "z:2", "a/y:1"]


async def test_a_namespace_is_matched_by_whole_labels(store: BaseStore) -> None:
    await fill(store, "a:1", "a/b:1", "ab:1", "a\x01:1", "aé:1", "b/a:1", "a/b/c:1", "a/ba:1")
    assert places(await store.asearch(("a",))) == ["a:1", "a/b:1", "a/b/c:1", "a/ba:1"]
    assert places(await store.asearch(("a", "b"))) == ["a/b:1", "a/b/c:1"]


VALUES: list[dict[str, Any]] = [
    {"kind": "note", "size": 1, "tags": ["x", "y"], "by": {"name": "ann", "age": 40}},
    {"kind": "note", "size": 10, "tags": ("x", "y"), "by": {"name": "bob"}},
    {"kind": "page", "size": 9.5, "tags": [], "by": None, "on": date(2026, 1, 2)},
    {"kind": Colour.RED, "size": True, "at": Point(1, 2)},
    {"kind": None, "size": "2", "$langgraph": 1},
]


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "note"},
        {"kind": "note", "size": 10},
        {"kind": None},
        {"kind": {"$eq": "page"}},
        {"kind": {"$ne": "note"}},
        {"kind": Colour.RED},
        {"size": 1},
        {"size": {"$gt": 2}},
        {"size": {"$gte": 9.5, "$lt": 10}},
        {"size": {"$lte": "9.5"}},
        {"tags": ["x", "y"]},
        {"tags": ("x", "y")},
        {"tags": []},
        {"by": {"name": "ann"}},
        {"by": {"name": "ann", "age": {"$gt": 39}}},
        {"on": date(2026, 1, 2)},
        {"at": (1, 2)},
        {"missing": None},
        {"missing": {"$ne": 1}},
        {},
    ],
    ids=str,
)
async def test_filters(store: BaseStore, wanted: dict[str, Any]) -> None:
    for number, value in enumerate(VALUES):
        await store.aput(("a",), str(number), value)
    memory = InMemoryStore()
    for number, value in enumerate(VALUES):
        memory.put(("a",), str(number), value)
    expected = memory.search((), filter=wanted)
    found = await store.asearch((), filter=wanted)
    assert [(item.key, item.value) for item in found] == [(item.key, item.value) for item in expected]
    found = await store.asearch((), filter=wanted, limit=1, offset=1)
    assert places(found) == places(expected[1:2])


@pytest.mark.parametrize(
    ("wanted", "raised"),
    [({"kind": {"$in": ["note"]}}, ValueError), ({"kind": {"$gt": 1}}, ValueError), ({"by": {"$gt": 1}}, TypeError)],
)
async def test_filters_that_do_not_fit(store: BaseStore, wanted: dict[str, Any], raised: type[Exception]) -> None:
    await store.aput(("a",), "1", {"kind": "note", "by": None})
    with pytest.raises(raised):
        await store.asearch(("a",), filter=wanted)


async def test_filters_over_several_pages(ours: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE", 3)
    await fill(ours, *(f"{space}:{n}" for n in range(6) for space in "ba"))
    found = await ours.asearch((), filter={"number": {"$gte": 4}}, limit=6, offset=1)
    assert places(found) == ["b:3", "b:4", "b:5", "a:2", "a:3", "a:4"]


async def test_listing_namespaces(store: BaseStore) -> None:
    await fill(store, "b/x/y:1", "a/x/z:1", "a:1", "b/x:1", "é/x:1", "Z/y:1", "a/x/z:2", "b/w/y:1")
    at = [("Z", "y"), ("a",), ("a", "x", "z"), ("b", "w", "y"), ("b", "x"), ("b", "x", "y"), ("é", "x")]
    assert await store.alist_namespaces() == at
    assert await store.alist_namespaces(limit=2, offset=1) == at[1:3]
    assert await store.alist_namespaces(prefix=("b",)) == at[3:6]
    assert await store.alist_namespaces(prefix=("b", "*", "y")) == [at[3], at[5]]
    assert await store.alist_namespaces(suffix=("x",)) == [at[4], at[6]]
    assert await store.alist_namespaces(suffix=("x", "*")) == [at[2], at[5]]
    assert await store.alist_namespaces(prefix=("b",), suffix=("y",)) == [at[3], at[5]]
    assert await store.alist_namespaces(prefix=("b", "x", "y", "z")) == []
    assert await store.alist_namespaces(max_depth=1) == [("Z",), ("a",), ("b",), ("é",)]
    assert await store.alist_namespaces(prefix=("b",), max_depth=2, limit=1) == [("b", "w")]
    assert await store.alist_namespaces(max_depth=0) == [()]


async def test_a_batch_reads_first_and_then_writes(store: BaseStore) -> None:
    await fill(store, "a:1")
    everywhere = MatchCondition("prefix", ("*",))
    results = await store.abatch(
        [
            PutOp(("a",), "1", None),
            GetOp(("a",), "1"),
            PutOp(("b",), "2", {"first": 1}),
            PutOp(("b",), "1", {}),
            SearchOp(()),
            ListNamespacesOp((everywhere,)),
            GetOp(("b",), "1"),
            PutOp(("b",), "2", {"last": 1}),
        ]
    )
    assert [results[n] for n in (0, 2, 3, 5, 6, 7)] == [None, None, None, [("a",)], None, None]
    assert isinstance(results[1], Item) and results[1].key == "1"
    assert isinstance(results[4], list) and places(results[4]) == ["a:1"]
    found = await store.asearch(())
    assert [(item.namespace, item.key, item.value) for item in found] == [
        (("b",), "2", {"last": 1}),
        (("b",), "1", {}),
    ]
    with pytest.raises(ValueError, match="Unknown operation type"):
        await store.abatch(["get"])  # type: ignore[list-item]  # that is the test


async def test_a_query_without_an_index_is_a_listing(store: BaseStore) -> None:
    await fill(store, "a:1", "a:2")
    await store.aput(("a",), "3", {"text": "b"}, index=["text"])
    found = await store.asearch(("a",), query="b")
    assert places(found) == ["a:1", "a:2", "a:3"]
    assert {item.score for item in found} == {None}


async def test_a_query_with_an_index_finds_what_is_alike(indexed: BaseStore) -> None:
    texts = {"1": "aaa", "2": "bbb c", "3": "b", "4": "ab"}
    for key, text in texts.items():
        await indexed.aput(("docs",), key, {"text": text, "even": int(key) % 2 == 0})
    await indexed.aput(("docs",), "5", {"text": "b"}, index=False)
    await indexed.aput(
        ("docs", "deep"), "6", {"other": "bb", "list": [{"of": "cb"}, {"of": "b"}]}, index=["list[*].of"]
    )
    found = await indexed.asearch(("docs",), query="b")
    assert [(item.key, None if item.score is None else round(item.score, 3)) for item in found] == [
        ("3", 1.0),
        ("6", 1.0),
        ("2", 0.949),
        ("4", 0.707),
        ("1", 0.0),
        ("5", None),
    ]
    assert [item.key for item in await indexed.asearch(("docs",), query="b", limit=2, offset=1)] == ["6", "2"]
    assert [item.key for item in await indexed.asearch(("docs",), query="b", filter={"even": True})][:2] == ["2", "4"]
    await indexed.adelete(("docs",), "3")
    await indexed.aput(("docs",), "1", {"text": "bb"})
    assert [item.key for item in await indexed.asearch(("docs",), query="b", limit=2)] == ["1", "6"]


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
    pool = DriverPool(database_url)
    try:
        theirs = PostgresStore(OwnLoop(pool), "web", CODEC)
        await fill(ours, "a:1")
        await fill(theirs, "a:2")
        assert places(await ours.asearch(())) == places(await theirs.asearch(())) == ["a:1", "a:2"]
    finally:
        await pool.close()


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
