"""The stack's own processes, gateway and workers, and when a part that died is started again."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from app.embedded.process import ChildProcess, open_log
from app.embedded.strays import marked
from app.errors import EmbeddedServerError

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
HEALTHY_AFTER = 30.0
"""After so many seconds of life the delay is the first one again."""

Say = Callable[[str], None]


class Part(Protocol):
    """A server or a service: what the supervisor starts, watches and stops."""

    name: str

    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Service:
    """A command of ours, of Python, that runs as long as the stack does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        environment: Callable[[], Mapping[str, str]],
        *,
        redact: Callable[[str], str] = str,
    ) -> None:
        """The environment is asked for at every start: a server may have come back on another port."""
        self.name = name
        self._command, self._home, self._environment = command, home, environment
        self._redact = redact
        self._process: ChildProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def start(self) -> None:
        self._process = ChildProcess(
            marked(self._command, self._home),
            log=open_log(self._home, self.name),
            environment=self._environment(),
            redact=self._redact,
        )

    def last_words(self) -> str:
        return self._process.last_words() if self._process else ""

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.ask(signal.SIGTERM)

    def stop(self, patience: float = 10.0) -> None:
        if self._process is not None:
            self.ask_to_stop()
            self._process.wait(patience)

    def wait(self, patience: float) -> None:
        if self._process is not None:
            self._process.wait(patience)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class Watch:
    """Starts a part again when it has died, after a delay that doubles until the part stays healthy."""

    def __init__(self, part: Part, say: Say) -> None:
        self._part, self._say = part, say
        self._delay = FIRST_DELAY
        self._started = time.monotonic()
        self._due: float | None = None

    def tend(self) -> None:
        now = time.monotonic()
        if self._part.is_running:
            if now - self._started > HEALTHY_AFTER:
                self._delay = FIRST_DELAY
        elif self._due is None:
            name = self._part.name
            self._say(f"{name} has ended (see logs/{name}.log); it starts again in {self._delay:g} s")
            self._due = now + self._delay
            self._delay = min(self._delay * 2, LONGEST_DELAY)
        elif now >= self._due:
            self._due = None
            self._started = now
            self._start()

    def _start(self) -> None:
        try:
            self._part.start()
        except EmbeddedServerError as error:
            self._say(str(error))
