"""`stellwerk submit`, `sessions`, `show`, `cancel`, `retry`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, local_time, print_json, print_line, print_table, print_text
from app.cli.support.lookup import Session, find_session
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
from app.terminal import clean

commands = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="The gateway's answer as JSON.")]


@commands.command(
    epilog=examples(
        "stellwerk submit --path ~/project",
        """stellwerk submit "sum up" --workflow report --input '{"year": 2026}' --idempotency-key 2026""",
        """stellwerk submit "and in short?" --continues 019b5a3e --config '{"tags": ["short"]}'""",
    )
)
@with_gateway
def submit(
    gateway: GatewayClient,
    task: Annotated[str, typer.Argument(help="What is to be done.")] = DEFAULT_TASK,
    path: PathOption = None,
    repo: RepoOption = None,
    workflow: WorkflowOption = None,
    state: InputOption = None,
    context: ContextOption = None,
    config: ConfigOption = None,
    continues: ContinuesOption = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher ones are admitted first.")] = 0,
    project: Annotated[
        str | None, typer.Option(help="Whose it is; a key has one project, which is understood, else `default`.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and request again give the same session.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Starts a session and prints its id; `stellwerk tail ID --follow` shows it."""
    request = NewSession.parse(
        task,
        path=path,
        repo=repo,
        workflow=workflow,
        state=state,
        context=context,
        config=config,
        continues=continues,
        priority=priority,
        project=project,
    )
    if gateway.address.is_local:
        request.check_path()
    created = create_session(gateway, request, idempotency_key=idempotency_key)
    if as_json:
        print_json(created)
    else:
        print_line(created["session_id"])


@commands.command(
    epilog=examples("stellwerk sessions --status running --status waiting", "stellwerk sessions --all --json")
)
@with_gateway
def sessions(
    gateway: GatewayClient,
    status: Annotated[
        list[str] | None, typer.Option(help="Only those that are running, waiting, failed …; repeatable.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="Only those of this workflow.")] = None,
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only those older than this session.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, page by page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Lists sessions, newest first, with the beginning of each task; `show` has all of it."""
    query = {"status": status, "workflow": workflow, "project": project, "limit": limit}
    page = gateway.get("/sessions", before=before, **query)
    while True:
        if as_json:
            for view in page["sessions"]:
                print_json(view)
        else:
            print_table(
                ("session", "status", "workflow", "created", "task"),
                [
                    (v["session_id"], v["status"], v["workflow"], local_time(v["created_at"]), _beginning(v))
                    for v in page["sessions"]
                ],
            )
        if not everything or page["next"] is None:
            return
        page = gateway.get("/sessions", before=page["next"], **query)


@commands.command(epilog=examples("stellwerk show 019b5a3e", "stellwerk show 019b5a3e --json | jq .result.summary"))
@with_gateway
def show(gateway: GatewayClient, session: Session, as_json: Json = False) -> None:
    """Shows one session: its status, its steps, its result."""
    view = gateway.get(f"/sessions/{find_session(gateway, session)}")
    if as_json:
        print_json(view)
        return
    told = ("session_id", "project", "principal", "status", "reason", "task", "workflow", "workflow_version")
    for name in (*told, "path", "repo", "continues", "head"):
        if view.get(name) is not None:
            _print_field(name, view[name])
    for name in ("created_at", "ended_at"):
        if view[name]:
            _print_field(name, local_time(view[name]))
    print_table(
        ("step", "agent", "status", "attempt", "progress", "started", "error"),
        [
            (
                step["step"],
                step["agent"],
                step["status"],
                step["attempt"],
                "" if step["progress"] is None else f"{step['progress']:.0%}",
                local_time(step["started_at"]),
                step["error"] or "",
            )
            for step in view["steps"]
        ],
    )
    result = view["result"]
    for name, value in result.items() if isinstance(result, dict) else []:
        _print_field(name, value)


Reason = Annotated[str | None, typer.Option(help="Why; it is kept in the log.")]


@commands.command(epilog=examples('stellwerk cancel 019b5a3e --reason "the wrong branch"'))
@with_gateway
def cancel(gateway: GatewayClient, session: Session, reason: Reason = None, as_json: Json = False) -> None:
    """Ends a session and its open steps."""
    _control(gateway, session, "cancel", reason, as_json)


@commands.command(epilog=examples("stellwerk retry 019b5a3e", 'stellwerk retry 019b5a3e --reason "room again"'))
@with_gateway
def retry(gateway: GatewayClient, session: Session, reason: Reason = None, as_json: Json = False) -> None:
    """Takes a failed session up from its failed step, in the same log."""
    _control(gateway, session, "retry", reason, as_json)


def _control(gateway: GatewayClient, session: str, verb: str, reason: str | None, as_json: bool) -> None:
    session_id = find_session(gateway, session)
    view = gateway.post(f"/sessions/{session_id}/{verb}", {"reason": reason}, once=True)
    if as_json:
        print_json(view)
    else:
        print_line(f"{session_id} {view['status']}")


def _beginning(view: Mapping[str, Any]) -> str:
    return f"{view['task']}…" if view["task_is_cut"] else str(view["task"])


def _print_field(name: str, value: object) -> None:
    print_text(f"{name.replace('_', ' '):<17} {clean(value)}")
