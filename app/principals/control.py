"""The log of control: what principals do is recorded in the transaction that does it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.database import transaction
from app.errors import Conflict, IdempotencyMismatch, NotFound, Unavailable
from app.events import append
from app.events.types import DEFAULT_PROJECT, AnyStreamId, ControlEvent, StreamId
from app.principals import facts, repository
from app.principals.model import DEPLOYMENT, Control, Once, Principal, no_project
from app.principals.repository import Place
from app.unit_of_work import Backends, UnitOfWork, unit_of_work

TURN_SECONDS = 30.0
"""Longer than a transaction lives that stands still with the lock: Postgres ends it."""
_turns = WeakValueDictionary[StreamId, asyncio.Lock]()


@asynccontextmanager
async def control_of_session(
    backends: Backends, session_id: AnyStreamId, control: Control
) -> AsyncIterator[UnitOfWork]:
    """A unit of work that holds the locks of the session's stream and of its project's operators' stream.

    Raises NotFound, also for a session of another project.
    """
    control.target = str(session_id)
    async with _reading(backends) as db:
        place = await repository.place_of(db, session_id, project=control.principal.project)
    if place is None:
        raise NotFound(f"there is no session {session_id}")
    async with _controlling(backends, place, control, session_id) as work:
        yield work


@asynccontextmanager
async def control_in_project(backends: Backends, project: str, control: Control) -> AsyncIterator[UnitOfWork]:
    """A unit of work that holds the lock of the project's operators' stream."""
    async with _reading(backends) as db:
        place = Place(project, await repository.operators_stream(db, project))
    async with _controlling(backends, place, control) as work:
        yield work


async def operators_stream(backends: Backends, project: str) -> StreamId:
    """The stream of what is done in the project; made where there is none yet."""
    async with transaction(backends.engine) as db:
        found = await repository.operators_stream(db, project)
        if found is None:
            # Committed before anything is written to it: its lock has to be taken before the first write.
            await append.create_stream(db, StreamId(uuid7()), "operators", project=project)
            found = await repository.operators_stream(db, project)
    assert found is not None
    return found


async def find_operators_stream(backends: Backends, project: str, *, principal: Principal) -> StreamId:
    """Raises NotFound for a project in which nothing was ever done, and in the same words for another one's."""
    if principal.sees(project):
        if project in {principal.project, DEFAULT_PROJECT, DEPLOYMENT}:
            return await operators_stream(backends, project)
        async with transaction(backends.engine) as db:
            if found := await repository.operators_stream(db, project):
                return found
    raise no_project(project)


async def record_denials(backends: Backends, project: str, events: Sequence[ControlEvent]) -> None:
    """Records what principals of the project, or clients that showed nothing that counts, might not do."""
    operators = await operators_stream(backends, project)
    async with unit_of_work(backends, operators) as work:
        await work.append(operators, *events, kind="operators")


@asynccontextmanager
async def _reading(backends: Backends) -> AsyncIterator[AsyncConnection]:
    """For one statement: without BEGIN and COMMIT it is one round trip."""
    async with backends.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as db:
        yield db


@asynccontextmanager
async def _controlling(
    backends: Backends, place: Place, control: Control, *locked: AnyStreamId
) -> AsyncIterator[UnitOfWork]:
    """One request is one event: of what was done, in its transaction, or of what could not be done then."""
    operators = place.operators or await operators_stream(backends, place.project)
    try:
        async with unit_of_work(backends, operators, *locked, turn=_turn(operators)) as work:
            control.first = await _first(work.db, operators, control)
            yield work
            await _record(work, operators, control)
    except Conflict as conflict:
        async with unit_of_work(backends, operators, turn=_turn(operators)) as work:
            await work.append(operators, facts.controlled(control, error=str(conflict)), kind="operators")
        raise


async def _first(db: AsyncConnection, operators: StreamId, control: Control) -> dict[str, Any] | None:
    """What the first request with this Idempotency-Key recorded. Raises IdempotencyMismatch if it was another one.

    The caller holds the lock of the operators' stream, so a request that is doing it now is waited for.
    """
    if control.once is None:
        return None
    done = await repository.control_by_key(db, operators, _dedupe_key(control.principal, control.once))
    if done is None:
        return None
    if done["request_digest"] != control.once.digest:
        raise IdempotencyMismatch
    control.outcome = "unchanged"
    return dict(done.get("details", {}))


async def _record(work: UnitOfWork, operators: StreamId, control: Control) -> None:
    """The event of what was done keeps its Idempotency-Key; that of a repetition, or of a refusal, does not."""
    event, keeps = facts.controlled(control), control.once is not None and control.first is None
    key = _dedupe_key(control.principal, control.once) if keeps and control.once else None
    await work.append(operators, event, kind="operators", dedupe_key=key)


def _dedupe_key(principal: Principal, once: Once) -> str:
    return f"{principal.name} {once.key}"


@asynccontextmanager
async def _turn(operators: StreamId) -> AsyncIterator[None]:
    """One after the other they get the stream's lock anyway. Here they wait for it without a connection.

    Else one project's requests, waiting for one lock, would take the connections of all. Raises Unavailable.
    """
    lock = _turns.setdefault(operators, asyncio.Lock())
    try:
        async with asyncio.timeout(TURN_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise Unavailable("other requests of the project are not through yet; try again") from None
    try:
        yield
    finally:
        lock.release()
