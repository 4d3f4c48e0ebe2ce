"""The log: the SQL on streams and events (proofs.py reads with it what proves them).

Everything that is written goes through the SQL function append_events, either in a larger transaction
(`append`) or gathered with what other producers of this process append (`group_commit.GroupCommit`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import settings
from app.database import driver_connection
from app.errors import InvalidEvent, LeaseLost, NotFound, StellwerkError, StreamClosed
from app.events import arrays, chain
from app.events.types import Recorded, StreamId, StreamKind, beside, encode, stream_member, type_of_stored
from app.progress import SessionId

AnyStreamId = StreamId | SessionId
SALT_BYTES = 16


class Item(NamedTuple):
    """An event to append. With a `lease` it is refused unless that lease holds its step."""

    stream_id: AnyStreamId
    kind: StreamKind
    data: str
    t: str
    agent: str | None = None
    phase: str | None = None
    step: int | None = None
    attempt: int | None = None
    lease: UUID | None = None
    dedupe_key: str | None = None


def item(
    stream_id: AnyStreamId,
    event: type_of_stored,
    *,
    kind: StreamKind = "session",
    lease: UUID | None = None,
    dedupe_key: str | None = None,
    max_bytes: int | None = None,
) -> Item:
    """Encodes `event` for a stream. Raises InvalidEvent and EventTooLarge."""
    columns = beside(event)
    return Item(
        stream_id=stream_id,
        kind=kind,
        data=encode(event, max_bytes=max_bytes or settings().max_event_bytes),
        t=columns.t,
        agent=columns.agent,
        phase=columns.phase,
        step=columns.step,
        attempt=columns.attempt,
        lease=lease,
        dedupe_key=dedupe_key,
    )


class Answer(NamedTuple):
    """What append_events said of one item."""

    status: Literal["appended", "duplicate", "fenced", "closed", "invalid"]
    offset: int | None
    ts: datetime | None
    detail: str | None

    def error(self) -> StellwerkError | None:
        match self.status:
            case "appended" | "duplicate":
                return None
            case "fenced":
                return LeaseLost()
            case "closed":
                return StreamClosed()
            case "invalid":
                return InvalidEvent(self.detail)


_APPEND = (
    "SELECT * FROM append_events(%b::uuid, %b::bigint, %b::uuid[], %b::text[], %b::text[], %b::text[],"
    " %b::text[], %b::integer[], %b::integer[], %b::uuid[], %b::text[], %b::bytea[])"
)


async def call_append(
    connection: psycopg.AsyncConnection[Any],
    items: Sequence[Item],
    *,
    writer: UUID | None = None,
    call_no: int | None = None,
) -> list[Answer]:
    """One round trip. A call repeated with the same `writer` and `call_no` gets the first one's answer."""
    cursor = await connection.execute(_APPEND, _arguments(items, writer, call_no), binary=True)
    return [Answer(*row) for row in await cursor.fetchall()]


def columns(items: Sequence[Item]) -> tuple[arrays.Array, ...]:
    """What append_all takes of events for one stream: data, t, agents, phases, steps, attempts and salts."""
    return (
        arrays.various_texts([i.data for i in items]),
        arrays.texts([i.t for i in items]),
        arrays.texts([i.agent for i in items]),
        arrays.texts([i.phase for i in items]),
        arrays.integers([i.step for i in items]),
        arrays.integers([i.attempt for i in items]),
        arrays.byteas(salts(len(items))),
    )


def salts(count: int) -> list[bytes]:
    """One for each event."""
    drawn = os.urandom(SALT_BYTES * count)
    return [drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)]


def _arguments(items: Sequence[Item], writer: UUID | None, call_no: int | None) -> tuple[Any, ...]:
    data, *columns_beside, salts_of_items = columns(items)
    return (
        writer,
        call_no,
        arrays.uuids([i.stream_id for i in items]),
        data,
        *columns_beside,
        arrays.uuids([i.lease for i in items]),
        arrays.texts([i.dedupe_key for i in items]),
        salts_of_items,
    )


def recorded(entry: Item, answer: Answer) -> Recorded:
    assert answer.offset is not None and answer.ts is not None
    return Recorded(
        entry.stream_id, entry.kind, answer.offset, answer.ts, entry.t, entry.agent, entry.phase, entry.data
    )


async def _append(db: AsyncConnection, items: Sequence[Item]) -> list[Answer]:
    # Through SQLAlchemy: past it, the driver's own errors would reach callers that know only SQLAlchemy's.
    rows = await db.exec_driver_sql(_APPEND, _arguments(items, None, None))
    answers = [Answer(*tuple(row)) for row in rows]
    for answer in answers:
        if error := answer.error():
            raise error
    return answers


async def append(db: AsyncConnection, items: Sequence[Item]) -> list[Recorded]:
    """Appends within the caller's transaction; returns what is new.

    Raises the first refusal, which rolls all of it back.
    """
    answers = await _append(db, items)
    return [
        recorded(entry, answer) for entry, answer in zip(items, answers, strict=True) if answer.status == "appended"
    ]


async def append_once(db: AsyncConnection, entry: Item) -> tuple[Recorded, bool]:
    """The event, and whether it is new: a dedupe_key that stands in the stream gives the first one."""
    (answer,) = await _append(db, [entry])
    return recorded(entry, answer), answer.status == "appended"


