"""What writes history is a function, so that the application's role may be forbidden to. No lock is held."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"

_SQL = Path(__file__).parent.parent / "sql"
_FUNCTIONS = ("create_stream", "reopen_stream", "put_artifact", "present_epoch", "begin_epoch", "observe_cluster")


def upgrade() -> None:
    for name in _FUNCTIONS:
        op.execute((_SQL / f"0009_{name}.sql").read_text())


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {', '.join(_FUNCTIONS)}")
