"""`stellwerk patch` and `stellwerk apply`: what a session changed, and putting it into the project."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, print_content, print_line, say
from app.cli.support.lookup import Session, find_session
from app.cli.support.result import top_of
from app.errors import BadInput, BadPath, PatchRefused
from app.terminal import clean

commands = typer.Typer()


@commands.command(
    epilog=examples("stellwerk patch 019b5a3e | less", "stellwerk patch 019b5a3e --output repaired.patch")
)
@with_gateway
def patch(
    gateway: GatewayClient,
    session: Session,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
) -> None:
    """Prints what a session changed, as a patch for `git apply`."""
    content = _read(gateway, find_session(gateway, session))
    if content is None:
        say("nothing was changed")
    elif output is None:
        print_content(content)
    else:
        try:
            output.write_bytes(content)
        except OSError as error:
            raise BadPath(f"{output} cannot be written: {error.strerror}") from error


@commands.command(epilog=examples("stellwerk apply 019b5a3e --check", "stellwerk apply 019b5a3e --path ~/other-clone"))
@with_gateway
def apply(
    gateway: GatewayClient,
    session: Session,
    path: Annotated[Path | None, typer.Option(help="The project; else the one that the session was given.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it would apply.")] = False,
) -> None:
    """Applies what a session changed to the project's files; all of it, or nothing."""
    session_id = find_session(gateway, session)
    project = path or _project_of(gateway, session_id)
    top = top_of(project).directory
    content = _read(gateway, session_id)
    if content is None:
        print_line("nothing was changed, so there is nothing to apply")
        return
    _git_apply(top, content, "--check")
    if check:
        print_line(f"the patch applies to {top}")
        return
    _git_apply(top, content)
    print_line(f"applied to {top}; `git diff` shows it")


def _read(gateway: GatewayClient, session_id: str) -> bytes | None:
    return gateway.get_bytes(f"/sessions/{session_id}/patch")


def _project_of(gateway: GatewayClient, session_id: str) -> Path:
    path = gateway.get(f"/sessions/{session_id}")["path"]
    if path is None:
        raise BadInput("the session was given no directory; say with --path where the patch belongs")
    return Path(path)


def _git_apply(top: Path, content: bytes, *options: str) -> None:
    """Raises PatchRefused with what git said."""
    # Without a repository nothing of it is run or read: no hook, no configuration. And no repository above it
    # makes git take the directory for a part of its own, where it skips all files and says that all is well.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_DIR": os.devnull, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    command = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", *options]
    try:
        done = subprocess.run(command, cwd=top, env=environment, input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise PatchRefused("git is not installed, or not on the PATH") from error
    if done.returncode:
        said = clean(done.stderr.decode(errors="replace").strip().replace("\n", "; "))
        raise PatchRefused(f"the patch does not apply to {top} as it is now; nothing was changed. git said: {said}")
