"""A unit of work: one transaction, and what is told after its commit."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.config import settings
from app.database import Statements, transaction
from app.events import append, artifacts, encoding
from app.events.types import Recorded, type_of_stored
from app.progress import SessionId
from app.sessions import repository
from app.sessions.dispatch import Dispatch

ENVELOPE_ROOM = 4096
"""Bytes that an event's own fields may take beside a large value."""


MAX_EVENTS = 100
"""Of one call. Encoding more of them would hold up the event loop, on which others append, for too long."""


class Publisher(Protocol):
    def publish(self, events: Sequence[Recorded]) -> None:
        """Tells live readers; must not block."""
        ...

    def cancel(self, session_id: SessionId) -> None:
        """Tells workers that the session's attempts have lost their leases."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    engine: AsyncEngine
    statements: Statements
    push: Publisher
    dispatch: Dispatch


@dataclass(slots=True)
class Unit:
    """One transaction: its connection, what it appended, and what is to be rung after its commit."""

    db: AsyncConnection
    recorded: list[Recorded] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    makes_room: bool = False
    """Whether another session may begin now: one has ended, or come."""

    async def append(self, session_id: SessionId, *events: type_of_stored) -> list[Recorded]:
        """The caller holds the stream's lock (or is appending to a stream that nobody knows yet)."""
        new = []
        for first in range(0, len(events), MAX_EVENTS):
            items = [encoding.item(session_id, event) for event in events[first : first + MAX_EVENTS]]
            new += await append.append(self.db, items)
        self.recorded += new
        return new

    async def outsource(self, session_id: SessionId, value: Any, *, share: int = 1) -> Any:
        """`value`, or a reference to an artifact where it is too large for an event that holds `share` values."""
        return await artifacts.outsource(self.db, session_id, value, max_bytes=value_bytes(share))


def value_bytes(share: int = 1) -> int:
    """How large a value may be in an event that holds `share` of them."""
    return (settings().max_event_bytes - ENVELOPE_ROOM) // share


@asynccontextmanager
async def unit(services: Services, *locked: SessionId) -> AsyncIterator[Unit]:
    """Takes the locks of the `locked` sessions first; publishes and rings after the commit."""
    async with transaction(services.engine) as db:
        if locked:
            await append.lock_streams(db, *locked)
        work = Unit(db)
        yield work
    if work.recorded:
        services.push.publish(work.recorded)
    for ring in work.after_commit:
        ring()
    if work.makes_room:
        await admit_sessions(services)


async def admit_sessions(services: Services) -> int:
    """Rings for the sessions whose turn it is; returns how many. What is missed here, the rescuer does."""
    async with transaction(services.engine) as db:
        admitted = await repository.admit(db, max_active=settings().max_active_sessions)
    for session_id in admitted:
        services.dispatch.advance_session(session_id)
    return len(admitted)
