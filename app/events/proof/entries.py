"""Reading the log with what proves it, page by page; and verifying it where it lies."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import transaction
from app.events.encoding import Beside
from app.events.proof.verify import Entry, Fault, Verifier
from app.events.read import StreamState, stream_state
from app.events.types import AnyStreamId, StreamId

PAGE = 200
"""Entries held at once: at most 50 MiB with events of the largest size."""

_ENTRIES = """
SELECT "offset", ts, data::text, salt, digest, chain, t, agent, phase, step, attempt
FROM events WHERE stream_id = :id AND "offset" > :after AND "offset" <= :until ORDER BY "offset" LIMIT :limit
"""


async def read_entries(engine: AsyncEngine, state: StreamState) -> AsyncIterator[Entry]:
    """Up to the head that `state` knows. Holds no connection while the caller works."""
    after = state.earliest - 1
    while after < state.head:
        async with transaction(engine) as db:
            parameters = {"id": state.stream_id, "after": after, "until": state.head, "limit": PAGE}
            rows = (await db.execute(text(_ENTRIES), parameters)).all()
        if not rows:
            return
        for offset, ts, data, salt, digest, link, *columns in rows:
            yield Entry(offset, ts, data, salt, digest, link, Beside(*columns))
            after = offset


async def verify_stream(
    engine: AsyncEngine, stream_id: AnyStreamId, checked: Callable[[], object] = lambda: None
) -> AsyncIterator[Fault]:
    """Calls `checked` after each event. Raises NotFound."""
    async with transaction(engine) as db:
        state = await stream_state(db, stream_id)
    verifier = Verifier(state.stream_id, earliest=state.earliest)
    async for entry in read_entries(engine, state):
        for fault in verifier.check(entry):
            yield fault
        checked()
    for fault in verifier.finish(state):
        yield fault
    async with transaction(engine) as db:
        whole = await _artifacts(db, stream_id)
    for digest, offset in verifier.named.items():
        if digest not in whole:
            yield Fault(f"offset {offset}", f"the artifact {digest} that it names is missing")
    for digest, is_whole in whole.items():
        if not is_whole:
            yield Fault(f"artifact {digest}", "the content is not what its SHA-256 says")


async def _artifacts(db: AsyncConnection, stream_id: AnyStreamId) -> dict[str, bool]:
    """Their digests, and whether each content is whole; Postgres does the sums, so no content travels."""
    rows = await db.execute(
        text("SELECT encode(digest, 'hex'), sha256(content) = digest FROM artifacts WHERE stream_id = :id"),
        {"id": stream_id},
    )
    return {row[0]: row[1] for row in rows}


async def stream_ids(engine: AsyncEngine) -> AsyncIterator[StreamId]:
    """Lists all streams, in pages."""
    after = UUID(int=0)
    query = text("SELECT stream_id FROM streams WHERE stream_id > :after ORDER BY stream_id LIMIT 1000")
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
