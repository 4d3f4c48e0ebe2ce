"""The watch on the cluster: a worker that writes after a failover or a restore begins a new epoch before it does."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from app.events.epochs import WATCH_EVERY, observe_cluster
from workers.maintenance.maintainer import Duty


@dataclass(frozen=True, slots=True)
class ClusterWatch:
    engine: AsyncEngine
    tell: Callable[[int], None]
    """Is told the epoch in each round."""

    @property
    def duty(self) -> Duty:
        return Duty("cluster watch", every=WATCH_EVERY, at_most=1)

    async def round(self) -> None:
        self.tell(await observe_cluster(self.engine))
