"""The epoch: the life of a database's offsets. A cursor of another life is answered with `reset`."""

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from app.database import transaction

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""Longer than any transaction lives that stands still: Postgres ends it."""


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
    """Raises the epoch at the first start on another cluster: a dump was restored, so offsets began a new life.

    Call it when a process starts. Returns the epoch.
    """
    try:
        async with transaction(engine) as db:
            if await _is_known(db):
                return await current_epoch(db)
        return await _observe(engine)
    except ProgrammingError as error:  # not allowed to read it on this server: an operator bumps by hand
        logger.warning("the cluster cannot be identified", error=str(error).splitlines()[0])
        async with transaction(engine) as db:
            return await current_epoch(db)


@_until_nothing_writes
async def _observe(engine: AsyncEngine) -> int:
    # A new transaction: two processes that had both read the table would wait for each other's lock.
    async with transaction(engine) as db:
        await _lock(db)
        if await _is_known(db):  # another process that started together with this one has raised it
            return await current_epoch(db)
        epoch = await _raise(db, "the database is on another cluster than before: it was restored")
    logger.warning("a restored database: the epoch rises, and cursors of before are reset", epoch=epoch)
    return epoch


async def _is_known(db: AsyncConnection) -> bool:
    """Says whether the current epoch began on this cluster."""
    identifier: int | None = await db.scalar(text("SELECT system_identifier FROM pg_control_system()"))
    return await _known(db) == identifier


async def _known(db: AsyncConnection) -> int | None:
    """The cluster on which the current epoch began."""
    found = await db.scalar(text("SELECT system_identifier FROM epochs ORDER BY epoch DESC LIMIT 1"))
    return None if found is None else int(found)


@_until_nothing_writes
async def bump_epoch(engine: AsyncEngine, reason: str) -> int:
    """Begins a new epoch for an operator, after a failover that lost commits. Returns it."""
    async with transaction(engine) as db:
        await _lock(db)
        return await _raise(db, reason)


async def _lock(db: AsyncConnection) -> None:
    """Waits for all transactions that write under the present epoch. It must be the transaction's first statement.

    An append reads the epoch, and so holds the weakest lock on the table to its end; this one excludes even that.
    Otherwise its events would appear in an epoch that readers had left. Whatever reads the epoch waits meanwhile,
    so each try is short.
    """
    await db.execute(text("SET LOCAL lock_timeout = '1s'"))
    await db.execute(text("LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE"))


async def _raise(db: AsyncConnection, reason: str) -> int:
    raised = await db.scalar(
        text(
            "INSERT INTO epochs (epoch, system_identifier, reason)"
            " SELECT max(epoch) + 1, (SELECT system_identifier FROM pg_control_system()), :reason FROM epochs"
            " RETURNING epoch"
        ),
        {"reason": reason},
    )
    return int(raised or 0)
