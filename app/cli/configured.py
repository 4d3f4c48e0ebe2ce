"""The settings, for commands: read when one needs them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.config import Settings


def settings() -> "Settings":
    """The process's settings. Imported here: pydantic takes longer than everything else that `--help` needs."""
    from app.config import settings as read  # noqa: PLC0415

    return read()
