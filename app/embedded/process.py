"""Child processes in sessions of their own, with rotated logs."""

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Thread

from app.embedded.home import make_directory

LOG_BYTES = 5 * 1024 * 1024
LOG_FILES = 3


class ChildProcess:
    """A started process whose output goes, line by line, to a rotated file.

    It has a session of its own: a Ctrl-C on the terminal reaches only the supervisor, which then stops its
    children in order. The output passes through a pipe, since only then can the file be rotated below a
    process that knows nothing of it.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        directory: Path | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        """What `redact` makes of a line is what is kept of it: agents and libraries print what they like."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self._redact = redact
        self._last_lines: deque[str] = deque(maxlen=10)
        self._copier = Thread(target=self._copy_output, args=(log,), name=f"{log.stem}-log", daemon=True)
        self._copier.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def last_words(self) -> str:
        """The end of the output, for an error message."""
        self._copier.join(timeout=1)
        return "\n".join(self._last_lines)

    def ask(self, sign: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process has ended."""
        if self.is_running:
            self._process.send_signal(sign)

    def kill(self) -> None:
        """Ends the process and its group at once."""
        if self.is_running:  # unreaped, so its pid cannot be another group's by now
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self, patience: float) -> None:
        """Waits for the end, `patience` seconds at most; then kills."""
        try:
            self._process.wait(max(patience, 0))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._copier.join(timeout=1)

    def _copy_output(self, log: Path) -> None:
        assert self._process.stdout is not None
        handler = RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
        with self._process.stdout as output:
            for raw in output:
                line = self._redact(raw.decode(errors="replace").rstrip("\n"))
                self._last_lines.append(line)
                handler.emit(logging.makeLogRecord({"msg": line}))
        handler.close()


def open_log(home: Path, name: str) -> Path:
    """The log file of the part called `name`."""
    path = make_directory(home / "logs") / f"{name}.log"
    path.touch(mode=0o600)
    return path
