"""Rows that belong to nothing: what is left of a stream or session that was removed, or was never there."""

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.events.proof.fault import Fault
from app.events.types import HEADS_STREAM

PAGE = 5000
TOLD = 100
"""Of each kind of row no more are told."""

# From one stream to the next along the primary key, without a look at the events between.
_STREAMS_OF_EVENTS = """
WITH RECURSIVE found(stream_id, n) AS (
    (SELECT stream_id, 1 FROM events
     WHERE CAST(:after AS uuid) IS NULL OR stream_id > :after ORDER BY stream_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.stream_id FROM events e WHERE e.stream_id > found.stream_id ORDER BY e.stream_id LIMIT 1), n + 1
    FROM found WHERE found.stream_id IS NOT NULL AND n < :page
)
SELECT f.stream_id, s.stream_id IS NULL FROM found f LEFT JOIN streams s USING (stream_id)
WHERE f.stream_id IS NOT NULL ORDER BY f.stream_id
"""
_ROWS = {
    "a row in `sessions`": "SELECT session_id FROM sessions WHERE NOT EXISTS"
    " (SELECT FROM streams WHERE stream_id = session_id AND kind = 'session')",
    "rows in `steps`": "SELECT DISTINCT session_id FROM steps p WHERE NOT EXISTS"
    " (SELECT FROM sessions x WHERE x.session_id = p.session_id)",
    "artifacts": "SELECT DISTINCT stream_id FROM artifacts a WHERE NOT EXISTS"
    " (SELECT FROM streams s WHERE s.stream_id = a.stream_id)",
}
_OF_NO_KIND = (
    "SELECT stream_id FROM streams WHERE kind NOT IN ('session', 'batch', 'operators', 'heads')"
    " OR (kind = 'heads') <> (stream_id = :heads) LIMIT :limit"
)
_KEYS = (
    "SELECT DISTINCT project FROM keys k WHERE NOT EXISTS"
    " (SELECT FROM streams s WHERE s.kind = 'operators' AND s.project = k.project) LIMIT :limit"
)


async def find_strays(engine: AsyncEngine) -> AsyncIterator[Fault]:
    """Looks through all tables of the log and of its caches."""
    async for stream_id in _events_of_no_stream(engine):
        yield Fault(f"stream {stream_id}", "there are events, and no stream", "strays")
    async with transaction(engine) as db:
        for what, query in _ROWS.items():
            for stream_id in await db.scalars(text(f"{query} LIMIT :limit"), {"limit": TOLD}):
                yield Fault(f"session {stream_id}", f"there is no such session, but {what}", "strays")
        for stream_id in await db.scalars(text(_OF_NO_KIND), {"heads": HEADS_STREAM, "limit": TOLD}):
            yield Fault(f"stream {stream_id}", "it is of a kind that it cannot have", "strays")
        for project in await db.scalars(text(_KEYS), {"limit": TOLD}):
            yield Fault(f"project {project}", "it has keys, and no stream says who made them", "strays")


async def _events_of_no_stream(engine: AsyncEngine) -> AsyncIterator[UUID]:
    after: UUID | None = None
    while True:
        async with transaction(engine) as db:
            rows = (await db.execute(text(_STREAMS_OF_EVENTS), {"after": after, "page": PAGE})).all()
        for stream_id, is_stray in rows:
            if is_stray:
                yield stream_id
        if len(rows) < PAGE:
            return
        after = rows[-1][0]
