"""Liveness and readiness, without a token."""

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text

from app.database import DATABASE_AWAY
from app.gateway.wiring import Gateway, Wired

router = APIRouter(tags=["health"])

PATIENCE_SECONDS = 2.0


class Liveness(BaseModel):
    status: str = "ok"


class Readiness(BaseModel):
    database: bool
    redis: bool


@router.get("/healthz")
async def healthz() -> Liveness:
    """The process answers."""
    return Liveness()


@router.get("/readyz", responses={503: {"description": "The database is away", "model": Readiness}})
async def readyz(gateway: Wired, response: Response) -> Readiness:
    """Without the database nothing works; without Redis everything does, later."""
    database, redis = await asyncio.gather(_database_answers(gateway), _redis_answers(gateway))
    response.status_code = 200 if database else 503
    return Readiness(database=database, redis=redis)


async def _database_answers(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), gateway.engine.connect() as db:
            await db.execute(text("SELECT 1"))
    except (*DATABASE_AWAY, TimeoutError):
        return False
    return True


async def _redis_answers(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gateway.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True
