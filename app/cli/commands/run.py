"""`stellwerk run`: the whole job from one command, with a stack of its own where none is running.

find or start a stack ─▶ submit ─▶ follow to the end ─▶ result ─▶ stop the stack that was started
"""

import signal
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from app.cli.client import GatewayClient, Token, Url, chosen_address, chosen_token
from app.cli.console import examples, say
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings
from app.cli.support.display import choose_display
from app.cli.support.event_reader import EventReader
from app.cli.support.request import (
    DEFAULT_TASK,
    ConfigOption,
    ContextOption,
    ContinuesOption,
    InputOption,
    NewSession,
    PathOption,
    RepoOption,
    WorkflowOption,
    create_session,
)
from app.cli.support.result import print_result
from app.cli.support.shared_stack import UsedStack, use_stack
from app.errors import GatewayRefused

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
    workflow: WorkflowOption = None,
    state: InputOption = None,
    context: ContextOption = None,
    config: ConfigOption = None,
    continues: ContinuesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The events as JSON lines, and nothing else.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="A stack that this command started goes on running.")] = False,
    url: Url = None,
    token: Token = None,
    home: Home = None,
) -> None:
    """Runs a session and shows it live; without a project it repairs a small sample.

    Exit status: 0 succeeded, 1 failed or cancelled, 2 bad usage, 130 interrupted.
    """
    request = NewSession.parse(
        task,
        path=path,
        repo=repo,
        workflow=workflow,
        state=state,
        context=context,
        config=config,
        continues=continues,
    )
    settings = read_settings(home)
    chosen, opener = chosen_address(settings, url, token), chosen_token(settings, token)
    if chosen is None or chosen.is_local:
        request.check_path()
        if request.wants_sample:
            request = replace(request, path=_sample())
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    stack: UsedStack | None = None
    session_id: str | None = None
    try:
        with use_stack(chosen, settings.home, opener, keep=keep) as stack, GatewayClient(stack.address) as gateway:
            say(f"page     {stack.address.page}")
            session_id = _submit(gateway, request, fresh=stack.is_fresh)
            say(f"session  {session_id}")
            closing = _follow(gateway, session_id, stack, as_json=as_json)
            if not as_json:
                print_result(closing, request.path)
    except KeyboardInterrupt:
        say(_farewell(session_id, stack))
        raise typer.Exit(INTERRUPTED) from None
    if closing["status"] != "succeeded":
        say(f"the session {closing['status']}: {closing.get('reason') or 'no reason was given'}")
        raise typer.Exit(1)


def _submit(gateway: GatewayClient, request: NewSession, *, fresh: bool) -> str:
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, GatewayRefused) and error.kind == "unknown-workflow"),
        stop=stop_after_delay(REGISTER_SECONDS if fresh else 0),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    return str(retrying(create_session, gateway, request)["session_id"])


def _follow(gateway: GatewayClient, session_id: str, stack: UsedStack, *, as_json: bool) -> Mapping[str, Any]:
    """The closing event."""
    content: Mapping[str, Any] = {}
    reader = EventReader(gateway, session_id, notice=say, before_retry=stack.check)
    with choose_display(as_json=as_json) as display:
        for event in reader.to_end():
            content = event.parsed()
            display.show(event, content)
    return content


def _farewell(session_id: str | None, stack: UsedStack | None) -> str:
    if session_id is None:
        return "interrupted before the session was started"
    if stack is None or stack.stopped:
        return f"interrupted: session {session_id} goes on at the next `stellwerk up`"
    return f"detached: the session goes on; attach again with `stellwerk tail {session_id} --follow`"


def _sample() -> Path:
    # Imported here: the other commands need nothing of the workers.
    from workers.workflows.sample import write_sample  # noqa: PLC0415

    directory = Path(tempfile.mkdtemp(prefix="stellwerk-sample-")).resolve()
    write_sample(directory)
    say(f"sample   {directory}")
    return directory


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Does what Ctrl-C does: a stack that was started must not stay."""
    raise KeyboardInterrupt
