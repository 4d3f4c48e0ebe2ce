"""Questions have a schema of their answers; sessions have a context, a config, and a session that they continue.

No lock is held long: columns are added without a rewrite, and nothing is filled in. A session that ended before has no
final state, and cannot be continued.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"

_SQL = Path(__file__).parent.parent / "sql"

# Both tables or none, as in 0003: what is held is let go before Postgres would end a cycle of locks, and tried again.
_LOCK = """
DO $$
DECLARE
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR attempt IN 1..300 LOOP
        BEGIN
            LOCK TABLE sessions, steps IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 + random() * 0.2);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'sessions and steps are never free; stop what holds them, and try again';
END
$$
"""


def upgrade() -> None:
    op.execute(_LOCK)
    op.execute((_SQL / "0004_tables.sql").read_text())


def downgrade() -> None:
    op.execute(_LOCK)
    op.execute("ALTER TABLE steps DROP COLUMN answer_schema")
    for column in ("context", "config", "continues", "final_state"):
        op.execute(f"ALTER TABLE sessions DROP COLUMN {column}")
