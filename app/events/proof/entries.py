"""Reading the log with what proves it, page by page; and verifying it where it lies."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.events.cursors import FeedPlace
from app.events.encoding import Beside
from app.events.proof.erasures import ACTIONS, Erasures
from app.events.proof.fault import Fault
from app.events.proof.order import Epochs, Order
from app.events.proof.verify import Entry, Verifier
from app.events.read import StreamState, stream_state
from app.events.types import AnyStreamId, StreamId

PAGE = 200
"""Entries held at once: at most 50 MiB with events of the largest size."""

_ENTRIES = """
SELECT epoch, xid::text::bigint, position,
       "offset", ts, data::text, salt, digest, chain, t, agent, phase, step, attempt
FROM events WHERE stream_id = :id AND "offset" > :after AND "offset" <= :until ORDER BY "offset" LIMIT :limit
"""

_AROUND = """
SELECT last_ts, ARRAY(
    (SELECT "offset" FROM events e WHERE e.stream_id = :id AND "offset" < :earliest ORDER BY 1 LIMIT 10)
    UNION ALL (SELECT "offset" FROM events e WHERE e.stream_id = :id AND "offset" > :head ORDER BY 1 LIMIT 10)
) FROM streams WHERE stream_id = :id
"""


class Told(Protocol):
    """What a stream's events tell of rows that stand beside it."""

    def take(self, entry: Entry, event: dict[str, Any]) -> None:
        """Takes the stream's next event."""

    def compare(self, db: AsyncConnection, state: StreamState) -> AsyncIterator[Fault]:
        """Compares with the rows, as they are at the last event that was taken."""


async def read_entries(engine: AsyncEngine, state: StreamState) -> AsyncIterator[Entry]:
    """Up to the head that `state` knows. Holds no connection while the caller works."""
    async for entry, _ in _placed(engine, state):
        yield entry


async def _placed(engine: AsyncEngine, state: StreamState) -> AsyncIterator[tuple[Entry, FeedPlace]]:
    after = state.earliest - 1
    while after < state.head:
        async with _reading(engine) as db:
            page = await _page(db, state, after=after)
        if not page:
            return
        for placed in page:
            yield placed
        after = page[-1][0].offset


async def _page(db: AsyncConnection, state: StreamState, *, after: int) -> list[tuple[Entry, FeedPlace]]:
    parameters = {"id": state.stream_id, "after": after, "until": state.head, "limit": PAGE}
    rows = await db.execute(text(_ENTRIES), parameters)
    return [
        (Entry(offset, ts, data, salt, digest, link, Beside(*columns)), FeedPlace(epoch, xid, position))
        for epoch, xid, position, offset, ts, data, salt, digest, link, *columns in rows.all()
    ]


async def verify_stream(
    engine: AsyncEngine,
    stream_id: AnyStreamId,
    checked: Callable[[], object] = lambda: None,
    *,
    kept: bytes | None = None,
    told_by: Callable[[StreamState], Told | None] = lambda _: None,
    epochs: Epochs | None = None,
) -> AsyncIterator[Fault]:
    """Calls `checked` after each event. Raises NotFound.

    `told_by` gives what takes the stream's events, to compare them with rows beside it. The `epochs` are read where
    they are not given.
    """
    async with _reading(engine) as db:
        state = await stream_state(db, stream_id)
    if state.earliest < 1:
        yield Fault("earliest", f"the column earliest is {state.earliest}", "stream")
        return
    order, told = Order(), told_by(state)
    verifier = Verifier(state.stream_id, earliest=state.earliest, kept=kept, watch=None if told is None else told.take)

    def check(entry: Entry, place: FeedPlace) -> list[Fault]:
        found = verifier.check(entry) + order.check(entry.offset, place, entry.ts)
        checked()
        return found

    async for placed in _placed(engine, state):
        for fault in check(*placed):
            yield fault
    async with _standing_still(engine) as db:
        before, state = state, await stream_state(db, stream_id)
        # What came meanwhile is read within the same view of the database in which the rows beside are compared.
        after = before.head
        while after < state.head and (page := await _page(db, state, after=after)):
            for placed in page:
                for fault in check(*placed):
                    yield fault
            after = page[-1][0].offset
        if epochs is None or epochs[-1][0] != state.epoch:  # it may have risen since
            epochs = await read_epochs(db)
        for fault in order.finish(epochs):
            yield fault
        async for fault in _finish(db, state, verifier, told):
            yield fault


