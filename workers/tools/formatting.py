"""Finding out whether a project has agreed on a formatter, and what that means for ours."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUFF_FILES = (".ruff.toml", "ruff.toml")
HOOKS = ".pre-commit-config.yaml"


@dataclass(frozen=True, slots=True)
class Agreement:
    """`options` make ruff format as the agreed formatter would."""

    formatter: str
    options: tuple[str, ...] = ()


def agreed_formatter(worktree: Path) -> Agreement | None:
    """Reads it from ruff's or black's settings, or from a pre-commit hook."""
    tool = _load(worktree / "pyproject.toml").get("tool", {})
    hooks = worktree / HOOKS
    named = hooks.read_text("utf-8", "replace") if hooks.is_file() else ""
    in_ruff = any("format" in _load(worktree / name) for name in RUFF_FILES)
    if in_ruff or "format" in tool.get("ruff", {}) or "id: ruff-format" in named:
        return Agreement("ruff format")
    if "black" in tool or "id: black" in named:
        return Agreement("black", tuple(_as_black(tool.get("black", {}))))
    return None


def _as_black(settings: dict[str, Any]) -> list[str]:
    options = ["--line-length", str(settings.get("line-length", 88))]
    if settings.get("skip-string-normalization"):
        options += ["--config", 'format.quote-style = "preserve"']
    if settings.get("skip-magic-trailing-comma"):
        options += ["--config", "format.skip-magic-trailing-comma = true"]
    return options


def _load(file: Path) -> dict[str, Any]:
    """Empty for what is missing or no TOML; ruff itself complains about that."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