async def lock_streams(db: AsyncConnection, *stream_ids: AnyStreamId) -> None:
    """Must be the transaction's first statement that touches these streams or their sessions' steps."""
    await db.execute(
        text(
            "SELECT pg_advisory_xact_lock(k) FROM (SELECT DISTINCT stream_lock_key(s) AS k"
            " FROM unnest(CAST(:ids AS uuid[])) AS s ORDER BY k) AS sorted"
        ),
        {"ids": list(stream_ids)},
    )


async def create_stream(db: AsyncConnection, stream_id: AnyStreamId, kind: StreamKind) -> None:
    await db.execute(
        text("INSERT INTO streams (stream_id, kind, head_chain) VALUES (:id, :kind, :chain)"),
        {"id": stream_id, "kind": kind, "chain": chain.genesis(stream_id)},
    )


async def set_closed(db: AsyncConnection, stream_id: AnyStreamId, closed: bool) -> None:
    """In the transaction that appends the terminal event (or, to reopen, the one after it)."""
    await db.execute(
        text("UPDATE streams SET closed = :closed WHERE stream_id = :id"), {"id": stream_id, "closed": closed}
    )


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream as it stands now. `status` is its session's, None for other kinds."""

    stream_id: StreamId
    kind: StreamKind
    head: int
    head_chain: bytes
    earliest: int
    closed: bool
    status: str | None
    epoch: int


_STATE = """
SELECT s.stream_id, s.kind, s.head, s.head_chain, s.earliest, s.closed, x.status,
       (SELECT max(epoch) FROM epochs) AS epoch
FROM streams s LEFT JOIN sessions x ON x.session_id = s.stream_id
WHERE s.stream_id = ANY(:ids)
"""


async def stream_states(db: AsyncConnection, stream_ids: Sequence[AnyStreamId]) -> list[StreamState]:
    """The states of those that exist."""
    rows = await db.execute(text(_STATE), {"ids": list(stream_ids)})
    return [StreamState(*row) for row in rows]


async def stream_state(db: AsyncConnection, stream_id: AnyStreamId) -> StreamState:
    """Raises NotFound."""
    for state in await stream_states(db, [stream_id]):
        return state
    raise NotFound(f"there is no stream {stream_id}")


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
    """At most `limit` events with after < offset <= until (default: the state's head), in order."""
    filters, parameters = _filters(only, ":{}")
    parameters |= {"id": state.stream_id, "after": after, "until": until or state.head, "limit": limit}
    rows = await db.execute(text(_PAGE.format(filters=filters)), parameters)
    return [Recorded(state.stream_id, state.kind, *row) for row in rows]


def _filters(only: Filter, placeholder: str) -> tuple[str, dict[str, Any]]:
    filters, parameters = "", dict[str, Any]()
    for column in ("t", "agent", "phase"):
        if wanted := getattr(only, column):
            filters += f" AND {column} = ANY({placeholder.format(column)})"
            parameters[column] = list(wanted)
    return filters, parameters


# Put together by Postgres, byte for byte as Recorded.frame does it, because the process that serves all readers is
# the one that must not be busy: it took 12 µs an event to make frames of rows, and takes 2 to receive these.
_FRAMES = """
SELECT "offset", convert_to(
    'id: ' || "offset" || E'\nevent: ' || CASE WHEN right(t, 6) = '_event' THEN left(t, -6) ELSE t END
    || E'\ndata: {{"offset":' || "offset" || %(member)s || ',"ts":"'
    || to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '",'
    || right(data::text, -1) || E'\n\n', 'UTF8')
FROM events
WHERE stream_id = %(id)s AND "offset" > %(after)s AND "offset" <= %(until)s {filters}
  AND %(epoch)s = (SELECT max(epoch) FROM epochs)
ORDER BY "offset" LIMIT %(limit)s
"""


async def read_frames(
    db: AsyncConnection, state: StreamState, *, after: int, until: int, limit: int, only: Filter
) -> list[tuple[int, bytes]]:
    """The same events as `read_page` reads, as offsets and SSE frames; none in another epoch than the state's."""
    filters, parameters = _filters(only, "%({})s")
    member = f",{stream_member(state.kind, state.stream_id)}"
    parameters |= {"id": state.stream_id, "epoch": state.epoch, "member": member}
    parameters |= {"after": after, "until": until, "limit": limit}
    async with driver_connection(db) as connection:
        rows = await connection.execute(_FRAMES.format(filters=filters), parameters, binary=True)
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


@dataclass(frozen=True, slots=True, order=True)
class FeedCursor:
    """A place in the feed of all streams."""

    epoch: int = 0
    xid: int = 0
    position: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.xid}-{self.position}"


# Events of transactions below the oldest running one are complete: nothing can appear before them any more.
_FEED = """
SELECT epoch, xid::text::bigint, position, e.stream_id, s.kind, "offset", ts, t, agent, phase, data::text
FROM events e JOIN streams s USING (stream_id)
WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (epoch, xid, position) > (:epoch, CAST(CAST(:xid AS text) AS xid8), :position)
ORDER BY epoch, xid, position LIMIT :limit
"""


async def read_feed(db: AsyncConnection, after: FeedCursor, *, limit: int) -> list[tuple[FeedCursor, Recorded]]:
    """The next events across all streams, in each stream's offset order, skipping none."""
    rows = await db.execute(
        text(_FEED), {"epoch": after.epoch, "xid": str(after.xid), "position": after.position, "limit": limit}
    )
    return [(FeedCursor(*row[:3]), Recorded(*row[3:])) for row in rows]
