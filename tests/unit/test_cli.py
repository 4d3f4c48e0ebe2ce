"""The command line's pure parts, and what it must not import."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.client import Address
from app.cli.main import app
from app.cli.support.describe import describe, is_news
from app.cli.support.durations import parse_duration
from app.cli.support.result import top_of
from app.errors import BadInput
from app.terminal import clean

ENVELOPE = {"offset": 1, "session_id": "s", "ts": "2026-11-22T10:00:00.000000Z"}


def report(**changes: Any) -> dict[str, Any]:
    event = {"t": "agent_event", "agent": "codesmith", "phase": "progress", "msg": "m", "pct": 0.3, "details": {}}
    return ENVELOPE | event | changes


def test_starting_loads_nothing_heavy() -> None:
    heavy = {"celery", "langgraph", "sqlalchemy", "fastapi", "kombu", "redis", "alembic", "psycopg", "workers"}
    heavy |= {"httpx", "pydantic", "pydantic_settings", "mcp"}
    code = "import sys, app.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "typer" in loaded.split()
    assert not heavy & set(loaded.split())


COMMANDS = [
    "run",
    "up",
    "down",
    "submit",
    "sessions",
    "show",
    "cancel",
    "retry",
    "tail",
    "patch",
    "apply",
    "approvals",
    "answer",
    "progress",
    "rebuild",
    "prune",
    "doctor",
    "settings",
    "openapi",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    helped = CliRunner().invoke(app, [command, "--help"])
    assert helped.exit_code == 0
    assert f"stellwerk {command}" in helped.stdout.partition("Examples:")[2]


def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_PORT", "harbour")
    refused = CliRunner().invoke(app, ["sessions"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("stellwerk: STELLWERK_PORT: Input should be a valid integer")


def test_what_agents_say_neither_moves_the_cursor_nor_is_markup() -> None:
    line = describe(report(msg="\x1b[2J[bold]x[/bold]\r\nnext\x9b1m"), "7")
    assert line.plain.endswith("codesmith  30%  [2J[bold]x[/bold]  next 1m")
    assert clean("a\tb\u2028c") == "a b c"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (report(pct=None), "codesmith  m"),
        (
            report(phase="decision", msg="🎯", details={"reasoning": "why", "confidence": 0.9}),
            "codesmith  🎯: why (90% sure)",
        ),
        (
            {"t": "step_event", "step": 2, "agent": "a", "status": "lost", "attempt": 2, "error": "e"},
            "a          step 2, attempt 2 lost: e",
        ),
        ({"t": "workflow_event", "node": "a", "delta": {"x": 1, "y": 2}}, "a          updated x, y"),
        ({"t": "workflow_event", "node": "a", "delta": None}, "a          updated the state"),
        ({"t": "session_event", "status": "failed", "reason": "r"}, "session    failed: r"),
        (
            {"t": "approval_event", "step": 4, "status": "requested", "question": {"q": 1}},
            'step 4     asks {"q":1}; answer with `stellwerk answer s 4 --question 2.7 --verdict approved`',
        ),
        (
            {"t": "approval_event", "step": 4, "status": "rejected", "principal": "p", "comment": "c"},
            "step 4     rejected by p: c",
        ),
        (
            {"t": "tool_event", "agent": "a", "name": "search", "duration_ms": 1234.5, "error": "e"},
            "a          search 1.2 s: e",
        ),
        ({"t": "erased_event"}, "erased     {}"),
    ],
)
def test_events_in_a_line(event: dict[str, Any], said: str) -> None:
    assert describe(ENVELOPE | event, "2.7").plain.partition(" ")[2] == said


def test_what_works_as_it_should_is_no_news() -> None:
    assert not is_news({"t": "step_event", "status": "running"})
    assert not is_news({"t": "workflow_event"})
    assert is_news({"t": "step_event", "status": "lost"})
    assert is_news({"t": "agent_event"})
    assert is_news({"t": "model_event"})


def test_durations() -> None:
    assert parse_duration("30d") == timedelta(days=30)
    assert parse_duration(" 2w ") == timedelta(weeks=2)
    for wrong in ("", "30", "d", "-1d", "1.5h", "1y", "9999999w"):
        with pytest.raises(BadInput, match="it looks like 30d"):
            parse_duration(wrong)


def test_where_a_patch_belongs(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "some" / "project"
    inner.mkdir(parents=True)
    assert top_of(inner).directory == inner.resolve()
    (tmp_path / "repository" / ".git").mkdir()
    assert not top_of(inner).is_repository  # an empty directory is none
    (tmp_path / "repository" / ".git" / "HEAD").touch()
    assert top_of(inner).directory == (tmp_path / "repository").resolve()
    (tmp_path / "link").symlink_to(inner)
    assert top_of(tmp_path / "link").is_repository


def test_addresses() -> None:
    local = Address("http://127.0.0.1:8000", "secret")
    assert local.is_local
    assert local.page == "http://127.0.0.1:8000/#token=secret"
    assert Address("http://[::1]:8000", "x").is_local
    assert not Address("https://stellwerk.example.org", "x").is_local
