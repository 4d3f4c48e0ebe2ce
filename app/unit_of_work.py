"""A unit of work: one transaction, what it appended, and what is told and rung after its commit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app import metrics
from app.config import Settings
from app.database import DriverPool, is_away, transaction
from app.errors import describe
from app.events import append, artifacts, encoding
from app.events.encoding import Recorded
from app.events.secrecy import How, Secrecy
from app.events.types import AnyStreamId, StoredEvent, StreamKind
from app.progress import SessionId

logger = structlog.get_logger(__name__)

ENVELOPE_ROOM = 4096
"""Bytes that an event's own fields may take beside a large value."""
MAX_EVENTS = 100
"""The most events of one call: encoding more would hold up the event loop, on which others append, for too long."""


class Publisher(Protocol):
    """What tells the world after a commit; `push.Push` is one."""

    def publish(self, events: Sequence[Recorded]) -> None:
        """Tells live readers. Does not block."""
        ...

    def cancel(self, session_id: SessionId) -> None:
        """Tells workers that the session's attempts have lost their leases. Does not block."""
        ...

    def ring_keys(self) -> None:
        """Tells gateways that keys were made or revoked. Does not block."""
        ...


class Doorbells(Protocol):
    """What rings for workers after a commit; `sessions.dispatch.Dispatch` is one. A lost ring costs time only."""

    def advance_session(self, session_id: SessionId) -> None: ...
    def run_step(self, session_id: SessionId, step: int, attempt: int, *, queue: str, agent: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Backends:
    """The servers that a process works with, and its settings."""

    settings: Settings
    engine: AsyncEngine
    pool: DriverPool
    push: Publisher
    dispatch: Doorbells
    secrecy: Secrecy = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrecy", Secrecy.of(self.settings))

    def item(
        self,
        stream_id: AnyStreamId,
        event: StoredEvent,
        *,
        kind: StreamKind = "session",
        lease: UUID | None = None,
        dedupe_key: str | None = None,
    ) -> encoding.Item:
        """The one way of an event into the log. Raises InvalidEvent and EventTooLarge."""
        return encoding.item(
            stream_id,
            event,
            kind=kind,
            lease=lease,
            dedupe_key=dedupe_key,
            max_bytes=self.settings.max_event_bytes,
            secrecy=self.secrecy,
        )

    def value_bytes(self, share: int = 1) -> int:
        """How many bytes a value may have in an event that holds `share` such values."""
        return (self.settings.max_event_bytes - ENVELOPE_ROOM) // share


@dataclass(slots=True)
class UnitOfWork:
    """One transaction: its connection, what it appended, and what is to be done after its commit."""

    backends: Backends
    db: AsyncConnection
    recorded: list[Recorded] = field(default_factory=list)
    after_commit: list[Callable[[], Awaitable[object] | None]] = field(default_factory=list)

    async def append(
        self, stream_id: AnyStreamId, *events: StoredEvent, kind: StreamKind = "session", dedupe_key: str | None = None
    ) -> list[Recorded]:
        """The caller holds the stream's lock, or appends to a stream that no one else knows yet.

        A `dedupe_key` is that of a single event.
        """
        new = []
        for first in range(0, len(events), MAX_EVENTS):
            part = events[first : first + MAX_EVENTS]
            items = [self.item(stream_id, event, kind=kind, dedupe_key=dedupe_key) for event in part]
            new += await append.append(self.db, items)
        self.recorded += new
        return new

    def item(
        self, stream_id: AnyStreamId, event: StoredEvent, *, kind: StreamKind = "session", dedupe_key: str | None = None
    ) -> encoding.Item:
        return self.backends.item(stream_id, event, kind=kind, dedupe_key=dedupe_key)

    async def outsource(self, stream_id: AnyStreamId, value: Any, how: How, *, share: int = 1) -> Any:
        """`value` without secrets, or a reference to an artifact where it is too large.

        Too large is it for an event that holds `share` values.
        """
        kept = await self.backends.secrecy.kept(value, how)
        return await artifacts.outsource(self.db, stream_id, kept, max_bytes=self.backends.value_bytes(share))


@asynccontextmanager
async def unit_of_work(
    backends: Backends, *locked: AnyStreamId, turn: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[UnitOfWork]:
    """Takes the locks of the `locked` streams first; publishes and rings after the commit.

    `turn` is what this process waits for before it takes a connection, and gives back with that.

    What fails after the commit is logged, not raised: the caller's work is done, and must not be done again.
    Maintainers make up for it.
    """
    began = perf_counter()
    async with turn or nullcontext(), transaction(backends.engine) as db:
        if locked:
            await append.lock_streams(db, *locked)
        work = UnitOfWork(backends, db)
        yield work
    if work.recorded:
        metrics.append_seconds.observe(perf_counter() - began)
        backends.push.publish(work.recorded)
    for ring in work.after_commit:
        try:
            rung = ring()
            if rung is not None:
                await rung
        except Exception as error:
            unexpected = None if is_away(error) else error
            logger.warning("not told after the commit", error=describe(error), exc_info=unexpected)
