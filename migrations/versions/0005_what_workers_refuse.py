"""Workers tell what they serve and what they refuse. Columns without a rewrite: no lock is held for long."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0005_tables.sql").read_text())


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN served, DROP COLUMN refused")
