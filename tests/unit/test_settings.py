"""Settings: who reads them, and how steps come by theirs."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import PREFIX, Settings
from app.errors import NoCurrentStep
from tests.stacks import ROOT
from workers.settings import current_settings


def test_only_one_function_reads_the_environment() -> None:
    """ruff sees who calls it (TID251), but not who makes Settings without it."""
    calls = {
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for package in ("app", "workers", "migrations")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == Settings.__name__
    }
    assert [call.rpartition(":")[0] for call in calls] == ["app/config.py"], calls


def test_outside_of_a_step_there_are_none() -> None:
    with pytest.raises(NoCurrentStep, match="current_settings"):
        current_settings()


def test_what_a_variable_may_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STELLWERK_LEASE=1.5\nSTELLWERK_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {"PORT": "8000", "RETRY_DELAY": "PT2M", "PATHS": "/a, /b,", "OPENAI_API_KEY": "ours"}.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    monkeypatch.setenv("OPENAI_API_KEY", "everybody's")
    read = Settings()
    assert (read.lease, read.retry_delay) == (timedelta(seconds=1.5), timedelta(minutes=2))
    assert (read.port, read.paths) == (8000, (Path("/a"), Path("/b")))
    assert read.openai_api_key is not None and read.openai_api_key.get_secret_value() == "ours"
