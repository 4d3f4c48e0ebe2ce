"""The command `stellwerk`: collects the commands of this package and says errors in one line."""

from typing import Any

import typer
from typer.core import TyperGroup

from app.cli.commands import (
    approvals,
    epoch,
    export,
    keys,
    logout,
    maintenance,
    mcp_progress,
    migrate,
    openapi,
    patches,
    progress,
    run,
    sessions,
    settings,
    stack,
    tail,
    verify,
)
from app.cli.console import say, take_any_text
from app.errors import BadInput, GatewayRefused, StellwerkError
from app.key_shapes import without_keys

BAD_REQUEST = frozenset({400, 413, 422})


class Commands(TyperGroup):
    """Errors of the project are messages for people, not tracebacks."""

    def main(self, *args: Any, **options: Any) -> Any:
        take_any_text()
        return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StellwerkError as error:
            say(f"stellwerk: {without_keys(str(error))}")
            raise typer.Exit(exit_status(error)) from None
        except ValueError as error:  # as pydantic's are
            faults = faults_of_settings(error)
            if not faults:
                raise
            say(f"stellwerk: {'; '.join(faults)}")
            raise typer.Exit(2) from None


def faults_of_settings(error: ValueError) -> list[str]:
    """What is wrong with which variable; nothing if the error is about something else."""
    # Imported here: pydantic takes longer than everything else that `--help` needs.
    from pydantic import ValidationError  # noqa: PLC0415

    from app.config import Settings  # noqa: PLC0415

    if not isinstance(error, ValidationError) or error.title != Settings.__name__:
        return []
    return [f"STELLWERK_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors()]


def exit_status(error: StellwerkError) -> int:
    """2 where other arguments would help."""
    if isinstance(error, GatewayRefused):
        return 2 if error.status in BAD_REQUEST else 1
    return 2 if isinstance(error, BadInput) else 1


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-agent workflows on an append-only log that any client resumes at any offset.",
)
PARTS = (
    run,
    stack,
    sessions,
    tail,
    patches,
    approvals,
    keys,
    logout,
    progress,
    mcp_progress,
    maintenance,
    export,
    verify,
    migrate,
    epoch,
    settings,
    openapi,
)
for part in PARTS:
    app.add_typer(part.commands)
