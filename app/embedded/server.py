"""What the embedded servers share: a home, access that is kept in it, a process, and waiting until that is ready."""

import time
from collections.abc import Callable
from pathlib import Path

from app.embedded.home import Access, make_home
from app.embedded.process import ChildProcess
from app.errors import EmbeddedServerError


class EmbeddedServer:
    """A server on loopback. Data, port and password survive in `home`, whatever ended its last life."""

    name: str

    def __init__(self, home: Path, *, give_up: Callable[[], bool] = lambda: False) -> None:
        """A `start` that waits ends when `give_up` says so."""
        self._home = make_home(home)
        self._give_up = give_up
        self._access = Access(0, "")
        self._process: ChildProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def start(self) -> None:
        """Returns when the server answers. Raises EmbeddedServerError."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """Ends it at once; the next start recovers."""
        if self._process is not None:
            self._process.kill()

    def _await(self, is_ready: Callable[[], bool], *, title: str, work: str, patience: float) -> None:
        """Waits at most `patience` seconds; `work` says what the server does meanwhile."""
        assert self._process is not None
        deadline = time.monotonic() + patience
        while not is_ready():
            if not self._process.is_running:
                raise EmbeddedServerError(f"{title} does not start:\n{self._process.last_words()}")
            if self._give_up() or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedServerError(f"{title} was still {work} when its start was given up")
            time.sleep(0.02)
