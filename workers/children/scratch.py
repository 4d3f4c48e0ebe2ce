"""Throw-away directories, which go away even when the process that made them did not come to it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import psutil

from workers.children.removal import remove_tree

PREFIX = "stellwerk-scratch-"


@asynccontextmanager
async def scratch_directory() -> AsyncIterator[Path]:
    """An empty directory below the temporary one; removed at the end of the block, off the event loop."""
    await asyncio.to_thread(remove_leftovers)
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield directory
    finally:
        await asyncio.to_thread(remove_tree, directory)


@lru_cache(maxsize=1)
def remove_leftovers() -> None:
    """Once per process: what killed processes of this account left."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = directory.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            remove_tree(directory)
