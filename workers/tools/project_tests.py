"""Running a project's own tests, in a throw-away copy of it."""

import asyncio
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from app.config import Settings
from app.errors import SandboxRequired
from workers.children.guarded import Completed
from workers.children.project_room import ProjectRoom, project_room
from workers.reading.files import shown_name
from workers.tools.conventions import Suite
from workers.tools.outcome import TestOutcome, read_report, read_unittest
from workers.workspace.checkout import Checkout

USAGE_ERROR = 4
NO_TESTS = 5


async def run_suite(
    suite: Suite, worktree: Path, settings: Settings, *, contents: Mapping[str, bytes | None] | None = None
) -> TestOutcome:
    """Runs the tests on a copy in which the files of `contents` are as it says (None: not there).

    No environment is made for them: they run on this interpreter, with what happens to be installed here.
    """
    if suite.style == "pytest" and importlib.util.find_spec("pytest") is None:
        return TestOutcome(problem="pytest, which the tests need, is not installed beside Stellwerk")
    async with project_room(settings) as room:
        copy = await asyncio.to_thread(_copy, worktree, room.files, contents or {})
        try:
            return await (_run_pytest if suite.style == "pytest" else _run_unittest)(suite, copy, room)
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


async def _run_pytest(suite: Suite, copy: Path, room: ProjectRoom) -> TestOutcome:
    (room.directory / "pytest.ini").touch()  # pytest looks upwards for configuration; not beyond this
    report = room.temporary.relative_to(room.directory) / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "--continue-on-collection-errors"]
    command += [
        f"--rootdir={copy}",
        f"--junitxml={room.directory / report}",
        *(f"-p{plugin}" for plugin in suite.plugins),
    ]
    done = await _run(command, copy, room)
    if done.returncode == USAGE_ERROR and b"unrecognized arguments" in done.stderr:
        # the project's own options are for plugins that are not here, such as coverage
        done = await _run([*command, "-oaddopts="], copy, room)
    if done.timed_out:
        return _too_slow(room.settings)
    if done.returncode == NO_TESTS:
        return TestOutcome(problem="pytest found no tests")
    if done.returncode in {0, 1, 2} and (room.directory / report).exists():
        return await read_report(room.directory, str(report))
    return TestOutcome(problem=f"pytest could not run the tests: {_reason(done)}")


async def _run_unittest(_: Suite, copy: Path, room: ProjectRoom) -> TestOutcome:
    start = next((name for name in ("tests", "test") if (copy / name).is_dir()), ".")
    top = ["-t", "."] if (copy / start / "__init__.py").is_file() else []
    done = await _run([sys.executable, "-m", "unittest", "discover", "-s", start, *top], copy, room)
    if done.timed_out:
        return _too_slow(room.settings)
    outcome = read_unittest(done.stderr.decode(errors="replace"))
    if outcome is None:
        return TestOutcome(problem=f"unittest could not run the tests: {_reason(done)}")
    if not (outcome.passed or outcome.failed or outcome.errors):
        return TestOutcome(problem="unittest found no tests")
    return outcome


async def _run(command: list[str], copy: Path, room: ProjectRoom) -> Completed:
    # as in a project that is not installed, with and without a src directory
    places = [str(place) for place in (copy / "src", copy) if place.is_dir()]
    variables = {"PYTHONPATH": ":".join(places), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return await room.run(command, cwd=copy, timeout=room.settings.test_time_limit, variables=variables)


def _too_slow(settings: Settings) -> TestOutcome:
    return TestOutcome(problem=f"the tests did not end within {settings.test_time_limit}")


def _reason(done: Completed) -> str:
    """The line that says most: pytest marks it with E, and the last one is the next best."""
    lines = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
    telling = [line[1:].strip() for line in lines if line.startswith("E  ")]
    telling += [line.strip() for line in lines if line.startswith("ERROR")]
    telling += [line.strip() for line in reversed(lines) if line.strip()]
    return shown_name(telling[0][:300]) if telling else f"it ended with {done.returncode} and said nothing"
