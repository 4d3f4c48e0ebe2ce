"""The schema's migrations; apart from database.py, because importing alembic is time that no worker should spend."""

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from app.database import sqlalchemy_url
from app.errors import SchemaTooNew


def _alembic(address: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = sqlalchemy_url(address)
    return config


def migrate(address: str, revision: str = "head") -> None:
    """Upgrades the schema; safe to call from several processes at once. Raises SchemaTooNew."""
    try:
        command.upgrade(_alembic(address), revision)
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise SchemaTooNew from error
        raise


def downgrade(address: str, revision: str) -> None:
    command.downgrade(_alembic(address), revision)


def check_schema(address: str) -> None:
    """Raises alembic's CommandError when the tables in code and database differ."""
    command.check(_alembic(address))
