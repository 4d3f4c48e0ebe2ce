"""reviewfix with a model: the tests are run, the Claude CLI reviews and repairs, and the tests are run again."""

from pathlib import Path

from app.progress import report_progress
from workers.agents.architect import suite_result
from workers.agents.state import RepairState, SuiteResult
from workers.agents.writing import MAX_TEXT, changed_files, told
from workers.models.claude import work
from workers.settings import current_settings
from workers.tools.conventions import read_conventions
from workers.tools.outcome import TestOutcome
from workers.tools.project_tests import run_suite
from workers.tools.ruff import ruff_on
from workers.workspace.checkout import Checkout
from workers.workspace.current import current_worktree

ROLE = """\
You review changes to the Python project in the current directory, and repair what is wrong with them: bugs, missing
cases, tests that do not test. Touch nothing else. Never weaken a test to make it pass. In the end say in a few
sentences what you found and what you changed.
"""
MAX_NAMED = 50


async def review(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    checkout = Checkout.at(worktree)
    written = await changed_files(checkout)
    found = await _run_tests(worktree, 0.05, "🧪 Running the tests on what was changed")
    await report_progress(0.3, "📡 Calling Claude CLI for a review")
    done = await work(_prompt(state, written, found), instructions=ROLE, worktree=worktree)
    after = await _run_tests(worktree, 0.92, "🧪 Running the tests on what was repaired")
    async with ruff_on(worktree, current_settings()) as ruff:
        findings_after = len(await ruff.check())
    files = await changed_files(checkout)
    await report_progress(
        1.0,
        f"✅ Reviewed {len(written)} file(s); {_verdict(found, after)}",
        phase="result",
        details={
            **told(done, files),
            "tests_before": found,
            "tests_after": after,
            "findings_after": findings_after,
        },
    )
    return {
        "changed": files,
        "reviewed": True,
        "review": done.text[:MAX_TEXT],
        "findings_after": findings_after,
        "tests_after": after["counts"],
    }


async def _run_tests(worktree: Path, progress: float, message: str) -> SuiteResult:
    suite = (await read_conventions(worktree)).suite
    if suite is None:
        return suite_result(TestOutcome(problem="the project has no tests"))
    await report_progress(progress, message)
    result = suite_result(await run_suite(suite, worktree, current_settings()))
    await report_progress(progress, f"🧪 {_counted(result)}", phase="think", details=result)
    return result


def _counted(tests: SuiteResult) -> str:
    counts = tests["counts"]
    if counts is None:
        return f"tests were not run: {tests['problem']}"
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['errors']} error(s)"


def _verdict(found: SuiteResult, after: SuiteResult) -> str:
    return _counted(after) if found == after else f"tests before: {_counted(found)}; after: {_counted(after)}"


def _prompt(state: RepairState, files: list[str], tests: SuiteResult) -> str:
    parts = [
        f"# The task was\n\n{state.get('task', '')}",
        "# What was changed\n\n" + "\n".join(f"- {file}" for file in files),
        f"# The tests now\n\n{_counted(tests)}\n"
        + "\n".join(f"- fails: {name}" for name in tests["failing"][:MAX_NAMED]),
    ]
    if instructions := state.get("instructions"):
        parts.append(f"# What is to be done now\n\n{instructions}")
    if said := state.get("written"):
        parts.append(f"# What its author says\n\n{said}")
    return "\n\n".join(parts)
