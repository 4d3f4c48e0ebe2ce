"""Epochs are numbered by Unix seconds, so they are bigint; each knows its timeline and its transaction.

`ALTER COLUMN … TYPE bigint` would rewrite `events` under a lock that keeps readers out, too, and needs the disk for a
second copy. So a wide column is added beside the old one without a rewrite, an index on it is built while work goes
on, and then it takes the old one's name: two locks of some milliseconds. A million events (600 MB) take about 2 s, and
each million that is not of the epoch of most of them 15 s more: in a database with one epoch there is none.
"""

from pathlib import Path

import structlog
from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import NotSupportedError, ProgrammingError

revision = "0008"
down_revision = "0007"

logger = structlog.get_logger(__name__)

_SQL = Path(__file__).parent.parent / "sql"
BATCH = 5000
TOLD = 100_000
"""From so many events on it says beforehand how long it takes."""

# Planned once for a connection, as before (see 0002).
_PLANNING = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
)
# Both tables or none, for the reason that 0003 gives.
_LOCK = """
DO $$
DECLARE
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR attempt IN 1..300 LOOP
        BEGIN
            LOCK TABLE epochs, events IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 + random() * 0.2);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'epochs and events are never free; stop what holds them, and try again';
END
$$
"""
# The wide column, beside the old one. A constant default is no rewrite: it stands for all rows that there are, so it is
# the epoch of most. The trigger is for what is written until the old column is gone.
_WIDEN = """
ALTER TABLE events ADD COLUMN wide_epoch bigint NOT NULL DEFAULT {most};
CREATE FUNCTION widen_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.wide_epoch := NEW.epoch;
    RETURN NEW;
END
$$;
CREATE TRIGGER widen_epoch BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION widen_epoch();
"""
_COUNT = text("SELECT epoch, count(*) FROM events GROUP BY epoch ORDER BY count(*) DESC")
_SIZE = text("SELECT pg_size_pretty(pg_total_relation_size('events'))")
# None before the first try; after one that broke off, the epoch that needs no filling.
_BEGUN = text("""
SELECT CAST(trim('''' FROM split_part(pg_get_expr(adbin, adrelid), '::', 1)) AS bigint)
FROM pg_attrdef JOIN pg_attribute ON (adrelid, adnum) = (attrelid, attnum)
WHERE adrelid = 'events'::regclass AND attname = 'wide_epoch'
""")
_FILL = text("""
WITH batch AS (
    SELECT ctid, epoch, xid, position FROM events
    WHERE epoch = :epoch AND (epoch, xid, position) > (:epoch, CAST(:xid AS xid8), :position)
    ORDER BY epoch, xid, position LIMIT :limit
), filled AS (
    UPDATE events e SET wide_epoch = b.epoch FROM batch b
    WHERE e.ctid = b.ctid AND e.wide_epoch <> b.epoch
)
SELECT CAST(xid AS text), position FROM batch ORDER BY batch.xid DESC, position DESC LIMIT 1
""")
_TIMELINE = text("SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer")
_STAMP = text("UPDATE epochs SET timeline = :timeline WHERE epoch = (SELECT max(epoch) FROM epochs)")
# Neighbours of the version before have prepared statements that gave an integer, which Postgres now refuses for ever.
# They connect again, as after its restart. While the tables are locked: so none prepares another such statement.
_SEND_AWAY = text("""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()
  AND application_name LIKE 'stellwerk%'
""")


def upgrade() -> None:
    most = op.get_bind().scalar(_BEGUN)
    if most is None:
        most = _tell()
        op.execute(_LOCK)
        op.execute(_WIDEN.format(most=most))
    with op.get_context().autocommit_block():
        for epoch in op.get_bind().scalars(text("SELECT epoch FROM epochs")).all():
            if epoch != most:
                _fill(epoch)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS events_wide_position")  # one that was interrupted is not valid
        op.execute("CREATE INDEX CONCURRENTLY events_wide_position ON events (wide_epoch, xid, position)")
        timeline = _timeline()
    op.execute(_LOCK)
    op.execute((_SQL / "0008_tables.sql").read_text())
    _replace_append_events("0008")
    op.get_bind().execute(_STAMP, {"timeline": timeline})
    _send_away()


def _send_away() -> None:
    """As who connected: migrations run as the owner, who may not end the connections of a superuser."""
    connection = op.get_bind()
    role = connection.scalar(text("SELECT current_setting('role')"))
    connection.execute(text("SET LOCAL ROLE NONE"))
    connection.execute(_SEND_AWAY)
    connection.execute(text("SELECT set_config('role', :role, true)"), {"role": role})


def _tell() -> int:
    """Says how much there is to do; returns the epoch of most events."""
    (most, its_events), *others = [tuple(row) for row in op.get_bind().execute(_COUNT)] or [(1, 0)]
    to_fill = sum(events for _, events in others)
    if (events := its_events + to_fill) >= TOLD:
        logger.warning(
            "widening the epoch of all events while work goes on",
            events=events,
            size=op.get_bind().scalar(_SIZE),
            to_fill=to_fill,
            about_seconds=(2 * events + 15 * to_fill) // 1_000_000 + 1,
        )
    return int(most)


def _fill(epoch: int) -> None:
    """Each batch commits by itself."""
    place: tuple[str, int] | None = ("0", 0)
    while place is not None:
        parameters = {"epoch": epoch, "xid": place[0], "position": place[1], "limit": BATCH}
        found = op.get_bind().execute(_FILL, parameters).one_or_none()
        place = None if found is None else (found[0], found[1])


def _timeline() -> int | None:
    """None where this server does not tell. Not in a transaction, which an error would end."""
    try:
        timeline: int | None = op.get_bind().scalar(_TIMELINE)
    except (ProgrammingError, NotSupportedError):
        return None
    return timeline


def _replace_append_events(version: str) -> None:
    op.execute((_SQL / f"{version}_append_events.sql").read_text())
    for setting in _PLANNING:
        op.execute(f"ALTER FUNCTION append_events SET {setting}")


def downgrade() -> None:
    op.execute(_LOCK)
    op.execute("ALTER TABLE epochs ALTER COLUMN epoch TYPE integer, DROP COLUMN timeline, DROP COLUMN xid")
    op.execute("ALTER TABLE events ALTER COLUMN epoch TYPE integer")  # a rewrite; it fails from the year 2038 on
    _replace_append_events("0003")
    _send_away()
