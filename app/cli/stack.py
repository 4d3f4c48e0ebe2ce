"""`stellwerk up` and `stellwerk down`; and a stack in the background, for `stellwerk run`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from app.cli.configured import settings
from app.cli.console import examples
from app.embedded.home import make_home
from app.embedded.process import open_log
from app.embedded.running import StackInfo, running_stack, supervisor_pid
from app.errors import EmbeddedServerError

if TYPE_CHECKING:
    from app.config import Settings

STOP_PATIENCE = 25.0  # `up` has ended 20 s after SIGTERM

commands = typer.Typer()

Home = Annotated[Path | None, typer.Option(help="Where data, port and token are kept.", envvar="STELLWERK_HOME")]


@commands.command(epilog=examples("stellwerk up", "stellwerk up --port 8000 --workers 4"))
def up(
    port: Annotated[int | None, typer.Option(help="The gateway's port; else the one used before.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    home: Home = None,
) -> None:
    """Runs servers, workers and gateway in the foreground."""
    # Imported here: with Alembic behind it, it would slow down every other command.
    from app.embedded.supervisor import Stack  # noqa: PLC0415

    stack = Stack(_settings(home, port), workers=workers, say=_say)

    def end(number: int, frame: FrameType | None) -> None:
        if stack.is_stopping and number == signal.SIGINT:
            stack.kill()
        stack.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it for SIGHUP
            signal.signal(number, end)
    with stack:
        if not stack.is_stopping:
            _say_ready(stack.info)
        stack.watch()
        _say("stopping")
    _say("stopped")


@commands.command(epilog=examples("stellwerk down"))
def down(home: Home = None) -> None:
    """Stops the stack that runs on this home."""
    stop_stack(_settings(home).home)
    _say("stopped")


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
                [sys.executable, "-m", "app.cli", "up"],
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
    except BaseException:  # a Ctrl-C too must not leave it behind
        stack.stop()
        raise


def _settings(home: Path | None, port: int | None = None) -> "Settings":
    chosen = {"home": home and home.expanduser().absolute(), "port": port}
    return settings().model_copy(update={name: value for name, value in chosen.items() if value is not None})


def _say(message: str) -> None:
    typer.echo(f"{time.strftime('%H:%M:%S')} {message}")


def _say_ready(info: StackInfo) -> None:
    _say("ready; Ctrl-C stops")
    for name, value in (
        ("page", f"{info.url}/?token={info.token}"),
        ("gateway", info.url),
        ("database", _without_password(info.database_url)),
        ("redis", _without_password(info.redis_url)),
    ):
        typer.echo(f"  {name:<9} {value}")


def _without_password(address: str) -> str:
    """For the terminal and its scrollback; who needs the password reads it in stellwerk.json."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
