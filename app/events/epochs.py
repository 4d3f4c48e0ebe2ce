"""The epoch: the life of a database's offsets. A cursor of another life is answered with `reset`."""

import structlog
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from app.database import transaction
from app.errors import MissingRight

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
        await _be_patient(db)
        epoch, is_new = (await db.execute(text("SELECT epoch, is_new FROM observe_cluster()"))).one()
    if is_new:  # else another process that started together with this one has raised it
        logger.warning("a restored database: the epoch rises, and cursors of before are reset", epoch=epoch)
    return int(epoch)


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
