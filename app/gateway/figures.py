"""What the deployment looks like at this moment, for Prometheus: read once for all who ask at the same time."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from redis.exceptions import RedisError

from app.database import DATABASE_AWAY
from app.events.feed import feed_lag
from app.events.push import connect
from app.gateway.kept import Kept
from app.gateway.wiring import Gateway
from app.sessions import metrics_repository, worker_repository
from app.sessions.dispatch import ADVANCE_QUEUE, DEFAULT_QUEUE, is_redis
from app.sessions.metrics_repository import OldestSession, SessionCount, StepCount

KEPT_SECONDS = 1.0
DATABASE_PATIENCE_SECONDS = 5.0
"""With the other one less than the ten seconds that Prometheus waits for a whole scrape."""
REDIS_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What one snapshot of Postgres says; `feed_lag` in seconds."""

    sessions: Sequence[SessionCount]
    oldest: Sequence[OldestSession]
    steps: Sequence[StepCount]
    workers: int
    feed_lag: float

    def of_project(self, project: str) -> "Stored":
        """Leaves nothing in the rows of any other project."""
        return replace(
            self,
            sessions=[row for row in self.sessions if row.project == project],
            oldest=[row for row in self.oldest if row.project == project],
            steps=[row for row in self.steps if row.project == project],
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """`stored` is None while Postgres is away, and `queues` is empty where Redis does not tell their lengths."""

    stored: Stored | None
    redis_answers: bool
    queues: Mapping[str, int]


class SharedFigures:
    """Many who scrape cost one reading a second; one that hangs holds one connection, however often it is asked for."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.kept = Kept(self._read, KEPT_SECONDS, "figures")
        self._stored: asyncio.Task[Stored | None] | None = None

    async def read(self) -> Figures:
        """Returns what was read within the last second."""
        return await self.kept.get()

    async def close(self) -> None:
        await self.kept.close()
        if self._stored is not None:
            self._stored.cancel()
            await asyncio.gather(self._stored, return_exceptions=True)

    async def _read(self) -> Figures:
        stored, redis_answers = await asyncio.gather(self._patiently(), self._redis_answers())
        of_steps = {step.queue for step in stored.steps} if stored else set[str]()
        queues = await self._queues(sorted({ADVANCE_QUEUE, DEFAULT_QUEUE, *of_steps}))
        return Figures(stored, redis_answers, queues)

    async def _patiently(self) -> Stored | None:
        if self._stored is None or self._stored.done():
            self._stored = asyncio.create_task(self._read_stored(), name="stored-figures")
        # Not cancelled when it takes longer: psycopg would wait for an answer to that, too.
        done, _ = await asyncio.wait({self._stored}, timeout=DATABASE_PATIENCE_SECONDS)
        return self._stored.result() if done else None

    async def _read_stored(self) -> Stored | None:
        try:
            async with self._gateway.snapshot() as db:
                return Stored(
                    sessions=await metrics_repository.count_sessions(db),
                    oldest=await metrics_repository.oldest_sessions(db),
                    steps=await metrics_repository.count_open_steps(db),
                    workers=await worker_repository.count_workers(db),
                    feed_lag=await feed_lag(db),
                )
        except DATABASE_AWAY:
            return None

    async def _redis_answers(self) -> bool:
        try:
            async with asyncio.timeout(REDIS_PATIENCE_SECONDS):
                await self._gateway.redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def _queues(self, names: Sequence[str]) -> Mapping[str, int]:
        """Returns the lengths of queues, if the broker is a Redis and answers."""
        settings = self._gateway.settings
        broker = settings.broker_url or settings.redis_url or ""
        if not is_redis(broker):
            return {}
        try:
            async with asyncio.timeout(REDIS_PATIENCE_SECONDS), connect(broker) as redis:
                pipeline = redis.pipeline(transaction=False)
                for name in names:
                    pipeline.llen(name)
                return dict(zip(names, await pipeline.execute(), strict=True))
        except (RedisError, OSError, TimeoutError):
            return {}


@asynccontextmanager
async def shared_figures(gateway: Gateway) -> AsyncIterator[SharedFigures]:
    figures = SharedFigures(gateway)
    try:
        yield figures
    finally:
        await figures.close()


async def _figures(request: Request) -> SharedFigures:
    figures = request.app.state.figures
    assert isinstance(figures, SharedFigures)
    return figures


Shared = Annotated[SharedFigures, Depends(_figures)]
