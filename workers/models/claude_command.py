"""How the Claude CLI is started: its command line, its environment, and the bridge that it reports over."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from app.config import Settings
from app.progress import current_step
from workers.models.providers import find_claude

BRIDGE = "stellwerk"
BRIDGE_TOOLS = (f"mcp__{BRIDGE}__report_progress", f"mcp__{BRIDGE}__record_decision")
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
LOGIN = ("HOME", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN")


def command_line(
    settings: Settings, *, instructions: str, bridge: Path | None, budget_left_usd: float | None
) -> list[str]:
    """The prompt is not in it: other accounts see command lines. Needs a CLI, which `Choice.usable` has checked."""
    claude = find_claude(settings)
    assert claude is not None
    bypasses = settings.claude_permission_mode == "bypassPermissions"
    tools = ",".join(settings.claude_tools)
    allowed = ",".join([*settings.claude_tools, *(BRIDGE_TOOLS if bridge else ())])
    command = [*(shlex.split(settings.sandbox) if bypasses else []), claude, "-p"]
    command += ["--output-format", "stream-json", "--verbose", "--no-session-persistence"]
    command += ["--permission-mode", settings.claude_permission_mode, "--permission-prompts", "none"]
    # Settings that a project brings may hold hooks, which are commands; restricted, the CLI reads none of them and
    # keeps its hands inside the worktree.
    command += ["--setting-sources", ""] if bypasses else ["--restricted"]
    command += ["--tools", tools, "--allowedTools", allowed, "--append-system-prompt", instructions]
    command += ["--strict-mcp-config", *(["--mcp-config", str(bridge)] if bridge else [])]
    command += ["--model", settings.claude_model] if settings.claude_model else []
    command += ["--max-budget-usd", f"{budget_left_usd:.4f}"] if budget_left_usd is not None else []
    return command


def environment(settings: Settings, home: Path) -> dict[str, str]:
    """No token and no key of ours but the one that the CLI needs; without a key, its own login at home."""
    kept = (*PASSED_ON, *PROXIES, *(() if settings.anthropic_api_key else LOGIN))
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    variables |= {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "TMPDIR": str(home)}
    variables["CLAUDE_CODE_MAX_RETRIES"] = str(settings.claude_max_retries)
    if settings.anthropic_api_key:
        places = {"HOME": home, "CLAUDE_CONFIG_DIR": home / "claude"}
        variables |= {name: str(place) for name, place in places.items()}
        variables["ANTHROPIC_API_KEY"] = settings.anthropic_api_key.get_secret_value()
    if settings.anthropic_base_url:
        variables["ANTHROPIC_BASE_URL"] = settings.anthropic_base_url
    if settings.claude_permission_mode == "bypassPermissions":
        variables["IS_SANDBOX"] = "1"
    return variables


def write_bridge(directory: Path) -> Path | None:
    """The file that tells the CLI how to start the bridge; None where no gateway is known."""
    variables = current_step().environment
    if not variables.get("STELLWERK_URL"):
        return None
    file = directory / "bridge.json"
    file.touch(mode=0o600)  # it holds the step's token
    file.write_bytes(orjson.dumps({"mcpServers": {BRIDGE: _server(variables)}}))
    return file


def _server(variables: Mapping[str, str]) -> dict[str, object]:
    # -P: the worktree, where the CLI starts it, may hold a package of any name.
    return {"command": sys.executable, "args": ["-P", "-m", "app.cli", "mcp-progress"], "env": dict(variables)}
