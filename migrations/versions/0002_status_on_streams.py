"""A stream's status stands on the stream; workers tell that they live; a paused session is not folded.

No lock is held long: the column is added without a rewrite, and statuses are filled in by batches of BATCH streams,
each a transaction of some milliseconds, while appends go on. A million sessions take about a minute.
"""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

_SQL = Path(__file__).parent.parent / "sql"
BATCH = 1000
_REPLACED = ("append_events", "settle_superstep", "commit_fold")
_NEW_CLAIM = (
    "claim_step(uuid, integer, integer, uuid, interval, text, text[], text[], boolean, text, text, text, bytea[])"
)

# Planned once for a connection, not for each call (a call with one event took 0.88 ms, now 0.65), perhaps while the
# tables are empty: with other than index scans a new database's appends became ten times slower as they grew.
_PLANNING = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
)

# A transaction that was under way when the functions were replaced may still write an event as 0001 did, without its
# status, and a session's new status that the fill's snapshot does not show. The fill waits for it first.
_LOCK = text("""
SELECT count(pg_advisory_xact_lock(k)) FROM (
    SELECT DISTINCT stream_lock_key(stream_id) AS k
    FROM (SELECT stream_id FROM streams WHERE stream_id > :after ORDER BY stream_id LIMIT :limit) AS batch
    ORDER BY k
) AS sorted
""")
_FILL = text("""
WITH batch AS (
    SELECT stream_id FROM streams WHERE stream_id > :after ORDER BY stream_id LIMIT :limit
), filled AS (
    UPDATE streams s SET status = x.status FROM sessions x, batch b
    WHERE s.stream_id = b.stream_id AND x.session_id = s.stream_id AND s.status IS NULL
)
SELECT stream_id FROM batch ORDER BY stream_id DESC LIMIT 1
""")


def upgrade() -> None:
    for name in ("tables", *_REPLACED, "claim_step"):
        op.execute((_SQL / f"0002_{name}.sql").read_text())
    for function in (*_REPLACED, _NEW_CLAIM):
        for setting in _PLANNING:
            op.execute(f"ALTER FUNCTION {function} SET {setting}")
    # Each batch commits by itself: one transaction over all streams would hold up their appends until its end.
    with op.get_context().autocommit_block():
        after: object = "00000000-0000-0000-0000-000000000000"
        while after is not None:
            batch = {"after": after, "limit": BATCH}
            op.execute("BEGIN")
            op.get_bind().execute(_LOCK, batch)
            after = op.get_bind().scalar(_FILL, batch)  # a statement of its own: it sees what those it waited for wrote
            op.execute("COMMIT")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {_NEW_CLAIM}")
    for file in ("0001_append_events.sql", "0001_moves.sql"):
        op.execute((_SQL / file).read_text().replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP TABLE workers")
    op.execute("ALTER TABLE streams DROP COLUMN status")
