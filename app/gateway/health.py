"""Liveness and readiness, without a token; with one, readiness says more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from app.database import DATABASE_AWAY
from app.errors import AccessDenied, Unavailable
from app.gateway.access import bearer_of
from app.gateway.callers import BY_ANYONE
from app.gateway.kept import Kept
from app.gateway.wiring import Gateway, Wired
from app.sessions import worker_repository
from app.sessions.model import RefusedWorkflow

router = APIRouter(tags=["health"], dependencies=[BY_ANYONE])

PATIENCE_SECONDS = 2.0
KEPT_SECONDS = 1.0
"""Everyone may ask, and however many do, the database is asked once."""


class Liveness(BaseModel):
    status: str = "ok"


class Readiness(BaseModel):
    ready: bool
    database: bool
    redis: bool
    workers: int | None = Field(description="Worker processes that live; null while the database is away.")
    refused: int | None = Field(description="How many workflows or modules workers refuse; null as above.")
    refusals: list[RefusedWorkflow] | None = Field(
        description="Which, and why; null to callers without a token or key."
    )
    reason: str | None = Field(description="Why it is not ready, or what works later only.")


@router.get("/healthz")
async def healthz() -> Liveness:
    """The process answers."""
    return Liveness()


@router.get("/readyz", responses={503: {"description": "Not ready, and why", "model": Readiness}})
async def readyz(gateway: Wired, request: Request, response: Response) -> Readiness:
    """Says whether a session that is submitted now is accepted, and to those who show a token or key what is refused.

    Without the database nothing works, and a new deployment knows no workflow until a worker has registered. Without
    Redis, and later without workers, everything does, only later.
    """
    probe: Probe = request.app.state.probe
    workers, redis = await probe.get()
    readiness = _readiness(workers, redis)
    if workers is not None and await _shows_a_token(gateway, request):
        readiness.refusals = workers.refused
    response.status_code = 200 if readiness.ready else 503
    return readiness


def _readiness(workers: "_Workers | None", redis: bool) -> Readiness:
    if workers is None:
        away = "the database does not answer"
        return Readiness(
            ready=False, database=False, redis=redis, workers=None, refused=None, refusals=None, reason=away
        )
    reason = None
    if workers.serve_nothing:
        reason = "the workers that run serve nothing: all that they were given is refused (`stellwerk doctor` says why)"
    elif not workers.have_ever_served:
        reason = "no worker has registered its workflows yet"
    elif not workers.alive:
        reason = "no worker is running: sessions are accepted, and wait for one"
    elif not redis:
        reason = "Redis does not answer: everything works, with some delay"
    return Readiness(
        ready=workers.have_ever_served,
        database=True,
        redis=redis,
        workers=workers.alive,
        refused=len(workers.refused),
        refusals=None,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class _Workers:
    have_ever_served: bool
    alive: int
    serve_nothing: bool
    refused: list[RefusedWorkflow]


Probe = Kept[tuple[_Workers | None, bool]]


@asynccontextmanager
async def shared_probe(gateway: Gateway) -> AsyncIterator[Probe]:
    async def read() -> tuple[_Workers | None, bool]:
        return await asyncio.gather(_workers(gateway), _redis_answers(gateway))

    probe = Probe(read, KEPT_SECONDS, "readiness")
    try:
        yield probe
    finally:
        await probe.close()


async def _shows_a_token(gateway: Gateway, request: Request) -> bool:
    """A reason may hold what a module's own error said, which is not for strangers."""
    token = bearer_of(request)
    if token is None:
        return False
    try:
        await gateway.access.by_token_after_reading(token)
    except (AccessDenied, Unavailable, *DATABASE_AWAY):
        return False
    return True


async def _workers(gateway: Gateway) -> _Workers | None:
    """What workers have told; None while the database is away."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), gateway.engine.connect() as db:
            return _Workers(
                have_ever_served=await worker_repository.has_ever_registered(db),
                alive=await worker_repository.count_workers(db),
                serve_nothing=await worker_repository.serve_nothing(db),
                refused=await worker_repository.refused_workflows(db),
            )
    except (*DATABASE_AWAY, TimeoutError):
        return None


async def _redis_answers(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gateway.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True
