"""A stack in the background, for `stellwerk run`: started, waited for, and stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from app.embedded.home import make_home
from app.embedded.process import open_log
from app.embedded.running import StackInfo, running_stack, supervisor_pid
from app.errors import EmbeddedServerError

STOP_PATIENCE = 25.0  # `up` has ended 20 s after SIGTERM
Home = Annotated[Path | None, typer.Option(help="Where data, port and token are kept.", envvar="STELLWERK_HOME")]


def stop_stack(home: Path) -> None:
    """Returns when it has ended. Raises EmbeddedServerError when there is none, or it does not end."""
    pid = supervisor_pid(home)
    if pid is None:
        raise EmbeddedServerError(f"no stack is running on {home}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_PATIENCE
    while supervisor_pid(home) == pid:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"the stack (pid {pid}) was still running after {STOP_PATIENCE:.0f} s")
        time.sleep(0.05)


class BackgroundStack:
    """A `stellwerk up` of our own, in a process group of its own, that is stopped when we are done."""

    def __init__(self, home: Path) -> None:
        self._home = make_home(home)
        self._log = open_log(self._home, "up")
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", "up"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "STELLWERK_HOME": str(self._home)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> StackInfo:
        """Raises EmbeddedServerError with what `up` said last."""
        while (info := running_stack(self._home)) is None or info.pid != self._process.pid:
            if self._process.poll() is not None:
                said = self._log.read_text(errors="replace").strip()
                raise EmbeddedServerError(said.removeprefix("stellwerk: ") or "the stack does not start")
            time.sleep(0.05)
        return info

    def stop(self) -> None:
        """Returns when everything has been stopped."""
        self._process.terminate()
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the sentinel ends the rest
            self._process.wait()


def start_in_background(home: Path) -> tuple[BackgroundStack, StackInfo]:
    """Starts a stack on `home` and waits until it is ready. Raises EmbeddedServerError."""
    stack = BackgroundStack(home)
    try:
        return stack, stack.wait_ready()
    except BaseException:  # a Ctrl-C, too, must not let it run on
        stack.stop()
        raise
