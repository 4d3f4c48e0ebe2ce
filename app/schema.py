"""The schema's migrations; apart from database.py, because importing alembic is time that no worker should spend."""

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from psycopg.errors import InsufficientPrivilege
from sqlalchemy.exc import ProgrammingError

from app.database import sqlalchemy_url
from app.errors import MissingRight, SchemaTooNew


def _alembic(address: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = sqlalchemy_url(address)
    return config


def migrate(address: str, revision: str = "head", *, app: str | None = None) -> list[str]:
    """Upgrades the schema; safe to call from several processes at once. Raises SchemaTooNew, and MissingRight where
    something is to be done, and the role of the address may not.

    Also makes the two roles and grants what they need (see roles.py), where the role of the address may do so;
    returns the statements that it may not run. `app` is the address at which gateway and workers come.
    """
    config = _alembic(address)
    config.attributes["refused"] = refused = list[str]()
    config.attributes["app"] = None if app is None else sqlalchemy_url(app)
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise SchemaTooNew from error
        raise
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            raise MissingRight from error
        raise
    return refused


def downgrade(address: str, revision: str) -> None:
    config = _alembic(address)
    config.attributes["refused"] = list[str]()
    command.downgrade(config, revision)


def check_schema(address: str) -> None:
    """Raises alembic's CommandError when the tables in code and database differ."""
    command.check(_alembic(address))
