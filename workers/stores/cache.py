"""The cache behind `CachePolicy`: results that all workers use again, for a workflow of a project."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

from langgraph.cache.base import BaseCache, FullKey, Namespace, ValueT
from langgraph.checkpoint.serde.base import SerializerProtocol

from app.database import DriverPool
from workers.stores import cache_repository as repository
from workers.stores.cache_repository import NewEntry, Owner
from workers.stores.own_loop import OwnLoop

LONGEST = timedelta(days=30)
"""A result without a time to live is computed anew after it; in memory it would end with the process."""


class PostgresCache(BaseCache[ValueT]):
    """Answers as InMemoryCache does."""

    def __init__(self, home: OwnLoop, owner: Owner, *, serde: SerializerProtocol) -> None:
        super().__init__(serde=serde)
        self._home = home
        self._owner = owner

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        return self._home.call(partial(self._get, keys))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        return await self._home.run(partial(self._get, keys))

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        self._home.call(partial(self._set, pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        await self._home.run(partial(self._set, pairs))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        self._home.call(partial(self._clear, namespaces))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        await self._home.run(partial(self._clear, namespaces))

    async def _get(self, keys: Sequence[FullKey], pool: DriverPool) -> dict[FullKey, ValueT]:
        if not keys:
            return {}
        found = await repository.read(pool, self._owner, keys)
        return {key: self.serde.loads_typed(entry) for key, entry in found.items()}

    async def _set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]], pool: DriverPool) -> None:
        longest = LONGEST.total_seconds()
        entries = {
            key: NewEntry(*self.serde.dumps_typed(value), longest if seconds is None else min(seconds, longest))
            for key, (value, seconds) in pairs.items()
        }
        if entries:
            await repository.write(pool, self._owner, entries)

    async def _clear(self, namespaces: Sequence[Namespace] | None, pool: DriverPool) -> None:
        await repository.clear(pool, self._owner, namespaces)
