"""Signing all browsers out. One new table: no lock is held for long."""

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0012_sign_outs.sql").read_text())


def downgrade() -> None:
    op.execute("DROP TABLE sign_outs")
