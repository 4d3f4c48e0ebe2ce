"""What the Claude CLI writes with `--output-format stream-json`: one JSON object a line, read into what it says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.errors import ModelFaltered
from workers.tools.files import shown

MAX_TEXT = 4000
TARGETS = ("file_path", "path", "notebook_path", "pattern", "command", "url", "query", "description")
"""Which argument of a tool says best what it is used on, first come first served."""


@dataclass(frozen=True, slots=True)
class Began:
    model: str
    cli_session: str
    servers: Mapping[str, str]
    """MCP servers and whether they are connected."""


@dataclass(frozen=True, slots=True)
class Thought:
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class UsedTool:
    tool: str
    target: str


@dataclass(frozen=True, slots=True)
class Denied:
    tool: str
    message: str


@dataclass(frozen=True, slots=True)
class Retried:
    """The provider failed the CLI, which tries again by itself."""

    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The last line. `is_error` counts, whatever `subtype` says."""

    text: str
    is_error: bool
    subtype: str
    terminal_reason: str | None
    status: int | None
    turns: int
    cost: float | None
    duration_ms: float
    usage: dict[str, int] = field(default_factory=dict)


Said = Began | Thought | UsedTool | Denied | Retried | Result


def read_line(line: bytes) -> Iterator[Said]:
    """Lines that say nothing to us, also those of later versions, say nothing. Raises ModelFaltered for no JSON."""
    if not line.strip():
        return
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        begin = shown(line[:200].decode(errors="replace"))
        raise ModelFaltered(f"the Claude CLI wrote a line that is no JSON ({error}): {begin}") from error
    match content:
        case {"type": "system", "subtype": "init"}:
            servers = {server["name"]: server["status"] for server in content.get("mcp_servers", [])}
            yield Began(content.get("model", ""), content.get("session_id", ""), servers)
        case {"type": "system", "subtype": "permission_denied"}:
            yield Denied(content.get("tool_name", ""), content.get("message", ""))
        case {"type": "system", "subtype": "api_retry"}:
            yield Retried(
                {key: content[key] for key in content if key not in {"type", "subtype", "uuid", "session_id"}}
            )
        case {"type": "assistant", "message": {"model": "<synthetic>"}}:
            pass  # the CLI's own words on an error, which the result repeats
        case {"type": "assistant", "message": {"content": [*blocks]}}:
            for block in blocks:
                yield from _read_block(block)
        case {"type": "result"}:
            yield _read_result(content)


def _read_block(block: Mapping[str, Any]) -> Iterator[Said]:
    match block:
        case {"type": "text", "text": str(text)} if text.strip():
            yield Thought(shown(text.strip()[:MAX_TEXT]), "text")
        case {"type": "thinking", "thinking": str(text)} if text.strip():
            yield Thought(shown(text.strip()[:MAX_TEXT]), "reasoning")
        case {"type": "tool_use", "name": str(name), "input": dict(arguments)}:
            targets = (arguments[key] for key in TARGETS if isinstance(arguments.get(key), str))
            yield UsedTool(name, shown(next(targets, "")[:300]))


def _read_result(content: Mapping[str, Any]) -> Result:
    usage = content.get("usage") or {}
    cached = (usage.get("cache_creation_input_tokens") or 0) + (usage.get("cache_read_input_tokens") or 0)
    return Result(
        text=shown(str(content.get("result") or "")),
        is_error=bool(content.get("is_error")),
        subtype=str(content.get("subtype")),
        terminal_reason=content.get("terminal_reason"),
        status=content.get("api_error_status"),
        turns=content.get("num_turns") or 0,
        cost=content.get("total_cost_usd"),
        duration_ms=content.get("duration_ms") or 0,
        usage={
            "input_tokens": (usage.get("input_tokens") or 0) + cached,
            "output_tokens": usage.get("output_tokens") or 0,
        },
    )
