"""The settings, for commands: each command reads them once, when it needs them, and hands them on."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.embedded.running import running_stack
from app.errors import NoStack

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


def with_database(settings: "Settings") -> "Settings":
    """As `with_servers`, for commands that read Postgres themselves. Raises NoStack where there is no address of it."""
    found = with_servers(settings)
    if found.database_url is None:
        raise NoStack(
            f"no stack is running in {settings.home}: start one with `stellwerk up`, or set STELLWERK_DATABASE_URL"
        )
    return found
