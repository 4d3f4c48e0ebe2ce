"""The settings, for commands: read when one needs them."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.embedded.running import running_stack

if TYPE_CHECKING:
    from app.config import Settings


def settings() -> "Settings":
    """The process's settings. Imported here: pydantic takes longer than everything else that `--help` needs."""
    from app.config import settings as read  # noqa: PLC0415

    return read()


def chosen_home(home: Path | None) -> Path:
    return (home or settings().home).expanduser().absolute()


def settings_of(home: Path | None) -> "Settings":
    """The settings, with the servers of the stack that runs on this home where none are set."""
    directory = chosen_home(home)
    info = running_stack(directory)
    servers = {"database_url": info.database_url, "redis_url": info.redis_url} if info else {}
    return settings().model_copy(update={"home": directory, **servers})
