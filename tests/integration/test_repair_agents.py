"""The repair workflow under plain LangGraph, on real projects with real git, ruff and tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from ruff import find_ruff_bin  # type: ignore[import-untyped] # it ships no types

from app.config import Settings
from app.progress import CurrentStep, ModelCall, Report, SessionId, ToolCall, running_step
from tests.sandboxed import NO_SANDBOX, sandbox
from workers.settings import step_settings
from workers.workflows.repair import graph
from workers.workflows.sample import write_sample
from workers.workspace.current import worktree_provider
from workers.workspace.project import Limits
from workers.workspace.repository import Finished, Workspaces

TASK = "review and repair this project"


@dataclass
class Reports:
    """A Reporter that keeps what it is told."""

    items: list[Report] = field(default_factory=list)

    async def report(self, step: CurrentStep, report: Report) -> int:
        self.items.append(report)
        return len(self.items)

    async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
        raise AssertionError("no model is called without a key")

    async def record_tool_call(self, step: CurrentStep, call: ToolCall) -> int:
        raise AssertionError("agents that work by rules call no tool of a model")

    def of(self, phase: str) -> list[Report]:
        return [report for report in self.items if report.phase == phase]


@dataclass
class Outcome:
    result: dict[str, Any]
    end: Finished
    reports: Reports
    worktree: Path


@contextmanager
def in_worktree(worktree: Path, settings: Settings) -> Iterator[Reports]:
    async def provide() -> Path:
        return worktree

    reports = Reports()
    provider, before = worktree_provider.set(provide), step_settings.set(settings)
    try:
        with running_step(CurrentStep(SessionId(uuid4()), 1, 1, "agent", reports)):
            yield reports
    finally:
        worktree_provider.reset(provider)
        step_settings.reset(before)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


def write(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


async def repair(project: Path, *, task: str = TASK, **changes: Any) -> Outcome:
    workspaces = Workspaces(project.parent / "workspaces", Limits(1000, 10**7), (project,))
    workspace = await workspaces.open(uuid4(), path=str(project))
    worktree = await workspace.checkout(workspace.initial, step=1, attempt=1)
    with in_worktree(worktree, Settings(**changes)) as reports:
        result = await graph.compile().ainvoke({"task": task, "path": str(project)})
    commit = await workspace.commit(worktree, agent="codesmith", message="repair")
    end = await workspace.finish(commit or workspace.initial, session="s")
    return Outcome(result, end, reports, worktree)


def routes(outcome: Outcome) -> list[str]:
    return [report.details["next_agent"] for report in outcome.reports.of("decision")]


async def test_the_sample_is_repaired(project: Path) -> None:
    write_sample(project)
    outcome = await repair(project)
    result = outcome.result

    assert set(result) == {"summary", "findings_before", "findings_after", "tests_before", "tests_after"}
    assert 0 < result["findings_after"] < result["findings_before"]
    assert result["tests_before"] == result["tests_after"] == {"passed": 6, "failed": 0, "errors": 0}
    assert f"{result['findings_before']} finding(s) before, {result['findings_after']} after" in result["summary"]
    assert "6 passed, 0 failed, 0 error(s), before and after" in result["summary"]
    # a re-export that only looks unused, and a bare except: both need somebody who knows what is meant
    assert "from till.money import parse_cents" in (outcome.worktree / "till/__init__.py").read_text()
    assert "E722" in result["summary"]

    assert routes(outcome) == ["research", "architect", "codesmith", "reviewfix", "end"]
    decision = outcome.reports.of("decision")[2]
    assert decision.message == "🎯 Routing to codesmith"
    assert decision.progress == decision.total == 1.0
    assert 0 < decision.details["confidence"] <= 1
    assert decision.details["reasoning"].startswith("the plan is complete")
    results = [report.message for report in outcome.reports.of("result")]
    assert len(results) == 4
    assert all(message.startswith("✅") for message in results)

    subprocess.run(["git", "apply", str(outcome.end.patch_path)], cwd=project, check=True)
    command = [find_ruff_bin(), "check", "--no-cache", "--output-format", "concise"]
    check = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert f"Found {result['findings_after']} error" in check.stdout
    assert not list(outcome.worktree.rglob("__pycache__"))


RE_EXPORT = {
    "shop/__init__.py": "",
    "shop/api.py": "from shop.core import price\n",
    "shop/core.py": "import os\n\n\ndef price() -> int:\n    return 3\n",
    "shop/other.py": "import sys\n\nVALUE = 1\n",
    "tests/test_api.py": "from shop.api import price\n\n\ndef test_price():\n    assert price() == 3\n",
    "ruff.toml": '[lint]\nselect = ["F"]\n',
}


async def test_a_fix_that_breaks_the_tests_is_taken_back(project: Path) -> None:
    write(project, RE_EXPORT)
    outcome = await repair(project)
    result = outcome.result
    assert result["findings_before"] == 3
    assert result["findings_after"] == 1
    assert result["tests_after"] == result["tests_before"] == {"passed": 1, "failed": 0, "errors": 0}
    assert outcome.end.files == ("shop/core.py", "shop/other.py")
    assert "Taken back: shop/api.py (the project's tests got worse)" in result["summary"]


async def test_a_project_without_python(project: Path) -> None:
    write(project, {"README.md": "# nothing\n", "data.json": "{}"})
    outcome = await repair(project)
    assert outcome.result["summary"].startswith("There is no Python in this project; nothing was changed.")
    assert (outcome.result["findings_before"], outcome.result["findings_after"]) == (0, 0)
    assert outcome.result["tests_before"] is outcome.result["tests_after"] is None
    assert outcome.end == Finished()
    assert routes(outcome) == ["research", "architect", "end"]


async def test_files_that_do_not_parse_are_left_alone(project: Path) -> None:
    broken = "def broken(:\n    import os\n"
    write(project, {"broken.py": broken, "fine.py": "import os\n", "null.py": "x = 1\0\n"})
    outcome = await repair(project)
    assert outcome.end.files == ("fine.py",)
    assert outcome.result["findings_after"] < outcome.result["findings_before"]
    assert "2 Python file(s) do not parse and are left alone: broken.py (line 1:" in outcome.result["summary"]


async def test_tests_that_cannot_be_imported_are_reported(project: Path) -> None:
    write(
        project,
        {
            "a.py": "import os\n\nX = 1\n",
            "test_a.py": "import no_such_package\n\n\ndef test_a():\n    assert no_such_package\n",
            "test_b.py": "import a\n\n\ndef test_b():\n    assert a.X == 1\n",
        },
    )
    outcome = await repair(project)
    assert outcome.result["tests_before"] == {"passed": 1, "failed": 0, "errors": 1}
    assert outcome.result["tests_after"] == outcome.result["tests_before"]
    surveys = [report.details for report in outcome.reports.of("result") if "python_files" in report.details]
    assert [survey["not_installed"] for survey in surveys] == [["no_such_package"]]
    assert outcome.end.files == ("a.py",)


@pytest.mark.parametrize(
    ("conftest", "reason"),
    [
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("raise SystemExit(9)\n", "pytest could not run the tests"),
    ],
)
async def test_a_suite_that_cannot_start_is_reported(project: Path, conftest: str, reason: str) -> None:
    write(project, {"a.py": "import os\n", "conftest.py": conftest, "test_a.py": "def test_a(): pass\n"})
    outcome = await repair(project)
    assert outcome.result["tests_before"] is None
    assert "Tests: not run, because" in outcome.result["summary"]
    assert reason in outcome.result["summary"]
    assert "a.py" in outcome.end.files


async def test_a_suite_that_hangs_is_ended(project: Path) -> None:
    write(
        project,
        {"a.py": "import os\n", "test_a.py": "import signal\n\n\ndef test_a():\n    signal.pause()\n"},
    )
    outcome = await repair(project, test_time_limit=timedelta(seconds=1.5))
    assert "did not end within 0:00:01.500000" in outcome.result["summary"]
    assert outcome.end.files == ("a.py",)


async def test_unittest_style_src_layout_and_options_for_missing_plugins(project: Path) -> None:
    write(
        project,
        {
            "src/pkg/__init__.py": "import os\nX = 1\n",
            "tests/__init__.py": "",
            "tests/test_pkg.py": (
                "import unittest\nimport pkg\n\n\nclass T(unittest.TestCase):\n"
                "    def test_x(self):\n        self.assertEqual(pkg.X, 1)\n\n"
                "    def test_y(self):\n        self.fail('as ever')\n\n"
                "    @unittest.skip('not here')\n    def test_z(self):\n        pass\n"
            ),
        },
    )
    outcome = await repair(project)
    assert outcome.result["tests_before"] == {"passed": 1, "failed": 1, "errors": 0}
    assert outcome.result["tests_after"] == outcome.result["tests_before"]
    write(project, {"pytest.ini": "[pytest]\naddopts = --cov=pkg --no-such-option\n"})
    assert (await repair(project)).result["tests_before"] == {"passed": 1, "failed": 1, "errors": 0}


async def test_a_configuration_that_ruff_refuses(project: Path) -> None:
    write(project, {"ruff.toml": '[lint]\nselect = ["NOPE123"]\n', "a.py": "import os\n"})
    outcome = await repair(project)
    assert "ruff refused the project's configuration and ran without it: Unknown rule" in outcome.result["summary"]
    assert (outcome.result["findings_before"], outcome.result["findings_after"]) == (1, 0)


async def test_unsafe_fixes_stay_off_whatever_is_configured(project: Path) -> None:
    unsafe = "x = [1]\nif not x is None:\n    pass\n\n\ndef f():\n    unused = 1\n"
    write(project, {"ruff.toml": "fix = true\nunsafe-fixes = true\n[lint]\nselect = ['F841', 'F401']\n"})
    write(project, {"a.py": unsafe})
    outcome = await repair(project)
    assert outcome.end == Finished()
    assert outcome.result["findings_after"] == outcome.result["findings_before"] == 1
    assert "Left for a person or a model: F841 × 1" in outcome.result["summary"]


async def test_nothing_is_written_through_a_link_that_leaves(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("import os\n")
    write(project, {"a.py": "import os\n", "ruff.toml": "[format]\n"})
    (project / "link.py").symlink_to(outside)
    (project / "inner.py").symlink_to("a.py")
    outcome = await repair(project)
    assert outside.read_text() == "import os\n"
    assert outcome.end.files == ("a.py",)
    assert "1 link(s) lead out of the project and are not followed" in outcome.result["summary"]
    assert outcome.result["findings_after"] == 0


async def test_formatting_follows_what_the_project_agreed_on(project: Path) -> None:
    ugly = "x = {'a':1}\n"
    write(project, {"fixed.py": "import os\n" + ugly, "untouched.py": ugly})
    assert (await repair(project)).end.files == ("fixed.py",)
    write(project, {"pyproject.toml": "[tool.black]\nskip-string-normalization = true\n"})
    outcome = await repair(project)
    assert outcome.end.files == ("fixed.py", "untouched.py")
    assert (outcome.worktree / "untouched.py").read_text() == "x = {'a': 1}\n"


async def test_what_it_cannot_do_without_a_model_is_said(project: Path) -> None:
    write(project, {"a.py": "import os\n"})
    outcome = await repair(project, task="write a module that adds up receipts")
    assert "was not done: 'write a module that adds up receipts'" in outcome.result["summary"]
    assert outcome.reports.of("decision")[0].details["confidence"] < 1
    assert outcome.end.files == ("a.py",)


OUTSIDE = "the-first-line of a file that is nobody's business"


@pytest.mark.parametrize("name", ["pyproject.toml", "inner/.ruff.toml", "chain.toml"])
async def test_a_configuration_that_extends_a_file_outside_tells_nothing_of_it(
    project: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside.toml").write_text(OUTSIDE)
    extend = f'extend = "{tmp_path / "outside.toml"}"\n'
    table = "[tool.ruff]\n" if name == "pyproject.toml" else ""
    write(project, {"a.py": "import os\n", "inner/b.py": "import sys\n", name: table + extend})
    if name == "chain.toml":
        write(project, {"ruff.toml": 'extend = "chain.toml"\n'})
    outcome = await repair(project)
    assert "its configuration extends" in outcome.result["summary"]
    assert "outside of the project" in outcome.result["summary"]
    said = f"{outcome.result} {outcome.reports.items}"
    assert "first-line" not in said and "nobody" not in said
    assert outcome.end.files == ("a.py", "inner/b.py")  # without that configuration


async def test_nothing_is_read_or_written_through_links_that_leave(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("import os\n")
    (tmp_path / "settings.toml").write_text(f"[tool.ruff]\n{OUTSIDE}")
    write(project, {"a.py": "import os\n", "inner/b.py": "import sys\n"})
    (project / "linked.py").symlink_to(outside)
    (project / "inner" / "up.py").symlink_to("../../outside.py")
    (project / "inner" / "pyproject.toml").symlink_to(tmp_path / "settings.toml")
    (project / "to-itself.py").symlink_to("to-itself.py")
    outcome = await repair(project)
    assert outside.read_text() == "import os\n"
    assert outcome.end.files == ("a.py", "inner/b.py")
    assert "first-line" not in f"{outcome.result} {outcome.reports.items}"


@pytest.mark.parametrize("below", ["", "python/app"])
async def test_in_the_sandbox_all_works_as_without(project: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the project lies below its repository's top, and the worker is root."""
    if not (prefix := sandbox()):
        pytest.skip(NO_SANDBOX)
    monkeypatch.setenv("PATH", os.defpath)
    (project / below).mkdir(parents=True, exist_ok=True)
    write(project / below, RE_EXPORT)
    subprocess.run(["git", "init", "--quiet", project], check=True)
    outcome = await repair(project / below, host="0.0.0.0", sandbox=prefix)
    assert outcome.result["tests_after"] == outcome.result["tests_before"] == {"passed": 1, "failed": 0, "errors": 0}
    assert "Taken back: shop/api.py (the project's tests got worse)" in outcome.result["summary"]
    assert [Path(file).name for file in outcome.end.files] == ["core.py", "other.py"]
