"""The settings, for commands: each command reads them once, when it needs them, and hands them on."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.embedded.running import running_stack

if TYPE_CHECKING:
    from app.config import Settings


def read_settings(home: Path | None = None) -> "Settings":
    """Reads the process's settings; the option --home, where it is given, goes before them."""
    # Imported here: pydantic takes longer than everything else that `--help` needs.
    from app.config import settings  # noqa: PLC0415

    configured = settings()
    return configured.model_copy(update={"home": (home or configured.home).expanduser().absolute()})


def with_servers(settings: "Settings") -> "Settings":
    """Names the servers of the stack that runs on this home, if one does."""
    info = running_stack(settings.home)
    servers = {"database_url": info.database_url, "redis_url": info.redis_url} if info else {}
    return settings.model_copy(update=servers)
