"""Sessions and streams belong to projects; keys; a stream's workflow stands on the stream.

No lock is held long: columns are added without a rewrite, indexes are built beside what goes on (a million sessions
take some seconds each), and workflows are filled in by batches of BATCH streams, each a transaction of some
milliseconds. A million sessions take about a minute in all.
"""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

_SQL = Path(__file__).parent.parent / "sql"
BATCH = 1000

# Planned once for a connection, as before (see 0002).
_PLANNING = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
)
# Both tables or none. One after the other, their locks would be in a cycle with those of a transaction that has written
# to the other table already; Postgres would end one of the two after a second, and perhaps not this one. So what is
# held is let go before that, and tried again.
_LOCK = """
DO $$
DECLARE
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR attempt IN 1..300 LOOP
        BEGIN
            LOCK TABLE streams, sessions IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 + random() * 0.2);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'streams and sessions are never free; stop what holds them, and try again';
END
$$
"""
_INDEXES = {
    "streams_operators": "UNIQUE INDEX CONCURRENTLY streams_operators ON streams (project) WHERE kind = 'operators'",
    "sessions_project": "INDEX CONCURRENTLY sessions_project ON sessions (project, session_id)",
    "sessions_status": "INDEX CONCURRENTLY sessions_status ON sessions (project, status)",
    "sessions_project_idempotency_key": (
        "UNIQUE INDEX CONCURRENTLY sessions_project_idempotency_key ON sessions (project, principal, idempotency_key)"
        " WHERE idempotency_key IS NOT NULL"
    ),
}
_FILL = text("""
WITH batch AS (
    SELECT stream_id FROM streams WHERE stream_id > :after ORDER BY stream_id LIMIT :limit
), filled AS (
    UPDATE streams s SET workflow_name = x.workflow FROM sessions x, batch b
    WHERE s.stream_id = b.stream_id AND x.session_id = s.stream_id AND s.workflow_name IS NULL
)
SELECT stream_id FROM batch ORDER BY stream_id DESC LIMIT 1
""")


def upgrade() -> None:
    op.execute(_LOCK)
    op.execute((_SQL / "0003_tables.sql").read_text())
    op.execute((_SQL / "0003_append_events.sql").read_text())
    for setting in _PLANNING:
        op.execute(f"ALTER FUNCTION append_events SET {setting}")
    with op.get_context().autocommit_block():
        # Building the first one waits for all transactions that still write streams as 0002 did, so that the fill
        # sees them. One that was interrupted has left an index that is not valid.
        for name, definition in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS sessions_idempotency_key")
        # Each batch commits by itself: one transaction over all streams would hold up their appends until its end.
        after: object = "00000000-0000-0000-0000-000000000000"
        while after is not None:
            after = op.get_bind().scalar(_FILL, {"after": after, "limit": BATCH})


def downgrade() -> None:
    op.execute(_LOCK)
    op.execute((_SQL / "0002_append_events.sql").read_text())
    for setting in _PLANNING:
        op.execute(f"ALTER FUNCTION append_events SET {setting}")
    op.execute("DROP TABLE keys")
    # In 0002 an Idempotency-Key belongs to a principal alone: of several projects' sessions the first one keeps it.
    op.execute(
        "UPDATE sessions x SET idempotency_key = NULL FROM sessions first WHERE first.session_id < x.session_id"
        " AND first.principal = x.principal AND first.idempotency_key = x.idempotency_key"
    )
    op.execute(
        "CREATE UNIQUE INDEX sessions_idempotency_key ON sessions (principal, idempotency_key)"
        " WHERE idempotency_key IS NOT NULL"
    )
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    # The columns stay, and 0002 does not mind them: who goes up again needs to know what belongs to whom.
