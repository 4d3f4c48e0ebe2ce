"""What a project agreed on, its formatter and how its tests are run, as its files say."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from workers.reading.process import ask


@dataclass(frozen=True, slots=True)
class Agreement:
    """`options` make ruff format as the agreed formatter would."""

    formatter: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """How a project's tests are run, and in how many files they are. `plugins`: what the project names of the pytest
    plugins that are here."""

    style: Literal["pytest", "unittest"]
    files: int
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conventions:
    """`remarks` say what was not understood."""

    agreement: Agreement | None
    suite: Suite | None
    remarks: tuple[str, ...] = ()


async def read_conventions(worktree: Path) -> Conventions:
    (said,) = await ask("planning", {"worktree": str(worktree), "plugins": _plugins()})
    agreement, suite = said["agreement"], said["suite"]
    return Conventions(
        Agreement(agreement["formatter"], tuple(agreement["options"])) if agreement else None,
        Suite(suite["style"], suite["files"], tuple(suite["plugins"])) if suite else None,
        tuple(said["remarks"]),
    )


@lru_cache(maxsize=1)
def _plugins() -> Sequence[tuple[str, str]]:
    """pytest's plugins that are installed here, each with its distribution."""
    found = importlib.metadata.entry_points(group="pytest11")
    return sorted((plugin.name, plugin.dist.name) for plugin in found if plugin.dist)
