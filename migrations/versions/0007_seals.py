"""The key of each epoch, by which messages through Redis are sealed. The table has a row for each restore."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0007_seal_key.sql").read_text())


def downgrade() -> None:
    op.execute("ALTER TABLE epochs DROP COLUMN seal_key")
