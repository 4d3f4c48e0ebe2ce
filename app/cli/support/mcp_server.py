"""The MCP server of `stellwerk mcp-progress`: two tools, each of which appends an event over HTTP."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
from mcp.server.mcpserver import MCPServer
from pydantic import Field

PATIENCE = 20.0

Share = Annotated[float, Field(ge=0, le=1)]


def serve(address: str, token: str) -> None:
    """Serves until standard input ends."""
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
        """Records a decision that a person may want explained later, why it was made, and how sure you are."""
        details = {"decision": decision, "reasoning": reasoning, "confidence": confidence}
        return await send({"progress": 1.0, "message": f"🎯 {decision}", "phase": "decision", "details": details})

    server.run("stdio")
