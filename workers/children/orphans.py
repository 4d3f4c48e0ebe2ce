"""Ends what a command left when its guardian was killed, found by the pipes that it still holds. Linux only.

A guardian that lives finds all that came from its command; one that the command itself has killed finds nothing more.
"""

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PROC = Path("/proc")


def end_holders_of(pipes: Collection[int]) -> None:
    """Kills every process that has one of these pipes open, by their inodes, and what shares its session.

    This process reads from the pipes, and is not meant.
    """
    if sys.platform != "linux":
        return
    names = {f"pipe:[{pipe}]" for pipe in pipes}
    holders = [pid for pid in _others() if _holds(pid, names)]
    sessions = {session for pid in holders if (session := _session_of(pid)) not in {None, 0, os.getsid(0)}}
    for pid in _others():
        with _kept(pid) as kept:  # what is looked at is what is killed, whoever gets the number next
            if kept is not None and (_session_of(pid) in sessions or _holds(pid, names)):
                with suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(kept, signal.SIGKILL)


def _others() -> Iterator[int]:
    own = os.getpid()
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != own:
            yield int(entry.name)


@contextmanager
def _kept(pid: int) -> Iterator[int | None]:
    """A descriptor of the process; None where it has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _holds(pid: int, names: Collection[str]) -> bool:
    with suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()) in names:
                    return True
    return False


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        # the second field, a name in parentheses, may hold anything
        return int((_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[3])
    return None
