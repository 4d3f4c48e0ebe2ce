"""`stellwerk mcp-progress`: report_progress() as a tool, for agents inside of programs that speak MCP.

Such a program starts this server over stdio, with the step's address and token in the environment; what its agent
reports goes through the gateway into the session's log.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
import typer
from pydantic import Field

from app.cli.console import examples
from app.errors import NoCurrentStep

PATIENCE = 20.0

commands = typer.Typer()

Share = Annotated[float, Field(ge=0, le=1)]


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
    serve(f"{url.rstrip('/')}/sessions/{session}/events", step_token)


def serve(address: str, token: str) -> None:
    """Until standard input ends."""
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - half a second that other commands need not wait

    server = MCPServer("stellwerk", instructions="Report what you do, and why you decide what you decide.")

    async def send(report: Mapping[str, Any]) -> str:
        # The key lets it be sent again when an answer is lost, without a second event.
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        transport = httpx.AsyncHTTPTransport(retries=2)
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False, transport=transport) as client:
            try:
                answer = await client.post(address, json=report)
            except httpx.TransportError as error:
                return f"not recorded: {error}"
        if not answer.is_success:
            return f"not recorded: {answer.status_code} {answer.text[:500]}"
        return f"recorded at offset {answer.json()['offset']}"

    @server.tool()
    async def report_progress(progress: Share, message: str, phase: Literal["think", "progress"] = "progress") -> str:
        """Says how far the work is (0 to 1) and what is being done now, or what you think about it."""
        return await send({"progress": progress, "message": message, "phase": phase})

    @server.tool()
    async def record_decision(decision: str, reasoning: str, confidence: Share) -> str:
        """Records a decision that somebody may want explained later, why it was made, and how sure you are."""
        details = {"decision": decision, "reasoning": reasoning, "confidence": confidence}
        return await send({"progress": 1.0, "message": f"🎯 {decision}", "phase": "decision", "details": details})

    server.run("stdio")
