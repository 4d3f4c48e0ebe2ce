"""Room on the disk under the home and the workspaces."""

import errno
import os
from pathlib import Path

from app.config import MIB, Settings
from app.errors import DiskFull

FULL_BYTES = 4 * MIB
"""With less, a disk counts as full for a step that found no room: some keep their last blocks to themselves."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def free_bytes(directory: Path) -> int | None:
    """What this user may still write there; None where the directory is not on this machine."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def check_room(settings: Settings) -> None:
    """Raises DiskFull where new sessions would soon stand still: early, while those that run have room to end."""
    for directory in (settings.workspaces_dir, settings.home):
        free = free_bytes(directory)
        if free is not None and free < settings.min_free_bytes:
            raise DiskFull(
                f"the disk under {directory} has {free // MIB} MiB left, of the {settings.min_free_bytes // MIB} that"
                " new sessions need (STELLWERK_MIN_FREE_BYTES); those that run go on. Make room, then try again"
            )


def found_no_room(error: BaseException, directory: Path) -> bool:
    """Says whether the error came from a disk that is full now, so that waiting helps."""
    is_about_room = (isinstance(error, OSError) and error.errno in _NO_ROOM) or os.strerror(errno.ENOSPC) in str(error)
    free = free_bytes(directory)
    return is_about_room and free is not None and free < FULL_BYTES
