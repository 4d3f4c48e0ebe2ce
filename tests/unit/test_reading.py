"""What is read of a project, by a process of its own, is what stands there; what would harm a reader is left out."""

from pathlib import Path
from typing import Any

from workers.reading.process import ask
from workers.tools.conventions import Agreement, Suite, read_conventions
from workers.tools.outcome import TestOutcome, read_report
from workers.workflows.sample import write_sample


async def survey(worktree: Path) -> dict[str, Any]:
    (said,) = await ask("survey", {"worktree": str(worktree)})
    assert isinstance(said, dict)
    return said


async def test_survey(tmp_path: Path) -> None:
    write_sample(tmp_path)
    (tmp_path / "odd.py").write_text("import numpy.linalg\nfrom . import x\nfrom tests import y\nfrom yaml import z\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    (tmp_path / "requirements.txt").write_text("-r other\nnumpy>=2 ; x\n# none\nPyYAML\n")
    said = await survey(tmp_path)
    assert (said["python_files"], said["files"]) == (6, 9)
    assert [name.partition(" ")[0] for name in said["unparsable"]] == ["bad.py"]
    assert said["imports"] == ["numpy", "pytest", "yaml"]
    assert said["requires_python"] == ">=3.11"
    assert said["dependencies"] == ["numpy", "PyYAML"]
    assert said["left_out"]["count"] == said["leaving_links"] == 0


async def test_the_agreed_formatter(tmp_path: Path) -> None:
    async def agreed() -> Agreement | None:
        return (await read_conventions(tmp_path)).agreement

    assert await agreed() is None
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 99\n")
    assert await agreed() is None
    (tmp_path / ".pre-commit-config.yaml").write_text("repos:\n- hooks:\n  - id: ruff-format\n")
    assert await agreed() == Agreement("ruff format")
    (tmp_path / ".pre-commit-config.yaml").unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.black]\nline-length = 99\n")
    assert await agreed() == Agreement("black", ("--line-length", "99"))
    (tmp_path / "ruff.toml").write_text("[format]\n")
    assert await agreed() == Agreement("ruff format")


async def test_which_suite(tmp_path: Path) -> None:
    assert (await read_conventions(tmp_path)).suite is None
    (tmp_path / "test_u.py").write_text("import unittest\n\nclass T(unittest.TestCase):\n  def test_x(self): ...\n")
    assert (await read_conventions(tmp_path)).suite == Suite("unittest", 1)
    (tmp_path / "test_p.py").write_text("async def test_x(): ...\n")
    (tmp_path / "requirements-dev.txt").write_text("pytest_asyncio>=1\nmy-pytest-timeout\n")
    assert (await read_conventions(tmp_path)).suite == Suite("pytest", 2, ("asyncio",))


async def test_junit_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="a" name="ok"/><testcase classname="a" name="no"><failure/></testcase>'
        '<testcase classname="a" name="skip"><skipped/></testcase>'
        '<testcase classname="a" name="torn"/><testcase classname="a" name="torn"><error/></testcase>'
        '<testcase classname="" name="broken_module"><error/></testcase>'
        "</testsuite></testsuites>"
    )
    assert await read_report(tmp_path, "report.xml") == TestOutcome(1, 1, 2, ("a::no", "a::torn", "broken_module"))
