"""Streams of heads.

The lock on `streams` keeps appends out while its rows are looked at once: a million of them take some 0.2 s. It is
waited for in short tries, so that appends do not queue up after a transaction that holds the table.
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"

_SQL = Path(__file__).parent.parent / "sql"
_LOCK = """
DO $$
DECLARE
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR attempt IN 1..300 LOOP
        BEGIN
            LOCK TABLE streams IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 + random() * 0.2);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'streams is never free; stop what holds it, and try again';
END
$$
"""


def upgrade() -> None:
    op.execute(_LOCK)
    op.execute((_SQL / "0010_tables.sql").read_text())


def downgrade() -> None:
    # Before, there was no such stream: what its events say of others goes, and the others stay as they are.
    op.execute("DELETE FROM events USING streams s WHERE events.stream_id = s.stream_id AND s.kind = 'heads'")
    op.execute("DELETE FROM streams WHERE kind = 'heads'")
    op.execute("ALTER TABLE streams DROP CONSTRAINT streams_kind")
    op.execute("ALTER TABLE streams ADD CONSTRAINT streams_kind CHECK (kind IN ('session', 'batch', 'operators'))")
