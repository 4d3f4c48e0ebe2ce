"""The command `stellwerk`: collects the commands of this package and says errors in one line."""

from typing import Any

import typer
from typer.core import TyperGroup

from app.cli import stack
from app.errors import BadInput, StellwerkError


class Commands(TyperGroup):
    """Errors of the project are messages for people, not tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StellwerkError as error:
            typer.secho(f"stellwerk: {error}", fg="red", err=True)
            raise typer.Exit(2 if isinstance(error, BadInput) else 1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-agent workflows on an append-only log that any client resumes at any offset.",
)
for commands in (stack.commands,):
    app.add_typer(commands)
