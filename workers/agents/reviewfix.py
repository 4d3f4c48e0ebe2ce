"""reviewfix: with a model it reviews and repairs the changes; without, it judges them by the checks and the tests,
and takes back what made things worse."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.progress import report_progress
from workers.agents.architect import suite_result
from workers.agents.reviewing import review
from workers.agents.state import RepairState, SuiteResult
from workers.models.providers import choose
from workers.reading.files import shown_name
from workers.settings import current_settings
from workers.tools.conventions import Suite, read_conventions
from workers.tools.outcome import TestOutcome
from workers.tools.project_tests import run_suite
from workers.tools.ruff import Finding, findings_by_file, ruff_on
from workers.tools.sifting import sift
from workers.workspace.checkout import Checkout
from workers.workspace.current import current_worktree

MAX_SHOWN = 100
MAX_TRIALS = 24
MAX_TRIAL_TIME = 3
"""In test time limits; after that no further trial starts."""


async def reviewfix(state: RepairState) -> RepairState:
    return await (review if choose("reviewfix", current_settings()).usable() else sift_changes)(state)


async def sift_changes(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    checkout = Checkout.at(worktree)
    is_isolated = state["findings"]["problem"] is not None

    await report_progress(0.05, "📡 Running ruff check again")
    changed = await asyncio.to_thread(checkout.changed)
    found = await _check(worktree, isolated=is_isolated)
    taken_back = _judge_by_findings(found, changed, Counter(state["findings"]["by_file"]))
    await asyncio.to_thread(checkout.restore, list(taken_back))

    remaining = [file for file in changed if file not in taken_back]
    tests, broke = await _judge_by_tests(worktree, state["tests"], remaining)
    taken_back |= dict.fromkeys(broke, "the project's tests got worse")
    await asyncio.to_thread(checkout.restore, broke)

    findings_after = len(await _check(worktree, isolated=is_isolated))
    before = state["findings_before"]
    named = {shown_name(file): reason for file, reason in taken_back.items()}
    await report_progress(
        1.0,
        f"✅ Findings: {before:,} before, {findings_after:,} after; took back {len(taken_back)} file(s)",
        phase="result",
        details={
            "findings_before": before,
            "findings_after": findings_after,
            "tests_before": state["tests"],
            "tests_after": tests,
            "taken_back": dict(list(named.items())[:MAX_SHOWN]),
        },
    )
    return {
        "findings_after": findings_after,
        "tests_after": tests["counts"],
        "taken_back": named,
        "changed": [shown_name(file) for file in changed if file not in taken_back],
        "reviewed": True,
    }


async def _check(worktree: Path, *, isolated: bool) -> list[Finding]:
    async with ruff_on(worktree, current_settings(), isolated=isolated) as ruff:
        return await ruff.check()


def _judge_by_findings(found: Sequence[Finding], changed: Sequence[str], before: Counter[str]) -> dict[str, str]:
    """Files with more findings than before; a fix that leaves a file unparsable is one of those cases."""
    after = findings_by_file(found)
    broken = {finding.file for finding in found if finding.rule == "invalid-syntax"}
    worse = {}
    for file in changed:
        if after[file] > before[file]:
            why = "it no longer parses" if file in broken else "ruff finds more in it than before"
            worse[file] = why
    return worse


async def _judge_by_tests(worktree: Path, before: SuiteResult, changed: Sequence[str]) -> tuple[SuiteResult, list[str]]:
    """What the tests give in the end, and the files without which they are no worse than before."""
    suite = (await read_conventions(worktree)).suite
    if suite is None or before["counts"] is None or not changed:
        await report_progress(0.8, "🧪 No tests to judge by", phase="think")
        return before, []
    trials = _Trials(worktree, suite, _outcome_of(before), list(changed))
    kept = await sift(changed, trials.are_harmless, trials=MAX_TRIALS)
    return suite_result(trials.best), [file for file in changed if file not in set(kept)]


@dataclass(slots=True)
class _Trials:
    """Runs of the tests with some of the changes; `best` is the outcome with those that were kept."""

    worktree: Path
    suite: Suite
    before: TestOutcome
    changed: list[str]
    best: TestOutcome = field(init=False)
    count: int = 0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.best = self.before

    async def are_harmless(self, files: Sequence[str]) -> bool:
        settings = current_settings()
        if time.monotonic() - self.started > MAX_TRIAL_TIME * settings.test_time_limit.total_seconds():
            return False
        self.count += 1
        progress = 0.9 - 0.7 / self.count
        await report_progress(progress, f"🧪 Running the tests with {len(files)} changed file(s)")
        left_out = [file for file in self.changed if file not in set(files)]
        originals = await asyncio.to_thread(Checkout.at(self.worktree).originals, left_out)
        outcome = await run_suite(self.suite, self.worktree, settings, contents=originals)
        worse = outcome.is_worse_than(self.before)
        verdict = "worse than before, looking for the cause" if worse else "no worse than before"
        await report_progress(progress, f"🧪 The tests are {verdict}", phase="think", details=suite_result(outcome))
        if not worse:
            self.best = outcome
        return not worse


def _outcome_of(tests: SuiteResult) -> TestOutcome:
    counts = tests["counts"] or {"passed": 0, "failed": 0, "errors": 0}
    return TestOutcome(**counts, failing=tuple(tests["failing"]), problem=tests["problem"])
