"""Liveness and readiness, without a token."""

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from app.database import DATABASE_AWAY
from app.gateway.wiring import Gateway, Wired
from app.sessions import worker_repository

router = APIRouter(tags=["health"])

PATIENCE_SECONDS = 2.0


class Liveness(BaseModel):
    status: str = "ok"


class Readiness(BaseModel):
    ready: bool
    database: bool
    redis: bool
    workers: int | None = Field(description="Worker processes that live; null while the database is away.")
    reason: str | None = Field(description="Why it is not ready, or what works later only.")


@router.get("/healthz")
async def healthz() -> Liveness:
    """The process answers."""
    return Liveness()


@router.get("/readyz", responses={503: {"description": "Not ready, and why", "model": Readiness}})
async def readyz(gateway: Wired, response: Response) -> Readiness:
    """Says whether a session that is submitted now is accepted.

    Without the database nothing works, and a new deployment knows no workflow until a worker has registered. Without
    Redis, and later without workers, everything does, only later.
    """
    workers, redis = await asyncio.gather(_workers(gateway), _redis_answers(gateway))
    readiness = _readiness(workers, redis)
    response.status_code = 200 if readiness.ready else 503
    return readiness


def _readiness(workers: tuple[bool, int] | None, redis: bool) -> Readiness:
    if workers is None:
        away = "the database does not answer"
        return Readiness(ready=False, database=False, redis=redis, workers=None, reason=away)
    has_registered, alive = workers
    reason = None
    if not has_registered:
        reason = "no worker has registered its workflows yet"
    elif not alive:
        reason = "no worker is running: sessions are accepted, and wait for one"
    elif not redis:
        reason = "Redis does not answer: everything works, with some delay"
    return Readiness(ready=has_registered, database=True, redis=redis, workers=alive, reason=reason)


async def _workers(gateway: Gateway) -> tuple[bool, int] | None:
    """Says whether a worker has ever registered, and how many live; None while the database is away."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), gateway.engine.connect() as db:
            return await worker_repository.has_ever_registered(db), await worker_repository.count_workers(db)
    except (*DATABASE_AWAY, TimeoutError):
        return None


async def _redis_answers(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gateway.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True
