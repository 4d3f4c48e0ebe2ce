"""What `stellwerk doctor` says of models: who does each agent's work and why, and whether the providers answer."""

import subprocess
from collections.abc import Iterator

import httpx

from app.cli.support.finding import FAIL, OK, WARN, Finding
from app.config import Settings

PATIENCE = 5  # seconds for each provider
ANTHROPIC = "https://api.anthropic.com"
OPENAI = "https://api.openai.com/v1"


def examine_models(settings: Settings) -> Iterator[Finding]:
    from workers.models.providers import AGENTS, choose  # noqa: PLC0415 - only this command needs the workers

    used = set()
    for agent in AGENTS:
        choice = choose(agent, settings)
        if choice.missing is not None:
            yield Finding(FAIL, agent, f"{choice.provider}, because {choice.why}; but {choice.missing}")
            continue
        used.add(choice.provider)
        yield Finding(OK, agent, f"{choice.provider or 'rules'}, because {choice.why}")
    if "openai" in used:
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
        yield _answers("openai", f"{settings.openai_base_url or OPENAI}/models", {"Authorization": f"Bearer {key}"})
    if "perplexity" in used:
        key = settings.perplexity_api_key.get_secret_value() if settings.perplexity_api_key else ""
        yield _answers("perplexity", f"{settings.perplexity_base_url}/models", {"Authorization": f"Bearer {key}"})
    if "claude" in used:
        yield from _claude(settings)


def _claude(settings: Settings) -> Iterator[Finding]:
    from workers.models.providers import find_claude  # noqa: PLC0415

    command = find_claude(settings)
    assert command is not None  # else something would be missing
    try:
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(FAIL, "claude", f"{command} does not run: {error}")
        return
    yield Finding(OK, "claude", f"{command}: {said.stdout.strip()}")
    if settings.anthropic_api_key is None:
        yield Finding(WARN, "anthropic", "no key: the CLI has to be logged in")
        return
    headers = {"x-api-key": settings.anthropic_api_key.get_secret_value(), "anthropic-version": "2023-06-01"}
    yield _answers("anthropic", f"{settings.anthropic_base_url or ANTHROPIC}/v1/models", headers)


def _answers(name: str, url: str, headers: dict[str, str]) -> Finding:
    try:
        answer = httpx.get(url, headers=headers, timeout=PATIENCE)
    except httpx.TransportError as error:
        return Finding(FAIL, name, f"{url} does not answer: {error}")
    if answer.status_code in {401, 403}:
        return Finding(FAIL, name, f"{url} refuses the key: {answer.text[:200]}")
    if not answer.is_success:  # not every compatible server lists its models
        return Finding(
            WARN, name, f"{url} answers {answer.status_code}; whether the key is good shows at the first call"
        )
    return Finding(OK, name, f"{url} answers, and takes the key")
