"""`stellwerk up` and `stellwerk down`."""

import signal
import time
from types import FrameType
from typing import Annotated

import typer

from app.cli.console import examples
from app.cli.support.background_stack import Home, stop_stack
from app.cli.support.configured import read_settings
from app.embedded.running import StackInfo
from app.key_shapes import without_passwords
from app.privacy import be_private
from app.terminal import clean_lines

commands = typer.Typer()


@commands.command(epilog=examples("stellwerk up", "stellwerk up --port 8000 --workers 4"))
def up(
    port: Annotated[int | None, typer.Option(help="The gateway's port; else the one used before.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    home: Home = None,
) -> None:
    """Runs servers, workers and gateway in the foreground."""
    # Imported here: it imports Alembic, which would slow down every other command.
    from app.embedded.supervisor import Stack  # noqa: PLC0415

    be_private()
    settings = read_settings(home)
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    stack = Stack(settings, workers=workers, say=_say)

    def end(number: int, frame: FrameType | None) -> None:
        if stack.is_stopping and number == signal.SIGINT:
            stack.kill()
        stack.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it for SIGHUP
            signal.signal(number, end)
    with stack:
        if not stack.is_stopping:
            for refused in stack.refused:
                _say(f"warning: {without_passwords(refused)}")
            _say_ready(stack.info)
        stack.watch()
        _say("stopping")
    _say("stopped")


@commands.command(epilog=examples("stellwerk down"))
def down(home: Home = None) -> None:
    """Stops the stack that runs on this home."""
    stop_stack(read_settings(home).home)
    _say("stopped")


def _say(message: str) -> None:
    typer.echo(f"{time.strftime('%H:%M:%S')} {clean_lines(message)}")


def _say_ready(info: StackInfo) -> None:
    _say("ready; Ctrl-C stops")
    for name, value in (
        ("page", f"{info.url}/#token={info.token}"),
        ("gateway", info.url),
        # Not into the terminal's scrollback; stellwerk.json has the passwords.
        ("database", without_passwords(info.database_url)),
        ("redis", without_passwords(info.redis_url)),
    ):
        typer.echo(f"  {name:<9} {value}")
