"""What writes history is a function, so that the application's role may be forbidden to. No lock is held."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0011"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0008_functions.sql").read_text())


def downgrade() -> None:
    op.execute("DROP FUNCTION create_stream, reopen_stream, put_artifact, observe_cluster, begin_epoch")
