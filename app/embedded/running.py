"""The one stack of a home: its lock, and the file that tells other programs where it is."""

import fcntl
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from app.embedded.home import open_private, read_private, write_private
from app.errors import StackRunning

FILE = "stellwerk.json"
LOCK = "stack.lock"


@dataclass(frozen=True, slots=True)
class StackInfo:
    """What `stellwerk.json` holds."""

    url: str
    token: str
    pid: int
    database_url: str
    redis_url: str


def running_stack(home: Path) -> StackInfo | None:
    """The stack that runs on this home. A file whose stack was killed does not count."""
    content = read_private(home / FILE)
    try:
        info = StackInfo(**content)
    except TypeError:
        return None
    # The lock, since after a kill the pid may be another process's by now.
    return info if psutil.pid_exists(info.pid) and _is_locked(home) else None


def supervisor_pid(home: Path) -> int | None:
    """The process that holds this home, be it still starting or already stopping."""
    return _holder(home) if _is_locked(home) else None


def publish(home: Path, info: StackInfo) -> None:
    write_private(home / FILE, asdict(info))


def withdraw(home: Path) -> None:
    (home / FILE).unlink(missing_ok=True)


class StackLock:
    """Held as long as a stack runs; the kernel releases it with its process, however that ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def take(self, *, patience: float = 30.0) -> None:
        """Raises StackRunning when another supervisor holds it.

        Waits for holders of another kind: a sentinel that still ends a killed stack, a reader that looks.
        """
        deadline = time.monotonic() + patience
        file = open_private(self._home / LOCK)
        while not _try_lock(file, fcntl.LOCK_EX):
            pid = _holder(self._home)
            if others := _foreign_holders(file):
                file.close()
                raise StackRunning(
                    f"{self._home / LOCK} is locked by {' and '.join(others)}, which is no stack: end it"
                )
            if (pid and psutil.pid_exists(pid)) or time.monotonic() >= deadline:
                file.close()
                raise StackRunning(f"a stack is already running on {self._home} (pid {pid}); `stellwerk down` stops it")
            time.sleep(0.05)
        file.truncate(0)
        self._file = file

    def sign(self) -> None:
        """Says that the holder is a supervisor, and which."""
        assert self._file is not None
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _foreign_holders(file: IO[str]) -> list[str]:
    """Processes of other users that hold a lock on the file. Linux only."""
    found = os.fstat(file.fileno())
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except FileNotFoundError:
        return []
    holders = [int(line.split()[4]) for line in lines if name in line.split() and "->" not in line]
    users = {pid: psutil.Process(pid).uids().real for pid in holders if psutil.pid_exists(pid)}
    return [f"process {pid} of user {user}" for pid, user in users.items() if user != os.geteuid()]


def _is_locked(home: Path) -> bool:
    try:
        with (home / LOCK).open() as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _holder(home: Path) -> int | None:
    text = (home / LOCK).read_text()
    return int(text) if text.isdigit() else None
