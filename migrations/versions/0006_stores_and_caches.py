"""Stores and caches of graphs. Three new tables: no lock is held for long."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0006_tables.sql").read_text())


def downgrade() -> None:
    op.execute("DROP TABLE cache_entries")
    op.execute("DROP TABLE store_seeds")
    op.execute("DROP TABLE store_items")
