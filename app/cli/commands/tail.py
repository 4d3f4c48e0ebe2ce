"""`stellwerk tail`: a session's events, once each and in order."""

from typing import Annotated

import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, print_json_text, print_text, say
from app.cli.support.describe import describe
from app.cli.support.event_reader import EventReader
from app.cli.support.lookup import Session, find_session

commands = typer.Typer()


@commands.command(
    epilog=examples("stellwerk tail 019b5a3e --follow", "stellwerk tail 019b5a3e --after 41 --json | jq .msg")
)
@with_gateway
def tail(
    gateway: GatewayClient,
    session: Session,
    after: Annotated[str, typer.Option(help="Only what comes after this id, as `id:` or an offset has it.")] = "0",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the session ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The events themselves, one JSON object a line.")] = False,
) -> None:
    """Prints a session's events; with --follow also those to come, over as many connections as that takes."""
    reader = EventReader(gateway, find_session(gateway, session), after=after, notice=say)
    for event in reader.to_end() if follow else reader.to_head():
        if as_json:
            print_json_text(event.line)
        else:
            print_text(describe(event.parsed(), event.id))
