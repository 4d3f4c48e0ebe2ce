"""The schema's migrations; apart from database.py, because importing alembic is time that no worker should spend."""

from alembic import command
from alembic.config import Config

from app.database import sqlalchemy_url


def _alembic(address: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = sqlalchemy_url(address)
    return config


def migrate(address: str, revision: str = "head") -> None:
    """Upgrades the schema; safe to call from several processes at once."""
    command.upgrade(_alembic(address), revision)


def downgrade(address: str, revision: str) -> None:
    command.downgrade(_alembic(address), revision)


def check_schema(address: str) -> None:
    """Raises alembic's CommandError when the tables in code and database differ."""
    command.check(_alembic(address))
