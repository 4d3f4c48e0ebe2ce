"""The epoch: the life of a database's offsets. A cursor of another life is answered with `reset`.

Its number is 1, then the time at which it began, in Unix seconds.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import NamedTuple

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import NotSupportedError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from app.cancelling import asked_to_end
from app.database import DATABASE_AWAY, transaction

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
    here = await _here(engine)
    async with transaction(engine) as db:
        present = await _present(db)
    if present.began(here) is None:
        return present.epoch
    return await _observe(engine, here)


@_until_nothing_writes
async def _observe(engine: AsyncEngine, here: "Here") -> int:
    # A new transaction: two processes that had both read the table would wait for each other's lock.
    async with transaction(engine) as db:
        await _lock(db)
        present = await _present(db)
        reason = present.began(here)
        if reason is None:  # another process that started together with this one has raised it
            return present.epoch
        epoch = await _raise(db, here, reason)
    logger.warning("a new epoch begins, and cursors of what is gone are reset", epoch=epoch, reason=reason)
    return epoch


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


class Here(NamedTuple):
    """What the cluster says of itself; None where this role may not ask, or this server does not tell."""

    system_identifier: int | None
    timeline: int | None


class _Epoch(NamedTuple):
    epoch: int
    system_identifier: int | None
    timeline: int | None
    is_copied: bool

    def began(self, here: Here) -> str | None:
        """Says how the epoch came here, if it began elsewhere. What is not known tells nothing."""
        if _differ(self.system_identifier, here.system_identifier):
            return "the database is on another cluster than before: it was restored"
        if self.is_copied:
            return "the database was restored on its own cluster"
        if _differ(self.timeline, here.timeline):
            return "the cluster is on another timeline than before: a standby was promoted, or an archive restored"
        return None


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


async def _present(db: AsyncConnection) -> _Epoch:
    # Whatever restores a row writes it in another transaction than the one that it names, also on its own cluster.
    row = await db.execute(
        text("SELECT epoch, system_identifier, timeline, xmin <> xid(xid) FROM epochs ORDER BY epoch DESC LIMIT 1")
    )
    return _Epoch(*row.one())


async def _here(engine: AsyncEngine) -> Here:
    # Not in a transaction, which an error would end, and no savepoint is left by one that failed: a row that is
    # written within has another xmin than the transaction that it names.
    # Of the log's end: pg_control_checkpoint() tells a promotion only after the next checkpoint, seconds later.
    timeline = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer"
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as db:
        return Here(await _ask(db, "SELECT system_identifier FROM pg_control_system()"), await _ask(db, timeline))


async def _ask(db: AsyncConnection, query: str) -> int | None:
    try:
        answer: int | None = await db.scalar(text(query))
    except (ProgrammingError, NotSupportedError) as error:
        _tell_once(query, str(error).splitlines()[0])
        return None
    return answer


@cache
def _tell_once(query: str, error: str) -> None:
    logger.warning("the cluster cannot be asked; after a restore an operator bumps the epoch", query=query, error=error)


@_until_nothing_writes
async def bump_epoch(engine: AsyncEngine, reason: str) -> int:
    """Begins a new epoch for an operator, after a failover that lost commits. Returns it."""
    here = await _here(engine)
    async with transaction(engine) as db:
        await _lock(db)
        return await _raise(db, here, reason)


async def _lock(db: AsyncConnection) -> None:
    """Waits for all transactions that write under the present epoch. It must be the transaction's first statement.

    An append reads the epoch, and so holds the weakest lock on the table to its end; this one excludes even that.
    Otherwise its events would appear in an epoch that readers had left. Whatever reads the epoch waits meanwhile,
    so each try is short.
    """
    await db.execute(text("SET LOCAL lock_timeout = '1s'"))
    await db.execute(text("LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE"))


async def _raise(db: AsyncConnection, here: Here, reason: str) -> int:
    # The time, so that two restores of one dump never go on under one number.
    raised = await db.scalar(
        text(
            "INSERT INTO epochs (epoch, system_identifier, timeline, reason)"
            " SELECT greatest(max(epoch) + 1, CAST(extract(epoch FROM clock_timestamp()) AS bigint)),"
            " :system_identifier, :timeline, :reason FROM epochs RETURNING epoch"
        ),
        here._asdict() | {"reason": reason},
    )
    return int(raised or 0)
