"""A gateway, workers that know it, and the models that they call: what a whole session needs."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from app.database import transaction
from app.progress import SessionId
from app.sessions import worker_repository
from tests.cluster import PATIENCE_SECONDS, Cluster, cluster_on
from tests.following import quick
from tests.models.servers import ModelServer
from tests.roles import as_app
from tests.serving import TOKEN, Served, serving_app

REPAIR = "workers.workflows.repair"


@dataclass
class House:
    cluster: Cluster
    served: Served
    models: ModelServer

    def start_worker(self, **environment: str) -> "subprocess.Popen[bytes]":
        """By default every agent has a model."""
        known = {"STELLWERK_URL": self.served.url} | self.models.settings()
        return self.cluster.start_worker(REPAIR, **(known | environment))

    async def submit(self, task: str, **more: Any) -> SessionId:
        """Waits until a worker has registered."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with transaction(self.cluster.backends.engine) as db:
                    if await worker_repository.newest_workflow(db, "repair"):
                        break
                await asyncio.sleep(0.05)
        created = await self.served.create_session(task, **more)
        return SessionId(UUID(created["session_id"]))


@asynccontextmanager
async def house_on(database_url: str, redis_url: str, directory: Path, models: ModelServer) -> AsyncIterator[House]:
    settings = quick(database_url=as_app(database_url), redis_url=redis_url, token=TOKEN)
    async with cluster_on(database_url, redis_url, directory) as cluster, serving_app(settings) as served:
        yield House(cluster, served, models)
