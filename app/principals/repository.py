"""The SQL on projects."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.types import AnyStreamId, StreamId


class Place(NamedTuple):
    """Whom a stream belongs to, and where that project's control actions are recorded, if any were yet."""

    project: str
    operators: StreamId | None


_PLACE = """
SELECT s.project, o.stream_id
FROM streams s LEFT JOIN streams o ON o.kind = 'operators' AND o.project = s.project
WHERE s.stream_id = :id AND (CAST(:project AS text) IS NULL OR s.project = :project)
"""


async def place_of(db: AsyncConnection, stream_id: AnyStreamId, *, project: str | None) -> Place | None:
    """None where there is no such stream, or it belongs to another project than `project`."""
    row = (await db.execute(text(_PLACE), {"id": stream_id, "project": project})).one_or_none()
    return Place(*row) if row else None


async def operators_stream(db: AsyncConnection, project: str) -> StreamId | None:
    """None where nothing was recorded for the project yet."""
    found: StreamId | None = await db.scalar(
        text("SELECT stream_id FROM streams WHERE kind = 'operators' AND project = :project"), {"project": project}
    )
    return found
