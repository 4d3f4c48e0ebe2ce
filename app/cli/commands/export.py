"""`stellwerk export`: a session's log as a file that proves itself."""

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from app.cli.console import examples
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings, with_database
from app.cli.support.database import engine_of
from app.cli.support.lookup import Session, session_id_of
from app.errors import BadPath
from app.progress import SessionId

commands = typer.Typer()


@commands.command(epilog=examples("stellwerk export 019b5a3e -o session.jsonl", "stellwerk export 019b5a3e | gzip"))
def export(
    session: Session,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    home: Home = None,
) -> None:
    """Writes a session's events with all that proves them; `stellwerk verify FILE` needs no database."""
    settings = read_settings(home)
    address = with_database(settings).database_url or ""
    session_id = session_id_of(session, settings)
    try:
        with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
            asyncio.run(_export(address, session_id, file))
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except OSError as error:
        raise BadPath(f"{output or 'standard output'} cannot be written: {error.strerror}") from error


async def _export(address: str, session_id: SessionId, file: BinaryIO) -> None:
    # Imported here: SQLAlchemy takes a while, and --help needs none of it.
    from app.database import transaction  # noqa: PLC0415
    from app.events.proof.export import export as lines_of  # noqa: PLC0415
    from app.events.read import stream_state  # noqa: PLC0415

    async with engine_of(address) as engine:
        async with transaction(engine) as db:
            state = await stream_state(db, session_id)
        async for line in lines_of(engine, state):
            file.write(line)
    file.flush()
