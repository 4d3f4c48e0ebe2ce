"""`stellwerk migrate`: the schema of a deployment's database; `stellwerk up` sees to its own."""

import typer

from app.cli.console import examples, say
from app.cli.support.configured import read_settings
from app.errors import BadInput, Unavailable

commands = typer.Typer()


@commands.command(epilog=examples("STELLWERK_DATABASE_URL=postgresql://… stellwerk migrate"))
def migrate() -> None:
    """Brings the schema of STELLWERK_DATABASE_URL up to date; several at once take turns."""
    address = read_settings().database_url
    if address is None:
        raise BadInput("set STELLWERK_DATABASE_URL; a database that is embedded is migrated by `stellwerk up`")
    # Imported here: SQLAlchemy and Alembic would slow down every other command.
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    from app.schema import migrate as upgrade  # noqa: PLC0415

    try:
        upgrade(address)
    except OperationalError as error:
        raise Unavailable(f"the database cannot be used: {str(error.orig).strip()}") from error
    say("the schema is up to date")
