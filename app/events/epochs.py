"""The epoch: the life of a database's offsets. A cursor of another life is answered with `reset`.

Its number is 1, then the time at which it began, in Unix seconds.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import cache

import structlog
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from app.cancelling import asked_to_end
from app.database import DATABASE_AWAY, transaction
from app.errors import MissingRight

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""Longer than any transaction lives that stands still: Postgres ends it."""
WATCH_EVERY = timedelta(seconds=3)
"""A failover takes longer. The look costs two round trips."""


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and isinstance(error.orig, LockNotAvailable)


_until_nothing_writes = retry(
    retry=retry_if_exception(_is_locked),
    wait=wait_fixed(0.5),
    stop=stop_after_delay(PATIENCE_SECONDS),
    reraise=True,
)


async def current_epoch(db: AsyncConnection) -> int:
    return int(await db.scalar(text("SELECT max(epoch) FROM epochs")) or 0)


async def observe_cluster(engine: AsyncEngine) -> int:
    """Begins a new epoch if the present one began elsewhere: a dump was restored, or a standby was promoted.

    Returns the epoch. Call it when a process starts, and now and then: append_events refuses to write meanwhile.
    """
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as db:
        present = (await db.execute(text("SELECT epoch, reason, unknown FROM present_epoch()"))).one()
    if present.unknown is not None:
        _tell_once(present.unknown)
    return int(present.epoch) if present.reason is None else await _observe(engine)


@cache
def _tell_once(error: str) -> None:
    logger.warning("the cluster cannot be asked; after a restore an operator bumps the epoch", error=error)


@_until_nothing_writes
async def _observe(engine: AsyncEngine) -> int:
    async with transaction(engine) as db:
        await _be_patient(db)
        epoch, reason = (await db.execute(text("SELECT epoch, reason FROM observe_cluster()"))).one()
    if reason is not None:  # else another process that started together with this one has begun it
        logger.warning("a new epoch begins, and cursors of what is gone are reset", epoch=epoch, reason=reason)
    return int(epoch)


async def watch_cluster(
    engine: AsyncEngine, tell: Callable[[int], None] = lambda epoch: None, *, every: timedelta = WATCH_EVERY
) -> None:
    """Observes the cluster again and again: connections lead elsewhere after a failover. Until cancelled."""
    while not asked_to_end():
        await asyncio.sleep(every.total_seconds())
        try:
            tell(await observe_cluster(engine))
        except DATABASE_AWAY as error:
            logger.debug("the cluster cannot be observed", error=str(error).splitlines()[0])


@_until_nothing_writes
async def bump_epoch(engine: AsyncEngine, reason: str) -> int:
    """Begins a new epoch for an operator, after a failover that lost commits. Returns it.

    Only the owner of the database may. Raises MissingRight.
    """
    try:
        async with transaction(engine) as db:
            await _be_patient(db)
            return int(await db.scalar(text("SELECT begin_epoch(:reason)"), {"reason": reason}) or 0)
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            raise MissingRight from error
        raise


async def _be_patient(db: AsyncConnection) -> None:
    """Whatever reads the epoch waits while a new one waits for what writes under the old one; so each try is short."""
    await db.execute(text("SET LOCAL lock_timeout = '1s'"))
