"""Step tokens are counted, and secrets found and kept. Six new columns with constant defaults: no lock is held long."""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0011_tables.sql").read_text())


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN secrets")
    op.execute("ALTER TABLE sessions DROP COLUMN repo_credentials")
    op.execute("ALTER TABLE steps DROP COLUMN report_bytes, DROP COLUMN reports, DROP COLUMN reporting_attempt")
