"""A stack that a `stellwerk run` started is stopped by the last `stellwerk run` that uses it.

Each holds a shared lock on one file of the home; its content is the pid of the stack that goes with them.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.cli.client import Address, stack_address
from app.cli.support.background_stack import BackgroundStack, start_in_background, stop_stack
from app.cli.support.display import busy
from app.embedded.home import make_home, open_private
from app.embedded.running import supervisor_pid
from app.errors import EmbeddedServerError, Unavailable

LOCK = "run.lock"
FRESH_SECONDS = 60.0


@dataclass(slots=True)
class UsedStack:
    """The stack that a run works with; `stopped` says afterwards whether it ended with the run."""

    address: Address
    is_fresh: bool = False
    """Its workers may not have told yet what they serve."""
    stopped: bool = False
    check: Callable[[], None] = lambda: None
    """Raises Unavailable when it has ended."""


@contextmanager
def use_stack(chosen: Address | None, home: Path, token: str | None, *, keep: bool) -> Iterator[UsedStack]:
    """The one that is chosen, else the one that runs on this home, else one that is started there."""
    if chosen is not None:
        yield UsedStack(chosen)
        return
    share = Share(home)
    address, own = _join_or_start(home, token)
    if keep:
        share.keep()
    elif own is not None:
        share.started(own)
    is_fresh = own is not None or _age_seconds(home) < FRESH_SECONDS
    stack = UsedStack(address, is_fresh=is_fresh, check=lambda: _check_running(home))
    try:
        yield stack
    finally:
        stack.stopped = share.leave()


def _join_or_start(home: Path, token: str | None) -> tuple[Address, BackgroundStack | None]:
    while (running := stack_address(home, token)) is None:
        if supervisor_pid(home) is not None:  # a home has room for one
            time.sleep(0.1)
            continue
        try:
            with busy(f"starting Postgres, Valkey, a worker and the gateway in {home} …"):
                own, info = start_in_background(home)
        except EmbeddedServerError:
            if supervisor_pid(home) is None:
                raise  # else another run was quicker
        else:
            return Address(info.url, info.token), own
    return running, None


def _age_seconds(home: Path) -> float:
    pid = supervisor_pid(home)
    try:
        return 0.0 if pid is None else time.time() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _check_running(home: Path) -> None:
    if supervisor_pid(home) is None:
        raise Unavailable(f"the stack in {home} has ended; the session goes on at the next `stellwerk up`")


class Share:
    """One run's share in the stack of a home. The kernel ends it with its process, however that ends."""

    def __init__(self, home: Path) -> None:
        """Waits while the last run of before stops its stack."""
        self._home = make_home(home)
        self._file = open_private(self._home / LOCK)
        fcntl.flock(self._file, fcntl.LOCK_SH)
        self._own: BackgroundStack | None = None

    def started(self, own: BackgroundStack) -> None:
        """The stack goes with the last run, unless `keep` says otherwise."""
        self._own = own
        self._write(str(own.pid))

    def keep(self) -> None:
        """Keeps the stack, whichever run started it."""
        self._write("")

    def leave(self) -> bool:
        """Says whether it stopped the stack: then this was the last run, and the stack was to go with it."""
        with self._file:
            # Shared becomes exclusive in two moves. Of several that leave at once the last one gets it, for
            # those before gave theirs up.
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._file.seek(0)
            if self._file.read() != str(supervisor_pid(self._home)):
                return False
            with busy("stopping the stack …"):
                if self._own is not None:
                    self._own.stop()  # our child: it must be waited for
                else:
                    stop_stack(self._home)
            return True

    def _write(self, content: str) -> None:
        self._file.truncate(0)
        self._file.write(content)
        self._file.flush()
