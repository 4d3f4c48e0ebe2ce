"""The store of a project answers as LangGraph's own store in memory does."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
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

from tests.storing import CODEC, INDEX, Colour, Point, fill, places, worker_on
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


@pytest.fixture(params=["ours", "in memory"])
def indexed(request: pytest.FixtureRequest, home: OwnLoop) -> BaseStore:
    return PostgresStore(home, "web", CODEC, INDEX) if request.param == "ours" else InMemoryStore(index=INDEX)


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
