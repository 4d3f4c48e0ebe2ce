"""The SQLAlchemy engine and transactions, and single statements beside them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.config import STATEMENT_LIMIT
from app.errors import BadInput

DATABASE_AWAY = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
"""Trying again helps: Postgres restarts, is out of connections or does not answer."""

TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57"})
"""SQLSTATE classes: connection lost, conflict, resources, shutdown."""
TRANSIENT_CODES = frozenset({"55P03", "25P03", "25006"})
"""lock_timeout, a transaction that stood still too long, a standby that is about to become the primary."""


def is_transient(sqlstate: str) -> bool:
    """Says whether the same call may succeed later."""
    return sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_CODES


def is_away(error: BaseException) -> bool:
    """Says whether SQLAlchemy's `error` means that trying again helps."""
    if isinstance(error, DATABASE_AWAY):
        return True
    return isinstance(error, exc.DBAPIError) and is_transient(getattr(error.orig, "sqlstate", None) or "")


def is_disk_full(error: BaseException) -> bool:
    """Says whether Postgres found no room on its disk."""
    return isinstance(error, exc.DBAPIError) and isinstance(error.orig, psycopg.errors.DiskFull)


def is_lost(error: BaseException) -> bool:
    """Says whether the connection broke, or none could be made: then others can hardly reach Postgres, either."""
    if not isinstance(error, (exc.OperationalError, exc.InterfaceError)):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None)
    return sqlstate is None or sqlstate.startswith(("08", "57P"))  # an answer of a server that goes or comes


KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    # A peer that vanished without a FIN must not hold a call for the kernel's two hours, nor, with data under
    # way, for its fifteen minutes.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# And the other way round: a client that vanished or stands still in a transaction holds a stream's lock.
SESSION_OPTIONS = (
    "-c timezone=UTC -c lock_timeout=30s -c idle_in_transaction_session_timeout=20s -c tcp_keepalives_idle=10"
    " -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=25s"
)

_CONNECTION: dict[str, Any] = {"application_name": "stellwerk", "options": SESSION_OPTIONS, **KEEPALIVE}


EXCLUSIVE_NAMES = 1
"""The kind of advisory locks of two numbers that are names; those of one number are streams' and admission's."""


class LimitedConnection(psycopg.AsyncConnection[Any]):
    """Gives up, and closes, when Postgres does not answer a statement within the limit.

    A connection that is dead behind a proxy, a balancer or a firewall gives no error, and its kernel's keepalives
    are answered; a caller that waited for it would wait for ever.
    """

    limit = STATEMENT_LIMIT

    async def wait(self, *arguments: Any, **options: Any) -> Any:
        limit = self.limit.total_seconds()
        try:
            return await super().wait(*arguments, **{"timeout": limit} | options)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()  # asking it to cancel would take ten seconds more
            raise psycopg.OperationalError(f"Postgres did not answer within {limit:g} s") from None


async def connect(*arguments: Any, limit: timedelta = STATEMENT_LIMIT, **options: Any) -> LimitedConnection:
    """Connects as `psycopg.AsyncConnection.connect` does."""
    connection = await LimitedConnection.connect(*arguments, **options)
    connection.limit = limit
    return connection


def sqlalchemy_url(address: str) -> URL:
    """Accepts libpq's and SQLAlchemy's spellings; the driver is always psycopg 3. Raises BadInput."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise BadInput("the database address must look like postgresql://user:password@host:5432/name")
    return make_url(f"postgresql+psycopg://{rest}")


def libpq_url(address: str) -> str:
    """The same address as libpq and psycopg take it."""
    return sqlalchemy_url(address).set(drivername="postgresql").render_as_string(hide_password=False)


def create_engine(address: str, *, pool_size: int = 8, limit: timedelta = STATEMENT_LIMIT) -> AsyncEngine:
    return create_async_engine(
        sqlalchemy_url(address),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=False,  # a broken connection is retried by the caller; a ping would cost every call
        connect_args={"async_creator_fn": partial(connect, limit=limit), **_CONNECTION},
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction (READ COMMITTED: what is read after a stream's lock is what its last holder wrote)."""
    async with engine.begin() as db:
        yield db


async def try_exclusive(db: AsyncConnection, name: str, *, lasts: timedelta) -> bool:
    """Says whether this transaction is now the only one under the name, until its end; false when another one is.

    It may stand still for as long as `lasts`, and then loses its connection and the name.
    """
    return bool(
        await db.scalar(
            text(
                "SELECT pg_try_advisory_xact_lock(:names, hashtext(:name))"
                " FROM set_config('idle_in_transaction_session_timeout', :lasts, true)"
            ),
            {"names": EXCLUSIVE_NAMES, "name": name, "lasts": str(lasts // timedelta(milliseconds=1))},
        )
    )


@asynccontextmanager
async def driver_connection(db: AsyncConnection) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """psycopg's connection below `db`, for what SQLAlchemy does not do; its errors come as SQLAlchemy's."""
    raw = await db.get_raw_connection()
    assert isinstance(raw.driver_connection, psycopg.AsyncConnection)
    try:
        yield raw.driver_connection
    except psycopg.Error as error:
        if raw.driver_connection.closed:
            await db.invalidate(error)
        raise exc.DBAPIError.instance(None, None, error, psycopg.Error) from error


class DriverPool:
    """Connections for statements that are transactions by themselves, straight on the driver.

    For those that every step makes: SQLAlchemy takes twice the driver's time for a statement, and BEGIN and COMMIT
    are two round trips more. Errors are SQLAlchemy's, so that callers need not know both kinds.
    """

    # Not psycopg_pool: it takes 65 µs of CPU for a statement where this takes 50 (16 callers, 4 connections), and
    # while Postgres is away its callers wait for a connection; here they get the error, and know better what to do.
    def __init__(self, address: str, *, size: int = 4, limit: timedelta = STATEMENT_LIMIT) -> None:
        self._address = libpq_url(address)
        self._limit = limit
        self._idle: list[LimitedConnection] = []
        self._room = asyncio.Semaphore(size)

    def another(self) -> "DriverPool":
        """One connection to the same database, for another event loop."""
        return DriverPool(self._address, size=1, limit=self._limit)

    async def execute(self, query: LiteralString, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows. Waits while as many statements as there may be connections are under way."""
        try:
            async with self._room:
                db = self._idle.pop() if self._idle else await self._connect()
                try:
                    cursor = await db.execute(query, arguments)
                    return await cursor.fetchall()
                finally:
                    if db.info.transaction_status == TransactionStatus.IDLE:
                        self._idle.append(db)
                    else:  # broken, or left in the middle of an answer
                        db.pgconn.finish()
        except psycopg.Error as error:
            raise exc.DBAPIError.instance(query, None, error, psycopg.Error) from error

    async def close(self) -> None:
        """Those that are idle; call it when nothing is under way."""
        while self._idle:
            await self._idle.pop().close()

    async def _connect(self) -> LimitedConnection:
        return await connect(self._address, limit=self._limit, autocommit=True, **_CONNECTION)


async def call(
    db: DriverPool | AsyncConnection, query: LiteralString, arguments: tuple[Any, ...]
) -> list[tuple[Any, ...]]:
    """All rows of one statement, made as a transaction of its own or as a part of a larger one."""
    if isinstance(db, DriverPool):
        return await db.execute(query, arguments)
    return [tuple(row) for row in await db.exec_driver_sql(query, arguments)]