async def _finish(
    db: AsyncConnection, state: StreamState, verifier: Verifier, told: Told | None
) -> AsyncIterator[Fault]:
    is_whole = state.earliest == 1 and not verifier.erased
    for fault in verifier.finish(state, None if is_whole else await _allowed(db, state)):
        yield fault
    last_ts, outside = await _around(db, state)
    if verifier.last_ts is not None and verifier.last_ts != last_ts:
        what = f"the column last_ts is {last_ts}, the last event is of {verifier.last_ts}"
        yield Fault("head", what, "stream")
    for offset in outside:
        yield Fault(f"offset {offset}", f"stands outside of {state.earliest} … {state.head}", "offsets")
    async for fault in _check_artifacts(db, state.stream_id, verifier.named):
        yield fault
    if told is not None:
        async for fault in told.compare(db, state):
            yield fault


@asynccontextmanager
async def _reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """For one statement: without BEGIN and COMMIT it is one round trip."""
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as db:
        yield db


@asynccontextmanager
async def _standing_still(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction all of whose statements see the database as it was at the first one."""
    async with engine.connect() as db:
        await db.execution_options(isolation_level="REPEATABLE READ")
        async with db.begin():
            yield db


async def read_epochs(db: AsyncConnection) -> Epochs:
    """Each epoch with the time when it began."""
    rows = await db.execute(text("SELECT epoch, began_at FROM epochs ORDER BY epoch"))
    return [(row[0], row[1]) for row in rows]


async def _allowed(db: AsyncConnection, state: StreamState) -> Erasures:
    """What events of the stream itself and of its project's operators allow to be gone."""
    rows = await db.scalars(
        text(
            "SELECT data::text FROM events WHERE t = 'control_event' AND data ->> 'action' = ANY(:actions)"
            " AND data ->> 'target' = CAST(:id AS text) AND (stream_id = :id OR stream_id ="
            " (SELECT stream_id FROM streams WHERE kind = 'operators' AND project = :project))"
        ),
        {"id": state.stream_id, "project": state.project, "actions": list(ACTIONS)},
    )
    allowed = Erasures()
    for data in rows:
        allowed.take(orjson.loads(data))
    return allowed


async def _around(db: AsyncConnection, state: StreamState) -> tuple[datetime, list[int]]:
    """The time of the last event as the stream's row has it; and offsets before the earliest one and past the head."""
    row = await db.execute(
        text(_AROUND),
        {"id": state.stream_id, "earliest": state.earliest, "head": state.head},
    )
    last_ts, offsets = row.one()
    return last_ts, offsets


async def _check_artifacts(
    db: AsyncConnection, stream_id: AnyStreamId, named: Mapping[str, tuple[int, str]]
) -> AsyncIterator[Fault]:
    """Postgres does the sums, so no content travels."""
    rows = await db.execute(
        text("SELECT encode(digest, 'hex'), media_type, sha256(content) = digest FROM artifacts WHERE stream_id = :id"),
        {"id": stream_id},
    )
    there = {row[0]: (row[1], row[2]) for row in rows}
    for digest, (offset, _) in named.items():
        if digest not in there:
            yield Fault(f"offset {offset}", f"the artifact {digest} that it names is missing", "artifacts")
    for digest, (media_type, is_whole) in there.items():
        where = f"artifact {digest}"
        if not is_whole:
            yield Fault(where, "the content is not what its SHA-256 says", "artifacts")
        if digest not in named:
            yield Fault(where, "no event names it", "artifacts")
        elif named[digest][1] != media_type:
            yield Fault(where, f"its media type is {media_type!r}, and was {named[digest][1]!r}", "artifacts")


async def stream_ids(engine: AsyncEngine) -> AsyncIterator[StreamId]:
    """Lists all streams, in pages."""
    after: UUID | None = None
    query = text(
        "SELECT stream_id FROM streams WHERE CAST(:after AS uuid) IS NULL OR stream_id > :after"
        " ORDER BY stream_id LIMIT 1000"
    )
    while True:
        async with transaction(engine) as db:
            page = list(await db.scalars(query, {"after": after}))
        for stream_id in page:
            yield StreamId(stream_id)
        if not page:
            return
        after = page[-1]


async def count_events(engine: AsyncEngine, stream_id: AnyStreamId | None) -> int:
    """Counts the events of one stream, or of all."""
    query = text("SELECT sum(head - earliest + 1) FROM streams WHERE stream_id = :id OR CAST(:id AS uuid) IS NULL")
    async with transaction(engine) as db:
        return int(await db.scalar(query, {"id": stream_id}) or 0)
