"""Group commit: concurrent appends of this process are gathered, so that many share one round trip.

There is no timer: the next call takes what came during the previous one. A stream is always on the same
flusher, and a flusher has one call in flight, which keeps a producer's events in its order.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import psycopg
import structlog

from app import metrics
from app.config import STATEMENT_LIMIT
from app.database import KEEPALIVE, connect, is_transient, libpq_url
from app.errors import StellwerkError, Unavailable
from app.events.arrays import Answer, call_append, recorded
from app.events.encoding import Item, Recorded

logger = structlog.get_logger(__name__)

MAX_ITEMS = 128
"""More in a call save nothing an event; in two calls, one's producers work while Postgres writes the other's."""
MAX_BYTES = 4 * 1024 * 1024
CROWD = 64
"""Of so many that come at once half is taken: else all of them wait for one call, and the database for all of them."""
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between tries while the database does not answer; the last one repeats."""

OnAppend = Callable[[Sequence[Recorded]], None]


@dataclass(slots=True)
class _Pending:
    item: Item
    done: "asyncio.Future[Recorded]"


class _Flusher:
    """One connection, one call at a time, numbered so that a repeated call is answered, not run again."""

    def __init__(self, address: str, on_append: OnAppend, limit: timedelta) -> None:
        self._address = libpq_url(address)
        self._limit = limit
        self._on_append = on_append
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self._pending = deque[_Pending]()
        self._wake = asyncio.Event()
        self._writer: UUID = uuid4()
        self._call_no = 0
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="group-commit")

    def put(self, pending: _Pending) -> None:
        if self._closing:
            raise Unavailable("the log is shutting down")
        self._pending.append(pending)
        self._wake.set()

    async def close(self) -> None:
        """Writes what is pending, then ends."""
        self._closing = True
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        while self._pending or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            batch = self._take(len(self._pending) // 2 if len(self._pending) >= CROWD else MAX_ITEMS)
            while batch:
                await self._flush(batch)
                batch = self._take(MAX_ITEMS)
        if self._connection is not None:
            await self._connection.close()

    def _take(self, at_most: int) -> list[_Pending]:
        batch, size = list[_Pending](), 0
        while self._pending and len(batch) < min(at_most, MAX_ITEMS):
            pending = self._pending[0]
            size += len(pending.item.data)
            if batch and size > MAX_BYTES:
                break
            self._pending.popleft()
            # A producer that gave up while waiting in line was promised nothing: its event is not written.
            if not pending.done.cancelled():
                batch.append(pending)
        return batch

    async def _flush(self, batch: list[_Pending]) -> None:
        try:
            began = perf_counter()
            answers = await self._call([p.item for p in batch])
            metrics.append_seconds.observe(perf_counter() - began)
        except psycopg.Error as error:
            if len(batch) > 1:  # one item that the database refuses must not take the others along
                for pending in batch:
                    await self._flush([pending])
                return
            logger.error("append refused by the database", error=str(error), t=batch[0].item.t)
            if not batch[0].done.done():
                batch[0].done.set_exception(StellwerkError(f"the database refused the event: {error}"))
            return
        # Not at once: the next call is to be under way while producers take these answers and make new events.
        self._loop.call_soon(self._hand_out, batch, answers)

    def _hand_out(self, batch: list[_Pending], answers: list[Answer]) -> None:
        appended = []
        for pending, answer in zip(batch, answers, strict=True):
            error_or_none = answer.error()
            if error_or_none is None:
                event = recorded(pending.item, answer)
                if answer.status == "appended":
                    appended.append(event)
                if not pending.done.done():
                    pending.done.set_result(event)
            elif not pending.done.done():
                pending.done.set_exception(error_or_none)
        if appended:
            self._on_append(appended)

    async def _call(self, items: list[Item]) -> list[Answer]:
        """Repeats the same numbered call until its outcome is known."""
        self._call_no += 1
        for attempt in itertools.count():
            try:
                connection = await self._connect()
                return await call_append(connection, items, writer=self._writer, call_no=self._call_no)
            except psycopg.Error as error:
                if not _may_pass(error):
                    raise
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                logger.warning("append waits for the database", error=str(error).strip(), retry_in=wait)
                await self._disconnect()
                await asyncio.sleep(wait)
        raise AssertionError("an endless loop has ended")

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(
                self._address,
                limit=self._limit,
                autocommit=True,  # the call is a transaction of its own: one round trip
                application_name="stellwerk-log",
                **KEEPALIVE,
            )
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _may_pass(error: psycopg.Error) -> bool:
    """An error without SQLSTATE is the connection's, or the driver refuses a value, which it will do again."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return is_transient(error.sqlstate)


class GroupCommit:
    """Appends single events durably; concurrent ones share a round trip. Belongs to one event loop."""

    def __init__(
        self,
        address: str,
        on_append: OnAppend = lambda events: None,
        *,
        flushers: int = 2,
        limit: timedelta = STATEMENT_LIMIT,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._flushers = [_Flusher(address, on_append, limit) for _ in range(flushers)]

    async def append(self, item: Item) -> Recorded:
        """Returns when the event is durable.

        Raises StreamClosed, LeaseLost or InvalidEvent; while the database is away it waits.
        """
        done: asyncio.Future[Recorded] = self._loop.create_future()
        self._flushers[item.stream_id.int % len(self._flushers)].put(_Pending(item, done))
        return await done

    async def close(self) -> None:
        """Writes what is pending, then ends."""
        for flusher in self._flushers:
            await flusher.close()
