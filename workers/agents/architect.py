"""architect: checks the project, runs its tests, and orders what to do about it into a plan.

With a model, that plan is also thought out."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from app.progress import report_progress
from workers.agents.designing import design
from workers.agents.state import Design, Findings, Formatting, PlanItem, RepairState, SuiteResult
from workers.models.providers import choose
from workers.reading.files import shown_name
from workers.settings import current_settings
from workers.tools.conventions import Agreement, Suite, read_conventions
from workers.tools.outcome import TestOutcome
from workers.tools.project_tests import run_suite
from workers.tools.ruff import Finding, findings_by_file, ruff_on
from workers.workspace.current import current_worktree

MAX_FILES_LISTED = 5
MAX_SHOWN = 100
MAX_TITLE = 300
"""Characters of a message of ruff's, which may quote the project at length."""


async def architect(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    await report_progress(0.05, "📡 Running ruff check under the project's own configuration")
    conventions = await read_conventions(worktree)
    formatting = _formatting(conventions.agreement)
    async with ruff_on(worktree, current_settings()) as ruff:
        found = await ruff.check()
        await report_progress(0.3, f"🔎 ruff found {len(found):,} problem(s)", phase="think")
        unformatted = await ruff.unformatted(formatting["options"]) if formatting["scope"] == "all" else []
    remarks = list(conventions.remarks)
    if ruff.problem:
        remarks.insert(0, f"ruff refused the project's configuration and ran without it: {ruff.problem}")
    await report_progress(0.4, f"📐 Formatting: {formatting['reason']}", phase="think")

    tests = await _run_tests(worktree, conventions.suite)
    plan = make_plan(found, unformatted)
    thought_out = None
    if choose("architect", current_settings()).usable():
        thought_out = await design(state, plan[:MAX_SHOWN], tests)
        if thought_out is None:
            remarks.append("the model made no usable plan; what the tools found is the plan")
    await report_progress(
        1.0,
        _announcement(plan, thought_out),
        phase="result",
        details={
            "plan": plan[:MAX_SHOWN],
            "tests": tests,
            "formatting": formatting,
            "remarks": remarks,
            **({"design": thought_out} if thought_out else {}),
        },
    )
    by_file = dict(findings_by_file(found))
    known = RepairState(
        {
            "findings": Findings(total=len(found), by_file=by_file, problem=ruff.problem),
            "findings_before": len(found),
            "tests": tests,
            "tests_before": tests["counts"],
            "plan": plan,
            "formatting": formatting,
            "remarks": remarks,
        }
    )
    return {**known, "design": thought_out} if thought_out else known


def _announcement(plan: Sequence[PlanItem], thought_out: Design | None) -> str:
    if thought_out:
        return f"✅ Planned {len(thought_out['steps'])} step(s): {thought_out['summary']}"
    return f"✅ Planned {sum(item['action'] != 'person' for item in plan)} repair(s)"


def _formatting(agreement: Agreement | None) -> Formatting:
    if agreement:
        reason = f"the project agreed on {agreement.formatter}, so all files"
        return Formatting(scope="all", options=list(agreement.options), reason=reason)
    reason = "the project declares no formatter, so only files that a fix changes"
    return Formatting(scope="changed", options=[], reason=reason)


async def _run_tests(worktree: Path, suite: Suite | None) -> SuiteResult:
    if suite is None:
        await report_progress(0.9, "🧪 The project has no tests", phase="think")
        return suite_result(TestOutcome(problem="the project has no tests"))
    await report_progress(0.5, f"🧪 Running the project's tests ({suite.style}, {suite.files} file(s))")
    outcome = await run_suite(suite, worktree, current_settings())
    return suite_result(outcome)


def suite_result(outcome: TestOutcome) -> SuiteResult:
    return SuiteResult(counts=outcome.counts, failing=list(outcome.failing), problem=outcome.problem)


def make_plan(found: Sequence[Finding], unformatted: Sequence[str]) -> list[PlanItem]:
    """Safe fixes first, the most frequent rule in front; then formatting; then what needs a person."""

    def kind(finding: Finding) -> tuple[str, str]:
        return ("fix" if finding.fix == "safe" else "person", finding.rule)

    items = []
    for (action, rule), group in groupby(sorted(found, key=kind), key=kind):
        findings = list(group)
        files = [shown_name(file) for file in sorted({finding.file for finding in findings})[:MAX_FILES_LISTED]]
        title = shown_name(findings[0].message[:MAX_TITLE])
        items.append(
            PlanItem(
                action="fix" if action == "fix" else "person",
                rule=rule,
                title=title,
                count=len(findings),
                files=files,
            )
        )
    items.sort(key=lambda item: (item["action"], -item["count"], item["rule"]))
    fixes = [item for item in items if item["action"] == "fix"]
    formats = [_format_item(unformatted)] if unformatted else []
    return [*fixes, *formats, *(item for item in items if item["action"] == "person")]


def _format_item(files: Sequence[str]) -> PlanItem:
    return PlanItem(
        action="format",
        rule="format",
        title="Formatted differently from what the project declares",
        count=len(files),
        files=[shown_name(file) for file in files[:MAX_FILES_LISTED]],
    )
