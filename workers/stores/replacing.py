"""Which store and which cache the nodes of a workflow get, by what its graph was compiled with.

What keeps its items in this process alone would be another one in each worker, so it is replaced by one in Postgres.
Any other is the user's own and used as it is; a graph that was compiled with none gets none, as in LangGraph.
"""

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import structlog
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.store.base import BaseStore, IndexConfig
from langgraph.store.memory import InMemoryStore

from workers.graph.loading import LoadedWorkflow
from workers.stores.cache import PostgresCache
from workers.stores.cache_repository import Owner
from workers.stores.own_loop import OwnLoop
from workers.stores.seeds import Seeds
from workers.stores.store import PostgresStore

logger = structlog.get_logger(__name__)

_seeds: WeakKeyDictionary[InMemoryStore, Seeds] = WeakKeyDictionary()
_used_past_us: WeakSet[InMemoryStore] = WeakSet()
"""Of which that was told."""


def store_for(workflow: LoadedWorkflow, home: OwnLoop, project: str) -> BaseStore | None:
    """Costs next to nothing: make one for each attempt.

    Raises UnstorableValue when the graph's module has put into its store what cannot be kept.
    """
    store = workflow.store
    if store is None or type(store) is not InMemoryStore:
        return store
    if store not in _seeds:
        _seeds[store] = Seeds.of(store, workflow.codec)
    if not _seeds[store].are_all_of(store) and store not in _used_past_us:
        _used_past_us.add(store)
        logger.warning(
            "a node puts into the InMemoryStore by its module's variable, so each worker has other items;"
            " take it from runtime.store",
            workflow=workflow.name,
        )
    return PostgresStore(home, project, workflow.codec, _index(store), _seeds[store])


def cache_for(workflow: LoadedWorkflow, home: OwnLoop, project: str) -> BaseCache[Any] | None:
    """Costs next to nothing: make one for each attempt."""
    cache = workflow.compiled.cache
    if cache is None or type(cache) is not InMemoryCache:
        return cache
    # A serializer that the user chose may encrypt.
    serde = workflow.serializer if cache.serde is BaseCache.serde else cache.serde
    return PostgresCache(home, Owner(project, workflow.name, workflow.version), serde=serde)


def tell_what_is_replaced(workflows: Iterable[LoadedWorkflow]) -> None:
    """Logs a line for each store or cache that is replaced, or should be and cannot be."""
    for workflow in workflows:
        store, cache = workflow.store, workflow.compiled.cache
        for kept, known in ((store, InMemoryStore), (cache, InMemoryCache)):
            if type(kept) is known:
                logger.info(
                    f"its {known.__name__} is replaced by one in Postgres, which all workers share",
                    workflow=workflow.name,
                )
            elif isinstance(kept, known):
                logger.warning(
                    f"its {type(kept).__name__} keeps what it has in memory, so each worker has another one",
                    workflow=workflow.name,
                )


def _index(store: InMemoryStore) -> IndexConfig | None:
    """The store's own, with the embeddings that it has made already."""
    if store.index_config is None or store.embeddings is None:
        return None
    index = store.index_config.copy()
    index["embed"] = store.embeddings
    return index
