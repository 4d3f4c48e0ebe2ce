"""The epoch: the life of a database's offsets. A cursor of another life is answered with `reset`."""

import structlog
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction

logger = structlog.get_logger(__name__)


async def current_epoch(db: AsyncConnection) -> int:
    return int(await db.scalar(text("SELECT max(epoch) FROM epochs")) or 0)


async def observe_cluster(engine: AsyncEngine) -> int:
    """Raises the epoch at the first start on another cluster: a dump was restored, so offsets began a new life.

    Call it when a process starts. Returns the epoch.
    """
    try:
        async with transaction(engine) as db:
            return await _observe(db)
    except ProgrammingError as error:  # not allowed to read it on this server: an operator bumps by hand
        logger.warning("the cluster cannot be identified", error=str(error).splitlines()[0])
        async with transaction(engine) as db:
            return await current_epoch(db)


async def _observe(db: AsyncConnection) -> int:
    identifier = await db.scalar(text("SELECT system_identifier FROM pg_control_system()"))
    if await _known(db) != identifier:
        # Two processes that start together raise it once: the second one waits here, then finds it raised.
        await db.execute(text("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE"))
    if await _known(db) == identifier:
        return await current_epoch(db)
    epoch = await _raise(db, "the database is on another cluster than before: it was restored")
    logger.warning("a restored database: the epoch rises, and cursors of before are reset", epoch=epoch)
    return epoch


async def _known(db: AsyncConnection) -> int | None:
    """The cluster on which the current epoch began."""
    found = await db.scalar(text("SELECT system_identifier FROM epochs ORDER BY epoch DESC LIMIT 1"))
    return None if found is None else int(found)


async def bump_epoch(engine: AsyncEngine, reason: str) -> int:
    """Begins a new epoch for an operator, after a failover that lost commits. Returns it."""
    async with transaction(engine) as db:
        return await _raise(db, reason)


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
