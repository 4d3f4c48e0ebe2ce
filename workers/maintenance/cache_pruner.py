"""The pruner of the cache: removes results whose time is over."""

from dataclasses import dataclass
from datetime import timedelta

from app.database import DriverPool
from workers.maintenance.maintainer import Duty
from workers.stores import cache_repository

EVERY = timedelta(minutes=1)
BATCH = 1000


@dataclass(frozen=True, slots=True)
class CachePruner:
    pool: DriverPool

    @property
    def duty(self) -> Duty:
        return Duty("cache pruner", every=EVERY, at_most=BATCH)

    async def round(self) -> None:
        await cache_repository.prune(self.pool, limit=self.duty.at_most)
