"""The feed: the events of all streams in one order, for readers of many streams.

The order is by epoch, transaction and position, which keeps the offsets' order within each stream. An event is complete
when nothing can appear before it any more: its epoch is over, or its transaction is below the oldest one that still
writes (`epoch < current OR xid < xmin`). In the order of the feed that is one range, up to `(current, xmin, 0)`. So a
read looks at nothing of what waits for a transaction that stands still.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import driver_connection
from app.events.cursors import FeedPlace
from app.events.encoding import ID_KEYS
from app.events.read import EVERYTHING, Filter, frame_sql

LOOKED_AT = 5000
"""A statement looks at no more events than this, however few of them a reader wants: some 5 ms."""
WITH_STATUS = frozenset({"session_event", "step_event", "approval_event", "batch_event"})
"""Kinds of events whose own `status` a reader can ask for."""


class FeedFrame(NamedTuple):
    """A ready SSE frame and what readers place and filter it by."""

    place: FeedPlace
    t: str
    agent: str | None
    phase: str | None
    status: str | None
    kind: str | None
    project: str | None
    workflow: str | None
    data: bytes


class FeedFilter(NamedTuple):
    """Which events a reader wants, of those that it may see; empty fields want all."""

    only: Filter = EVERYTHING
    projects: frozenset[str] = frozenset()
    workflow: frozenset[str] = frozenset()
    status: frozenset[str] = frozenset()
    has_operators: bool = True
    """Whether operators' streams are among them."""

    def matches(self, frame: FeedFrame) -> bool:
        return (
            (not self.only or self.only.matches(frame.t, frame.agent, frame.phase))
            and (not self.projects or frame.project in self.projects)
            and (not self.workflow or frame.workflow in self.workflow)
            and (not self.status or frame.status in self.status)
            # A stream whose kind is not known is hidden like one of operators.
            and (self.has_operators or frame.kind not in {"operators", "heads", None})
        )


ALL_STREAMS = FeedFilter()


@dataclass(frozen=True, slots=True)
class FeedHead:
    """How far the feed is complete: `last` is its last event, all below `bound` is complete."""

    epoch: int
    bound: FeedPlace
    last: FeedPlace
    epochs: frozenset[int]
    """All that this database has had."""

    @property
    def place(self) -> FeedPlace:
        """The place from which only what comes is read.

        It names an event, not a transaction that may have written nothing: after a crash Postgres gives such a
        number once more.
        """
        return max(self.last, FeedPlace(self.epoch))


@dataclass(frozen=True, slots=True)
class FeedRead:
    """Frames that a reader wants; up to `reached` there are no others. `last` is the place of the last one."""

    epoch: int
    frames: list[bytes]
    last: FeedPlace | None
    reached: FeedPlace


@dataclass(frozen=True, slots=True)
class News:
    """What became complete after a place. `is_waiting`: there is more that is committed and not complete yet."""

    epoch: int
    bound: FeedPlace
    frames: list[FeedFrame]
    is_waiting: bool


BOUND = "(SELECT max(epoch) AS epoch, pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM epochs) AS bound"
AFTER = "(epoch, xid, position) > (%(epoch)s::bigint, %(xid)s::text::xid8, %(position)s::bigint)"
COMPLETE = "(epoch, xid, position) < (bound.epoch, bound.xmin, 0)"
_WAITING = "(epoch, xid, position) >= (bound.epoch, bound.xmin, 0)"
NO_HEADS = "t <> 'heads_event'"
"""What is recorded of streams is no news of them: it is read on its own stream."""
_PLACE = "looked.epoch || '-' || looked.xid::text || '-' || looked.position"
_IDENTITY = f"CASE WHEN looked.epoch < bound.epoch THEN bound.epoch || '.' ELSE '' END || {_PLACE}"
"""As `FeedCursor` writes it."""
_KINDS = " ".join(f"WHEN '{kind}' THEN ',\"{key}\":\"'" for kind, key in ID_KEYS.items())
_FRAME = frame_sql(_IDENTITY, f"CASE s.kind {_KINDS} ELSE ',\"stream_id\":\"' END || stream_id || '\"'")
_STATUS = "CASE WHEN t IN ({}) THEN data ->> 'status' END".format(", ".join(f"'{t}'" for t in sorted(WITH_STATUS)))

# Bounded from inside: the innermost LIMIT says how many events are looked at, the outer one how many are wanted. The
# last one that was looked at comes back in any case, and so says how far the read got. All of it is one pipe along
# the index, which ends with the last event that is wanted.
_READ = """
SELECT bound.epoch, bound.xmin::text::bigint, {about}page.*
FROM {bound} {beside} LEFT JOIN LATERAL (
    SELECT looked.epoch, looked.xid::text::bigint, looked.position, {columns}
    FROM ({looked}) AS looked LEFT JOIN streams AS s USING (stream_id)
    {where} ORDER BY looked.epoch, looked.xid, looked.position LIMIT %(limit)s
) AS page ON true
"""
_EVENTS = """
SELECT epoch, xid, position, stream_id, "offset", ts, t, agent, phase, data
FROM events WHERE {after} AND {complete} AND {no_heads} ORDER BY epoch, xid, position LIMIT {limit}
"""
_MARKED = "SELECT raw.*, lead(position) OVER (ORDER BY epoch, xid, position) IS NULL AS is_last FROM ({}) AS raw"


