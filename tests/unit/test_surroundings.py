"""What the tests find around them, and that CI runs without an optional program whatever asks for one."""

import os
import shutil
from pathlib import Path

import pytest

from tests.surroundings import forget_the_shell

ROOT = Path(__file__).parents[2]


def test_only_what_every_unix_has_and_git_is_here() -> None:
    assert shutil.which("git") and shutil.which("sh")
    assert not [name for name in ("claude", "chromium", "nginx", "bwrap", "curl", "node") if shutil.which(name)]
    assert ROOT not in Path.cwd().parents and not Path(".env").exists()


def test_the_shell_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ("STELLWERK_BROKER_URL", "OPENAI_API_KEY", "GIT_DIR", "PGSSLMODE", "XDG_DATA_HOME", "NO_COLOR")
    environment = dict.fromkeys(theirs, "theirs") | {"PATH": "ours"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", environment)
        forget_the_shell()
    assert environment == {"PATH": "ours"}


def test_ci_runs_what_asks_for_an_optional_program_also_without_it() -> None:
    plain = (ROOT / ".ci" / "run").read_text().partition("--plain")[2].replace("\\\n", " ").split()
    asking = {path for path in (ROOT / "tests").rglob("test_*.py") if "optional_program(" in path.read_text()}
    assert asking - {Path(__file__)}
    for path in asking:
        assert any(path.is_relative_to(ROOT / place) for place in plain), f"{path} is not in .ci/run"
