"""Who does which agent's work, by the settings, and why."""

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, assert_never

from app.config import Settings
from app.errors import ProviderNotSetUp
from workers.models.gate import Provider

AgentName = Literal["supervisor", "research", "architect", "codesmith", "reviewfix"]
AGENTS: tuple[AgentName, ...] = ("supervisor", "research", "architect", "codesmith", "reviewfix")

FIRST_CHOICE: dict[AgentName, Provider] = {
    "supervisor": "openai",
    "research": "perplexity",
    "architect": "openai",
    "codesmith": "claude",
    "reviewfix": "claude",
}
BUNDLED = "_bundled/claude"


@dataclass(frozen=True, slots=True)
class Choice:
    """`provider` None: the agent works by rules. `missing` says what to set before the provider can be used."""

    agent: AgentName
    provider: Provider | None
    why: str
    missing: str | None = None

    def usable(self) -> Provider | None:
        """Raises ProviderNotSetUp."""
        if self.missing is not None:
            raise ProviderNotSetUp(f"{self.agent} is to use {self.provider}, but {self.missing}")
        return self.provider


def choose(agent: AgentName, settings: Settings) -> Choice:
    wanted = getattr(settings, agent)
    variable = f"STELLWERK_{agent.upper()}"
    if wanted == "rules":
        return Choice(agent, None, f"{variable}=rules")
    if wanted != "auto":
        return Choice(agent, wanted, f"{variable}={wanted}", missing(wanted, settings))
    first = FIRST_CHOICE[agent]
    found = key_of(first, settings)
    if found is None:
        return Choice(agent, None, f"{_to_set(first)} is not set")
    return Choice(agent, first, f"{found} is set", missing(first, settings))


def key_of(provider: Provider, settings: Settings) -> str | None:
    """The name of the variable that makes this provider the choice."""
    match provider:
        case "openai":
            if settings.openai_api_key:
                return "OPENAI_API_KEY"
            return "OPENAI_BASE_URL" if settings.openai_base_url else None
        case "perplexity":
            return "PERPLEXITY_API_KEY" if settings.perplexity_api_key else None
        case "claude":
            return "ANTHROPIC_API_KEY" if settings.anthropic_api_key else None
        case other:
            assert_never(other)


def missing(provider: Provider, settings: Settings) -> str | None:
    """What stands in the way of using it. The Claude CLI may have a login of its own in place of a key."""
    match provider:
        case "openai" | "perplexity":
            return None if key_of(provider, settings) else f"{_to_set(provider)} is not set"
        case "claude":
            if find_claude(settings) is None:
                return (
                    "there is no Claude CLI: install one, set STELLWERK_CLAUDE_COMMAND, or pip install claude-agent-sdk"
                )
            if settings.claude_permission_mode == "bypassPermissions" and not settings.sandbox:
                return "STELLWERK_CLAUDE_PERMISSION_MODE=bypassPermissions needs STELLWERK_SANDBOX"
            return None
        case other:
            assert_never(other)


def _to_set(provider: Provider) -> str:
    names = {"openai": "OPENAI_API_KEY (or OPENAI_BASE_URL)", "perplexity": "PERPLEXITY_API_KEY"}
    return names.get(provider, "ANTHROPIC_API_KEY")


def find_claude(settings: Settings) -> str | None:
    """The setting's, the one on the PATH, or the copy inside of claude-agent-sdk."""
    if settings.claude_command is not None:
        return shutil.which(settings.claude_command)
    return shutil.which("claude") or _bundled_claude()


def _bundled_claude() -> str | None:
    spec = find_spec("claude_agent_sdk")
    places = spec.submodule_search_locations if spec else None
    return next((str(Path(place, BUNDLED)) for place in places or () if Path(place, BUNDLED).is_file()), None)
