"""What a process of ours keeps from others on its machine, and what it does not know itself."""

import ctypes
import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `stellwerk --help` need not wait for what settings are made of
    from app.config import Settings

PREFIX = "STELLWERK_"

NOT_FOR_WORKERS = ("token", "migrate_url")
NOT_FOR_GATEWAYS = ("migrate_url",)
"""Settings that open more than the process needs."""

_PR_SET_DUMPABLE = 4


def variables(names: Collection[str]) -> frozenset[str]:
    """The environment variables of these settings."""
    return frozenset(f"{PREFIX}{name.upper()}" for name in names)


def be_private(*, forget: Collection[str] = ()) -> None:
    """Call it where a process begins. What it starts does not get the settings that it is to forget.

    What it starts has the same account, so files of /proc and ptrace would open it to that: to a project's tests, say.
    Linux only; elsewhere there is no such call.
    """
    os.umask(0o077)
    for name in variables(forget):
        os.environ.pop(name, None)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def without(settings: "Settings", forget: Collection[str]) -> "Settings":
    """The settings that are left, wherever they come from: every process reads a `.env` file that lies about."""
    return settings.model_copy(update=dict.fromkeys(forget))
