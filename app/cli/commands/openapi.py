"""`stellwerk openapi`: the gateway's contract for programs, without a gateway."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import examples, print_json_text
from app.errors import BadPath

commands = typer.Typer()


@commands.command(epilog=examples("stellwerk openapi", "stellwerk openapi --into app/gateway/openapi.json"))
def openapi(
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="A file instead of standard output.")] = None,
) -> None:
    """Prints the OpenAPI document, as a gateway of this version serves it."""
    # Imported here: FastAPI and SQLAlchemy would slow down every other command.
    from app.config import Settings  # noqa: PLC0415
    from app.gateway.main import create_app  # noqa: PLC0415
    from app.gateway.openapi import text_of  # noqa: PLC0415

    # An application connects only when it is served, so any address does.
    nowhere = Settings.model_validate({"database_url": "postgresql://", "redis_url": "redis://", "token": "none"})
    text = text_of(create_app(nowhere))
    if into is None:
        print_json_text(text.removesuffix("\n"))
        return
    try:
        into.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadPath(f"{into} cannot be written: {error.strerror}") from error
