"""`stellwerk logout`: ends the sign-ins of browsers."""

from typing import Annotated

import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, print_line
from app.errors import BadInput

commands = typer.Typer()


@commands.command(epilog=examples("stellwerk logout --all --reason 'the laptop was lost'"))
@with_gateway
def logout(
    gateway: GatewayClient,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every browser of the project, or of the deployment.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.")] = None,
) -> None:
    """Signs all browsers out, within ten seconds; tokens and keys go on.

    One browser signs itself out on the page.
    """
    if not everyone:
        raise BadInput("say --all: this ends the cookies of all browsers; one browser signs itself out on the page")
    ended = gateway.post("/logins/revoke", {"reason": reason})
    of = f"the project {ended['project']!r}" if ended["project"] else "the deployment"
    print_line(f"all browsers of {of} are signed out; they sign in again with a token or key")
