"""`stellwerk migrate`: the schema of a deployment's database; `stellwerk up` sees to its own."""

import typer

from app.cli.console import examples, print_line, say
from app.cli.support.configured import read_settings
from app.errors import BadInput, Unavailable

commands = typer.Typer()


@commands.command(epilog=examples("STELLWERK_DATABASE_URL=postgresql://… stellwerk migrate"))
def migrate() -> None:
    """Brings the schema of STELLWERK_DATABASE_URL up to date; several at once take turns.

    Also makes the roles of owner and application, as which what there is then belongs and works. STELLWERK_MIGRATE_URL
    is the address of a superuser, or of the owner.
    """
    settings = read_settings()
    address = settings.migrate_url or settings.database_url
    if address is None:
        raise BadInput("set STELLWERK_DATABASE_URL; a database that is embedded is migrated by `stellwerk up`")
    # Imported here: SQLAlchemy and Alembic would slow down every other command.
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    from app.cli.support.database_roles import try_login  # noqa: PLC0415
    from app.schema import migrate as upgrade  # noqa: PLC0415

    try:
        refused = upgrade(address, app=settings.database_url)
    except OperationalError as error:
        raise Unavailable(f"the database cannot be used: {str(error.orig).strip()}") from error
    say("the schema is up to date")
    if refused:
        say("one role does everything, and may rewrite history; to change that, a superuser has to run")
        for statement in refused:
            print_line(f"{statement};")
        say("and then `stellwerk migrate` again")
    elif settings.database_url and (why := try_login(settings.database_url)):
        say(f"warning: STELLWERK_DATABASE_URL does not open the database: {why}")
