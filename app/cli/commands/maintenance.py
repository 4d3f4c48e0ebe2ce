"""`stellwerk rebuild`, `prune`, `doctor`: looking after a stack."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli.client import GatewayClient, Token, Url, find_address
from app.cli.console import examples, print_line, print_text, say
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings, with_database, with_servers
from app.cli.support.durations import parse_duration
from app.cli.support.lookup import session_id_of
from app.errors import BadInput, GatewayRefused
from app.progress import SessionId

if TYPE_CHECKING:
    from app.config import Settings

commands = typer.Typer()


@commands.command(epilog=examples("stellwerk rebuild 019b5a3e --check", "stellwerk rebuild --all --check"))
def rebuild(
    session: Annotated[str | None, typer.Argument(help="One session.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare only; exit status 1 where anything differs.")] = False,
    home: Home = None,
) -> None:
    """Folds sessions from their log alone, and compares with their snapshots or replaces these."""
    if (session is None) == (not everything):
        raise BadInput("give a session or --all")
    settings = with_database(read_settings(home))
    session_ids = None if session is None else [session_id_of(session, settings)]
    if asyncio.run(_rebuild(settings, session_ids, check=check)):
        raise typer.Exit(1)


async def _rebuild(settings: "Settings", session_ids: list[SessionId] | None, *, check: bool) -> int:
    """Prints what came of each; returns how many differ."""
    # Imported here: LangGraph and the workflows take seconds.
    from workers.process.rebuild import rebuild as rebuilding  # noqa: PLC0415

    different = count = 0
    async for rebuilt in rebuilding(settings, session_ids, check=check):
        count += 1
        different += rebuilt.status == "different"
        print_text(f"{rebuilt.session_id} {rebuilt.status}{f': {rebuilt.detail}' if rebuilt.detail else ''}")
    say(f"{count} session(s), {different} different")
    return different


@commands.command(epilog=examples("stellwerk prune --older-than 30d", "stellwerk prune --older-than 12h --dry-run"))
def prune(
    older_than: Annotated[str, typer.Option(help="How long ago a session must have ended: 30d, 12h, 2w …")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    url: Url = None,
    token: Token = None,
    home: Home = None,
) -> None:
    """Removes the workspaces of sessions that ended long ago. Their log, results and patches stay.

    Also that stays from which an open session that continues another one is to start.
    """
    ended_before = datetime.now(UTC) - parse_duration(older_than)
    settings = read_settings(home)
    root = settings.workspaces_dir
    count = 0
    with GatewayClient(find_address(settings, url, token)) as gateway:
        needed = _to_be_taken_over(gateway, root)
        for workspace in _workspaces(root):
            if workspace.name not in needed and _has_ended(gateway, workspace.name, ended_before):
                if not dry_run:
                    shutil.rmtree(workspace)
                    (root / ".locks" / workspace.name).unlink(missing_ok=True)
                count += 1
                print_line(str(workspace))
    say(f"{count} workspace(s) {'would be removed' if dry_run else 'removed'} from {root}")


def _workspaces(root: Path) -> Iterator[Path]:
    for directory in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            UUID(directory.name)
        except ValueError:
            continue  # locks, and what is being built
        if directory.is_dir() and not directory.is_symlink():
            yield directory


def _to_be_taken_over(gateway: GatewayClient, root: Path) -> set[str]:
    """Sessions that open ones continue, which have no workspace of their own yet."""
    needed, before = set[str](), None
    while True:
        # In one list: what goes from one status to another between two lists would be in neither.
        page = gateway.get("/sessions", status=["created", "running", "waiting", "paused"], before=before, limit=1000)
        for view in page["sessions"]:
            if view.get("continues") and not (root / view["session_id"]).exists():
                needed.add(view["continues"])
        before = page["next"]
        if before is None:
            return needed


def _has_ended(gateway: GatewayClient, session_id: str, before: datetime) -> bool:
    """A session that this gateway does not know may be another's: its workspace stays."""
    try:
        ended_at = gateway.get(f"/sessions/{session_id}")["ended_at"]
    except GatewayRefused as refused:
        if refused.status == 404:
            say(f"{session_id} is not known to {gateway.address.url}; its workspace stays")
            return False
        raise
    return ended_at is not None and datetime.fromisoformat(ended_at) < before


@commands.command(epilog=examples("stellwerk doctor"))
def doctor(home: Home = None) -> None:
    """Checks what Stellwerk needs and says what to do; exit status 1 where something is broken."""
    # Imported here: it imports Alembic, SQLAlchemy and the clients of all servers.
    from app.cli.support.doctor import examine  # noqa: PLC0415

    worst = 0
    for finding in examine(with_servers(read_settings(home))):
        print_text(finding.line)
        worst = max(worst, finding.level)
    if worst == 2:
        raise typer.Exit(1)
