"""Finding a project's own tests, and running them in a throw-away copy of it."""

import asyncio
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.config import MIB, Settings
from app.errors import SandboxRequired
from workers.children.guarded import Completed, run_project_code
from workers.children.scratch import scratch_directory
from workers.tools.files import project_files, shown
from workers.tools.outcome import TestOutcome, read_junit, read_unittest
from workers.workspace.checkout import Checkout

TEST_FILE = re.compile(r"(test_.*|.*_test|tests?)\.py")
PYTEST_STYLE = re.compile(r"^\s*(import pytest|from pytest |(async )?def test_\w*\((?!self))", re.MULTILINE)
PYTEST_CONFIGURATION = {
    "pytest.ini": "",
    ".pytest.ini": "",
    "pytest.toml": "",
    ".pytest.toml": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
DEPENDENCY_FILES = ("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "noxfile.py", "*.txt", "*/*.txt")
MAX_READ_BYTES = 2 * MIB
USAGE_ERROR = 4
NO_TESTS = 5


@dataclass(frozen=True, slots=True)
class Suite:
    """How a project's tests are run. `plugins`: what the project names of the pytest plugins that are here."""

    style: Literal["pytest", "unittest"]
    files: tuple[str, ...]
    plugins: tuple[str, ...] = ()


def find_suite(worktree: Path) -> Suite | None:
    """pytest's if anything says so, else unittest's; None without tests."""
    python = [file for file in project_files(worktree) if file.suffix == ".py"]
    files = [file for file in python if TEST_FILE.fullmatch(file.name)]
    names = tuple(file.relative_to(worktree).as_posix() for file in files)
    configured = any(
        (worktree / name).is_file() and marker in _read(worktree / name)
        for name, marker in PYTEST_CONFIGURATION.items()
    )
    has_conftest = any(file.name == "conftest.py" for file in python)
    if files and (configured or has_conftest or any(PYTEST_STYLE.search(_read(file)) for file in files)):
        return Suite("pytest", names, tuple(_named_plugins(worktree)))
    if any("unittest" in _read(file) for file in files):
        return Suite("unittest", names)
    return None


def _read(file: Path) -> str:
    """Empty for what is too long to be read for a hint."""
    return file.read_text("utf-8", errors="replace") if file.stat().st_size <= MAX_READ_BYTES else ""


def _named_plugins(worktree: Path) -> Iterator[str]:
    """Others stay off: the plugins beside us are ours, and a project's tests would not meet them at home."""
    listed = {file for pattern in DEPENDENCY_FILES for file in worktree.glob(pattern) if file.is_file()}
    text = " ".join(re.sub(r"[-_.]+", "-", _read(file).lower()) for file in sorted(listed))
    for plugin in sorted(importlib.metadata.entry_points(group="pytest11")):
        distribution = plugin.dist.name.lower().replace("_", "-") if plugin.dist else ""
        if distribution and re.search(rf"(?<![\w-]){re.escape(distribution)}(?![\w-])", text):
            yield plugin.name


async def run_suite(
    suite: Suite, worktree: Path, settings: Settings, *, contents: Mapping[str, bytes | None] | None = None
) -> TestOutcome:
    """Runs the tests on a copy in which the files of `contents` are as it says (None: not there).

    No environment is made for them: they run on this interpreter, with what happens to be installed here.
    """
    if suite.style == "pytest" and importlib.util.find_spec("pytest") is None:
        return TestOutcome(problem="pytest, which the tests need, is not installed beside Stellwerk")
    async with scratch_directory() as directory:
        copy = await asyncio.to_thread(_copy, worktree, directory / "project", contents or {})
        try:
            if suite.style == "pytest":
                return await _run_pytest(suite, copy, directory, settings)
            return await _run_unittest(copy, settings)
        except SandboxRequired as error:
            return TestOutcome(problem=str(error))


def _copy(worktree: Path, directory: Path, contents: Mapping[str, bytes | None]) -> Path:
    copy = Checkout.at(worktree).copy_to(directory)
    for name, content in contents.items():
        if content is None:
            (copy / name).unlink(missing_ok=True)
        else:
            (copy / name).write_bytes(content)
    return copy


async def _run_pytest(suite: Suite, copy: Path, directory: Path, settings: Settings) -> TestOutcome:
    (directory / "pytest.ini").touch()  # pytest looks upwards for configuration; not beyond this
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "--continue-on-collection-errors"]
    command += [f"--rootdir={copy}", f"--junitxml={report}", *(f"-p{plugin}" for plugin in suite.plugins)]
    done = await _run(command, copy, settings)
    if done.returncode == USAGE_ERROR and b"unrecognized arguments" in done.stderr:
        # the project's own options are for plugins that are not here, such as coverage
        done = await _run([*command, "-oaddopts="], copy, settings)
    if done.timed_out:
        return _too_slow(settings)
    if done.returncode == NO_TESTS:
        return TestOutcome(problem="pytest found no tests")
    if done.returncode in {0, 1, 2} and report.is_file():
        return read_junit(report)
    return TestOutcome(problem=f"pytest could not run the tests: {_reason(done)}")


async def _run_unittest(copy: Path, settings: Settings) -> TestOutcome:
    start = next((name for name in ("tests", "test") if (copy / name).is_dir()), ".")
    top = ["-t", "."] if (copy / start / "__init__.py").is_file() else []
    done = await _run([sys.executable, "-m", "unittest", "discover", "-s", start, *top], copy, settings)
    if done.timed_out:
        return _too_slow(settings)
    outcome = read_unittest(done.stderr.decode(errors="replace"))
    if outcome is None:
        return TestOutcome(problem=f"unittest could not run the tests: {_reason(done)}")
    if not (outcome.passed or outcome.failed or outcome.errors):
        return TestOutcome(problem="unittest found no tests")
    return outcome


async def _run(command: list[str], copy: Path, settings: Settings) -> Completed:
    # as in a project that is not installed, with and without a src directory
    places = [str(place) for place in (copy / "src", copy) if place.is_dir()]
    variables = {"PYTHONPATH": ":".join(places), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return await run_project_code(command, settings, cwd=copy, timeout=settings.test_time_limit, variables=variables)


def _too_slow(settings: Settings) -> TestOutcome:
    return TestOutcome(problem=f"the tests did not end within {settings.test_time_limit}")


def _reason(done: Completed) -> str:
    """The line that says most: pytest marks it with E, and the last one is the next best."""
    lines = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
    telling = [line[1:].strip() for line in lines if line.startswith("E  ")]
    telling += [line.strip() for line in lines if line.startswith("ERROR")]
    telling += [line.strip() for line in reversed(lines) if line.strip()]
    return shown(telling[0][:300]) if telling else f"it ended with {done.returncode} and said nothing"
