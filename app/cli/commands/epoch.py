"""`stellwerk epoch bump`: telling that offsets began a new life."""

import asyncio
from typing import Annotated

import typer

from app.cli.console import examples, print_line
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings, with_database

commands = typer.Typer()
epoch = typer.Typer(
    help="The life of the database's offsets; a restored dump and a promoted standby begin one by themselves.",
    no_args_is_help=True,
)
commands.add_typer(epoch, name="epoch")


@epoch.command(epilog=examples('stellwerk epoch bump --reason "failover to db2 lost commits"'))
def bump(
    reason: Annotated[str, typer.Option("--reason", help="Kept with the epoch.")],
    home: Home = None,
) -> None:
    """Begins an epoch after a data directory or a volume was put back, which Postgres cannot know.

    Readers of what is gone get a reset. Only the owner of the database may: for one that is not embedded, set
    STELLWERK_MIGRATE_URL.
    """
    # Imported here: psycopg takes a while, and --help needs none of it.
    from app.cli.support.database_roles import owner_url  # noqa: PLC0415

    address = owner_url(with_database(read_settings(home)))
    print_line(f"epoch {asyncio.run(_bump(address, reason))}")


async def _bump(database_url: str, reason: str) -> int:
    # Imported here: SQLAlchemy takes a while, and --help needs none of it.
    from app.database import create_engine  # noqa: PLC0415
    from app.events.epochs import bump_epoch  # noqa: PLC0415

    engine = create_engine(database_url, pool_size=1)
    try:
        return await bump_epoch(engine, reason)
    finally:
        await engine.dispose()
