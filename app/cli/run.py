"""`stellwerk run`: the whole job from one command, with a stack of its own where none is running.

find or start a stack ─▶ submit ─▶ follow to the end ─▶ result ─▶ stop the stack that was started
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from app.cli.client import Address, Gateway, Token, Url, chosen_address, chosen_home, stack_address
from app.cli.console import examples, print_text, say
from app.cli.display import busy, choose_display
from app.cli.follow import Follower
from app.cli.patches import top_of
from app.cli.request import DEFAULT_TASK, InputOption, NewSession, PathOption, RepoOption, WorkflowOption
from app.cli.sessions import create_session
from app.cli.stack import BackgroundStack, Home, start_in_background
from app.embedded.running import supervisor_pid
from app.errors import EmbeddedServerError, GatewayRefused, Unavailable

REGISTER_SECONDS = 30.0  # the worker of a fresh stack registers its workflows a moment after the gateway is ready
INTERRUPTED = 130

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "stellwerk run",
        "stellwerk run --path ~/project",
        'stellwerk run "fix the lint errors" --path . --json | jq .msg',
    )
)
def run(
    task: Annotated[str, typer.Argument(help="What is to be done.")] = DEFAULT_TASK,
    path: PathOption = None,
    repo: RepoOption = None,
    workflow: WorkflowOption = "repair",
    state: InputOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The events as JSON lines, and nothing else.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="A stack that this command started goes on running.")] = False,
    url: Url = None,
    token: Token = None,
    home: Home = None,
) -> None:
    """Runs a session and shows it live; without a project it repairs a small sample.

    Exit status: 0 succeeded, 1 failed or cancelled, 2 bad usage, 130 interrupted.
    """
    request = NewSession.parse(task, path=path, repo=repo, workflow=workflow, state=state)
    chosen = chosen_address(url, token)
    if chosen is None or chosen.is_local:
        request.check_path()
        if request.wants_sample:
            request = replace(request, path=_sample())
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    with _stack(chosen, chosen_home(home), token, keep=keep) as stack, Gateway(stack.address) as gateway:
        say(f"page     {stack.address.page}")
        session_id = _submit(gateway, request, fresh=stack.is_fresh)
        say(f"session  {session_id}")
        closing = _follow(gateway, session_id, stack, as_json=as_json)
    if not as_json:
        _print_result(closing, request)
    elif closing["status"] != "succeeded":
        say(f"the session {closing['status']}: {closing.get('reason')}")
    if closing["status"] != "succeeded":
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class RunStack:
    """The stack that this command works with."""

    address: Address
    is_fresh: bool
    stops: bool
    """With this command."""
    check: Callable[[], None]
    """Raises Unavailable when it has ended."""


@contextmanager
def _stack(chosen: Address | None, home: Path, token: str | None, *, keep: bool) -> Iterator[RunStack]:
    """Starts one if none is running, and stops that one at the end."""
    if chosen is not None:
        yield RunStack(chosen, is_fresh=False, stops=False, check=lambda: None)
        return
    address, background = _join_or_start(home, token)
    stops = background is not None and not keep
    try:
        yield RunStack(address, is_fresh=background is not None, stops=stops, check=lambda: _check_home(home))
    finally:
        if background is not None and not keep:
            _stop(background)


def _join_or_start(home: Path, token: str | None) -> tuple[Address, BackgroundStack | None]:
    with busy(f"looking for a stack in {home} …") as tell:
        while True:
            # One that is starting or stopping is waited for: a home has room for one.
            while (running := stack_address(home, token)) is None and supervisor_pid(home) is not None:
                time.sleep(0.1)
            if running is not None:
                return running, None
            tell(f"starting Postgres, Valkey, a worker and the gateway in {home} …")
            try:
                background, info = start_in_background(home)
            except EmbeddedServerError:
                if supervisor_pid(home) is None:
                    raise
            else:
                return Address(info.url, info.token), background


def _stop(background: BackgroundStack) -> None:
    with busy("stopping the stack …"):
        background.stop()


def _check_home(home: Path) -> None:
    if supervisor_pid(home) is None:
        raise Unavailable(f"the stack in {home} has ended; the session goes on at the next `stellwerk up`")


def _submit(gateway: Gateway, request: NewSession, *, fresh: bool) -> str:
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, GatewayRefused) and error.kind == "unknown-workflow"),
        stop=stop_after_delay(REGISTER_SECONDS if fresh else 0),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    return str(retrying(create_session, gateway, request)["session_id"])


def _follow(gateway: Gateway, session_id: str, stack: RunStack, *, as_json: bool) -> Mapping[str, Any]:
    """The closing event."""
    content: Mapping[str, Any] = {}
    follower = Follower(gateway, session_id, notice=say, before_retry=stack.check)
    try:
        with choose_display(as_json=as_json) as display:
            for event in follower.to_end():
                content = event.parsed()
                display.show(event, content)
    except KeyboardInterrupt:
        if stack.stops:
            say(f"interrupted: session {session_id} goes on at the next `stellwerk up`")
        else:
            say(f"detached: the session goes on; attach again with `stellwerk tail {session_id} --follow`")
        raise typer.Exit(INTERRUPTED) from None
    return content


def _print_result(closing: Mapping[str, Any], request: NewSession) -> None:
    result = closing.get("result")
    if not isinstance(result, dict):
        return
    lines = {
        "findings": _change(result, "findings_before", "findings_after"),
        "tests": _change(result, "tests_before", "tests_after"),
        "branch": result.get("branch"),
        "patch": result.get("patch"),
    }
    print_text("")
    if summary := result.get("summary"):
        print_text(str(summary))
    for name, value in lines.items():
        if value is not None:
            print_text(f"{name:<9} {value}")
    if result.get("patch") is None:
        return
    top = top_of(request.path) if request.path is not None else None
    where = f"-C {top.directory} " if top is not None else ""
    in_repository = f"-C {top.directory} " if top is not None and top.is_repository else ""
    print_text(f"apply     git {where}apply {result['patch']}")
    print_text(f"fetch     git {in_repository}fetch {result['workspace']} {result['branch']}")


def _change(result: Mapping[str, Any], before: str, after: str) -> str | None:
    if before not in result:
        return None
    return f"{_counts(result[before])} → {_counts(result.get(after))}"


def _counts(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return "not run" if value is None else str(value)


def _sample() -> Path:
    # Imported here: the other commands need nothing of the workers.
    from workers.sample import write_sample  # noqa: PLC0415

    directory = Path(tempfile.mkdtemp(prefix="stellwerk-sample-")).resolve()
    write_sample(directory)
    say(f"sample   {directory}")
    return directory


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C: a stack that was started must not be left behind."""
    raise KeyboardInterrupt
