"""The log, the sessions and their steps."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0001_tables.sql").read_text())
    op.execute((_SQL / "0001_stream_lock_key.sql").read_text())
    op.execute((_SQL / "0001_append_events.sql").read_text())
    op.execute((_SQL / "0001_moves.sql").read_text())


def downgrade() -> None:
    op.execute("DROP FUNCTION commit_fold, complete_step, settle_superstep, claim_step, append_all")
    op.execute(
        "DROP FUNCTION append_events(uuid, bigint, uuid[], text[], text[], text[], text[],"
        " integer[], integer[], uuid[], text[], bytea[])"
    )
    op.execute("DROP FUNCTION stream_lock_key(uuid)")
    op.execute("DROP TABLE steps, sessions, workflows, artifacts, writers, events, streams, epochs")
