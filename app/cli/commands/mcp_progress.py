"""`stellwerk mcp-progress`: report_progress() as a tool, for agents inside of programs that speak MCP.

Such a program starts this server over stdio, with the step's address and token in the environment; what its agent
reports goes through the gateway into the session's log.
"""

from typing import Annotated

import typer

from app.cli.console import examples
from app.errors import NoCurrentStep

commands = typer.Typer()


@commands.command(
    "mcp-progress",
    epilog=examples("claude -p 'tidy up' --mcp-config bridge.json --allowedTools mcp__stellwerk__report_progress"),
)
def mcp_progress(
    url: Annotated[str | None, typer.Option(envvar="STELLWERK_URL", help="The gateway's address.")] = None,
    session: Annotated[str | None, typer.Option(envvar="STELLWERK_SESSION", help="The session's id.")] = None,
    step_token: Annotated[str | None, typer.Option(envvar="STELLWERK_STEP_TOKEN", help="The step's token.")] = None,
) -> None:
    """An MCP server over stdio, with the tools report_progress and record_decision."""
    if not (url and session and step_token):
        raise NoCurrentStep("STELLWERK_URL, STELLWERK_SESSION and STELLWERK_STEP_TOKEN are not all set")
    # Imported here: half a second that other commands need not wait.
    from app.cli.support.mcp_server import serve  # noqa: PLC0415

    serve(f"{url.rstrip('/')}/sessions/{session}/events", step_token)