def sql(template: str, **parts: object) -> str:
    """The template with the ranges of the feed, and other parts, in their places."""
    return template.format(bound=BOUND, after=AFTER, complete=COMPLETE, waiting=_WAITING, no_heads=NO_HEADS, **parts)


def wanted_sql(only: FeedFilter) -> tuple[str, dict[str, Any]]:
    """The same condition as `FeedFilter.matches`, with its parameters; empty where all is wanted."""
    columns = {"t": only.only.t, "agent": only.only.agent, "phase": only.only.phase, "s.project": only.projects}
    columns |= {"s.workflow_name": only.workflow, _STATUS: only.status}
    conditions = [] if only.has_operators else ["s.kind NOT IN ('operators', 'heads')"]
    parameters = dict[str, Any]()
    for number, (column, names) in enumerate(columns.items()):
        if names:
            conditions.append(f"{column} = ANY(%(names_{number})s)")
            parameters[f"names_{number}"] = list(names)
    return " AND ".join(conditions), parameters


async def rows_of(db: AsyncConnection, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All rows, on the driver.

    Planned each time: a plan that was made while there were few events would not walk along the index later.
    """
    async with driver_connection(db) as connection:
        rows = await connection.execute(query, parameters, binary=True, prepare=False)
        return await rows.fetchall()


def place_of(cursor: FeedPlace) -> dict[str, Any]:
    """The cursor as the parameters of `AFTER`."""
    return {"epoch": cursor.epoch, "xid": str(cursor.xid), "position": cursor.position}


async def read_feed(db: AsyncConnection, after: FeedPlace, only: FeedFilter = ALL_STREAMS, *, limit: int) -> FeedRead:
    """The next frames across all streams, at most `limit`. What was reached may be less than there is."""
    wanted, parameters = wanted_sql(only)
    if wanted:
        looked = _MARKED.format(sql(_EVENTS, limit=LOOKED_AT))
        columns, where = f"CASE WHEN {wanted} THEN {_FRAME} END", f"WHERE {wanted} OR is_last"
    else:
        looked, columns, where = sql(_EVENTS, limit="%(limit)s"), _FRAME, ""
    query = sql(_READ, about="", beside="", columns=columns, looked=looked, where=where)
    rows = await rows_of(db, query, parameters | place_of(after) | {"limit": limit})
    epoch = rows[0][0]
    if rows[0][2] is None:  # no event: all of the earlier epochs was read
        return FeedRead(epoch, [], None, max(after, FeedPlace(epoch)))
    reached = FeedPlace(*rows[-1][2:5])
    if rows[-1][5] is None:  # the last one that was looked at, and not wanted
        del rows[-1]
    last = FeedPlace(*rows[-1][2:5]) if rows else None
    return FeedRead(epoch, [row[5] for row in rows], last, reached)


_NEWS = f"t, agent, phase, {_STATUS}, s.kind, s.project, s.workflow_name, {_FRAME}"
# Of one row, in the index's order: with EXISTS Postgres would rather read the whole table, and for each frame anew.
_FIRST_WAITING = """
LEFT JOIN LATERAL (
    SELECT position FROM events WHERE {waiting} ORDER BY epoch, xid, position LIMIT 1
) AS waiting ON true
"""


async def read_news(db: AsyncConnection, after: FeedPlace, *, limit: int) -> News:
    """The next frames with all that any reader filters them by."""
    looked = sql(_EVENTS, limit="%(limit)s")
    about, beside = "waiting.position IS NOT NULL, ", sql(_FIRST_WAITING)
    query = sql(_READ, about=about, beside=beside, columns=_NEWS, looked=looked, where="")
    rows = await rows_of(db, query, place_of(after) | {"limit": limit})
    epoch, xmin, is_waiting = rows[0][:3]
    frames = [FeedFrame(FeedPlace(*row[3:6]), *row[6:]) for row in rows if row[3] is not None]
    return News(epoch, FeedPlace(epoch, xmin), frames, is_waiting)


_HEAD = """
SELECT bound.epoch, bound.xmin::text::bigint, (SELECT array_agg(epoch) FROM epochs),
       e.epoch, e.xid::text::bigint, e.position
FROM {bound} LEFT JOIN LATERAL (
    SELECT * FROM events WHERE {complete} AND {no_heads} ORDER BY epoch DESC, xid DESC, position DESC LIMIT 1
) AS e ON true
"""


async def feed_head(db: AsyncConnection) -> FeedHead:
    """How far the feed is complete now."""
    ((epoch, xmin, epochs, *last),) = await rows_of(db, sql(_HEAD), {})
    place = FeedPlace() if last[0] is None else FeedPlace(*last)
    return FeedHead(epoch, FeedPlace(epoch, xmin), place, frozenset(epochs))


# Of the first hundred: along the order of the feed ts hardly falls, and after a transaction that stands still there
# may be a great many.
_LAG = """
SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(ts)), 0), 0)::double precision
FROM {bound} CROSS JOIN LATERAL (
    SELECT ts FROM events WHERE {waiting} ORDER BY epoch, xid, position LIMIT 100
) AS waiting
"""


async def feed_lag(db: AsyncConnection) -> float:
    """The age in seconds of the oldest event that is committed and not complete yet; 0 where there is none."""
    return float(await db.scalar(text(sql(_LAG))) or 0)
