"""Reading the log: a stream's state, pages of its events, and frames that Postgres puts together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import driver_connection
from app.errors import NotFound
from app.events.cursors import prefix
from app.events.encoding import Recorded, stream_member
from app.events.types import DEFAULT_PROJECT, AnyStreamId, StreamId, StreamKind


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream as it stands now. `status` is what its last session_event or batch_event says."""

    stream_id: StreamId
    kind: StreamKind
    head: int
    head_chain: bytes
    earliest: int
    closed: bool
    status: str | None
    epoch: int
    project: str = DEFAULT_PROJECT


_STATE = """
SELECT stream_id, kind, head, head_chain, earliest, closed, status, (SELECT max(epoch) FROM epochs) AS epoch, project
FROM streams WHERE stream_id = ANY(:ids)
"""


async def stream_states(db: AsyncConnection, stream_ids: Sequence[AnyStreamId]) -> list[StreamState]:
    """The states of those that exist."""
    rows = await db.execute(text(_STATE), {"ids": list(stream_ids)})
    return [StreamState(*row) for row in rows]


def no_stream(stream_id: AnyStreamId) -> NotFound:
    return NotFound(f"there is no stream {stream_id}")


async def stream_state(db: AsyncConnection, stream_id: AnyStreamId) -> StreamState:
    """Raises NotFound."""
    found = await stream_states(db, [stream_id])
    if not found:
        raise no_stream(stream_id)
    return found[0]


class Filter(NamedTuple):
    """Which events a reader wants; empty fields want all."""

    t: frozenset[str] = frozenset()
    agent: frozenset[str] = frozenset()
    phase: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.t or self.agent or self.phase)

    def matches(self, t: str, agent: str | None, phase: str | None) -> bool:
        return (
            (not self.t or t in self.t)
            and (not self.agent or agent in self.agent)
            and (not self.phase or phase in self.phase)
        )


EVERYTHING = Filter()
LOOKED_AT = 5000
"""Reading backwards, a statement looks at no more events than this, however few of them match: some 5 ms."""

_PAGE = """
SELECT "offset", ts, t, agent, phase, data::text
FROM events
WHERE stream_id = :id AND "offset" > :after AND "offset" <= :until {filters}
ORDER BY "offset" LIMIT :limit
"""


async def read_page(
    db: AsyncConnection,
    state: StreamState,
    *,
    after: int,
    limit: int,
    until: int | None = None,
    only: Filter = EVERYTHING,
) -> list[Recorded]:
    """Returns at most `limit` events with after < offset <= until (default: the state's head), in order."""
    filters, parameters = _filters(only, ":{}")
    parameters |= {"id": state.stream_id, "after": after, "until": until or state.head, "limit": limit}
    rows = await db.execute(text(_PAGE.format(filters=filters)), parameters)
    return [Recorded(state.stream_id, state.kind, *row) for row in rows]


async def offset_before_last(db: AsyncConnection, state: StreamState, count: int, only: Filter) -> int:
    """The offset before the last `count` events that match; before the earliest where there are no more than that."""
    place, remaining = state.head, count
    while remaining > 0 and place >= state.earliest:
        found = await _offsets_up_to(db, state, place, remaining, only)
        remaining -= len(found)
        place = found[-1] - 1 if remaining == 0 else place - LOOKED_AT
    return max(place, state.earliest - 1)


async def read_back(
    db: AsyncConnection, state: StreamState, *, before: int, limit: int, only: Filter = EVERYTHING
) -> list[Recorded]:
    """Returns the last `limit` events that match and have an offset < before, in order."""
    after = await offset_before_last(db, replace(state, head=before - 1), limit, only)
    return await read_page(db, state, after=after, until=before - 1, limit=limit, only=only) if before > 1 else []


_BACK = """
SELECT "offset" FROM events
WHERE stream_id = :id AND "offset" > :after AND "offset" <= :until {filters}
ORDER BY "offset" DESC LIMIT :limit
"""


async def _offsets_up_to(
    db: AsyncConnection, state: StreamState, until: int, limit: int, only: Filter
) -> Sequence[int]:
    """Those that match, the last one first, of the LOOKED_AT offsets that end with `until`."""
    filters, parameters = _filters(only, ":{}")
    parameters |= {"id": state.stream_id, "after": until - LOOKED_AT, "until": until, "limit": limit}
    found = await db.scalars(text(_BACK.format(filters=filters)), parameters)
    return found.all()


def _filters(only: Filter, placeholder: str) -> tuple[str, dict[str, Any]]:
    filters, parameters = "", dict[str, Any]()
    for column in ("t", "agent", "phase"):
        if wanted := getattr(only, column):
            filters += f" AND {column} = ANY({placeholder.format(column)})"
            parameters[column] = list(wanted)
    return filters, parameters


# Put together by Postgres, byte for byte as Recorded.frame does it, because the process that serves all readers is
# the one that must not be busy: it took 12 µs an event to make frames of rows, and takes 2 to receive these.
def frame_sql(identity: str, member: str) -> str:
    """An expression for an event's frame, of those for its `id:` and for the member that names the stream."""
    return f"""convert_to(
    'id: ' || {identity} || E'\\nevent: ' || CASE WHEN right(t, 6) = '_event' THEN left(t, -6) ELSE t END
    || E'\\ndata: {{"offset":' || "offset" || {member} || ',"ts":"'
    || to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '",'
    || right(data::text, -1) || E'\\n\\n', 'UTF8')"""


_FRAMES = """
SELECT "offset", {frame}
FROM events
WHERE stream_id = %(id)s AND "offset" > %(after)s AND "offset" <= %(until)s {filters}
  AND %(epoch)s = (SELECT max(epoch) FROM epochs)
ORDER BY "offset" LIMIT %(limit)s
"""
_FRAME = frame_sql('%(life)s || "offset"', "%(member)s")


async def read_frames(
    db: AsyncConnection, state: StreamState, *, after: int, until: int, limit: int, only: Filter
) -> list[tuple[int, bytes]]:
    """The same events as `read_page` reads, as offsets and SSE frames; none in another epoch than the state's."""
    filters, parameters = _filters(only, "%({})s")
    member = f",{stream_member(state.kind, state.stream_id)}"
    parameters |= {"id": state.stream_id, "epoch": state.epoch, "life": prefix(state.epoch), "member": member}
    parameters |= {"after": after, "until": until, "limit": limit}
    async with driver_connection(db) as connection:
        rows = await connection.execute(_FRAMES.format(frame=_FRAME, filters=filters), parameters, binary=True)
        return await rows.fetchall()


def parse(event: Recorded) -> dict[str, Any]:
    """The stored event as Python values; for readers within the project, never for the way out."""
    return cast("dict[str, Any]", orjson.loads(event.data))


async def offset_before(db: AsyncConnection, stream_id: AnyStreamId, ts: datetime) -> int:
    """The last offset whose event is older than `ts`, 0 if there is none: the cursor for `?since=`."""
    # ts never falls within a stream, so the first event at or after ts bounds all earlier ones.
    found = await db.scalar(
        text('SELECT min("offset") FROM events WHERE stream_id = :id AND ts >= :ts'),
        {"id": stream_id, "ts": ts},
    )
    if found is not None:
        return int(found) - 1
    return int(await db.scalar(text("SELECT head FROM streams WHERE stream_id = :id"), {"id": stream_id}) or 0)
