"""The cache behind CachePolicy answers as LangGraph's own in memory does, to all workers of a workflow alike."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache

from app.database import DriverPool
from app.errors import UnstorableValue
from tests.roles import as_app
from workers.graph.serializer import ExactSerializer
from workers.maintenance.cache_pruner import CachePruner
from workers.stores.cache import PostgresCache
from workers.stores.cache_repository import Owner
from workers.stores.own_loop import OwnLoop

OWNER = Owner("web", "repair", "1")
A, B = ("writes", "a"), ("writes", "b")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[DriverPool]:
    made = DriverPool(as_app(database_url))
    yield made
    await made.close()


def of(pool: DriverPool, owner: Owner = OWNER) -> PostgresCache[Any]:
    return PostgresCache(OwnLoop(pool), owner, serde=ExactSerializer())


@pytest.fixture(params=["ours", "in memory"])
async def cache(request: pytest.FixtureRequest, pool: DriverPool) -> BaseCache[Any]:
    """The contract: LangGraph's passes it, too."""
    return of(pool) if request.param == "ours" else InMemoryCache()


async def count(pool: DriverPool) -> int:
    ((entries,),) = await pool.execute("SELECT count(*) FROM cache_entries", ())
    assert isinstance(entries, int)
    return entries


async def expire(pool: DriverPool) -> None:
    await pool.execute("UPDATE cache_entries SET expires_at = clock_timestamp() - interval '1 s' RETURNING 1", ())


async def test_what_was_set_is_there_until_its_time_is_over(cache: BaseCache[Any]) -> None:
    first = [["x", {"y": 2}]]
    await cache.aset({(A, "1"): (first, None), (A, "2"): ("two", 60), (B, "1"): (None, 60), (B, "2"): (4, 0)})
    found = await cache.aget([(A, "1"), (A, "2"), (B, "1"), (B, "2"), (B, "3")])
    assert found == {(A, "1"): first, (A, "2"): "two", (B, "1"): None}
    await cache.aset({(A, "2"): ("again", None), (A, "1"): ("gone", 0)})
    assert await cache.aget([(A, "1"), (A, "2")]) == {(A, "2"): "again"}


async def test_nothing_is_asked_and_nothing_is_set(cache: BaseCache[Any]) -> None:
    await cache.aset({})
    assert await cache.aget([]) == {}


async def test_namespaces_are_cleared(cache: BaseCache[Any]) -> None:
    keys = [(A, "1"), (A, "2"), (B, "1"), (("writes",), "1")]
    await cache.aset(dict.fromkeys(keys, (1, None)))
    await cache.aclear([])
    assert len(await cache.aget(keys)) == 4
    await cache.aclear([A, ("other",)])
    assert set(await cache.aget(keys)) == set(keys[2:])
    await cache.aclear()
    assert await cache.aget(keys) == {}


async def test_synchronous_calls(cache: BaseCache[Any]) -> None:
    def use() -> None:
        cache.set({(A, "1"): (1, None), (B, "1"): (2, None)})
        cache.clear([B])
        assert cache.get([(A, "1"), (B, "1")]) == {(A, "1"): 1}

    await asyncio.to_thread(use)
    use()


async def test_each_project_workflow_and_version_has_its_own(pool: DriverPool) -> None:
    ours = of(pool)
    others = [of(pool, OWNER._replace(**{name: "other"})) for name in Owner._fields]
    await ours.aset({(A, "1"): ("ours", None)})
    for other in others:
        assert await other.aget([(A, "1")]) == {}
        await other.aset({(A, "1"): ("other", None)})
        await other.aclear()
    assert await ours.aget([(A, "1")]) == {(A, "1"): "ours"}


async def test_a_result_comes_back_of_the_same_types(pool: DriverPool) -> None:
    """In memory LangGraph makes lists of tuples."""
    writes = [("x", (1, {2})), ("y", HumanMessage("hi", id="1"))]
    await of(pool).aset({(A, "1"): (writes, None)})
    assert repr(await of(pool).aget([(A, "1")])) == repr({(A, "1"): writes})


async def test_workers_share_it_and_wait_for_each_other_never_in_a_circle(pool: DriverPool) -> None:
    keys = [(A, str(n)) for n in range(50)]

    async def fill(writer: int) -> None:
        ordered = keys if writer % 2 else keys[::-1]
        await of(pool).aset(dict.fromkeys(ordered, (writer, 60)))

    async with asyncio.timeout(60):
        await asyncio.gather(*(fill(writer) for writer in range(12)))
    assert len(set((await of(pool).aget(keys)).values())) == 1


async def test_a_value_that_cannot_be_kept_is_refused(pool: DriverPool) -> None:
    with pytest.raises(UnstorableValue):
        await of(pool).aset({(A, "1"): (1, None), (A, "2"): (object(), None)})
    assert await count(pool) == 0


async def test_expired_entries_are_removed_some_at_a_time(pool: DriverPool) -> None:
    pruner = CachePruner(pool)
    most = pruner.duty.at_most
    await of(pool).aset({(A, str(n)): (n, 60) for n in range(most + 5)})
    await pruner.round()
    assert await count(pool) == most + 5
    await expire(pool)
    await of(pool).aset({(B, "1"): ("fresh", 60)})
    await pruner.round()
    assert await count(pool) == 6
    await pruner.round()
    assert await of(pool).aget([(B, "1")]) == {(B, "1"): "fresh"}
    assert await count(pool) == 1
