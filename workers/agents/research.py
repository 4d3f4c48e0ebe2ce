"""research: surveys the project by reading it; with a model it also looks up what the task needs."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

from app.progress import report_progress
from workers.agents.looking_up import look_up
from workers.agents.state import RepairState, Survey
from workers.models.providers import choose
from workers.settings import current_settings
from workers.tools.files import links_that_leave, shown
from workers.tools.survey import Source, python_files, read_declared, read_source, third_party
from workers.workspace.current import current_worktree

FILES_PER_REPORT = 250
MAX_LISTED = 50


async def research(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    await report_progress(0.05, "📡 Listing the project's files")
    python, total = await asyncio.to_thread(python_files, worktree)
    sources = await _read_all(python, worktree)
    declared = await asyncio.to_thread(read_declared, worktree)
    links = await asyncio.to_thread(links_that_leave, worktree)

    imports = third_party(sources, worktree)
    installed = await asyncio.to_thread(packages_distributions)
    survey = Survey(
        files=total,
        python_files=len(sources),
        lines=sum(source.lines for source in sources),
        requires_python=declared.requires_python,
        dependencies=list(declared.dependencies[:MAX_LISTED]),
        imports=imports[:MAX_LISTED],
        not_installed=[name for name in imports if name not in installed][:MAX_LISTED],
        unparsable=[f"{shown(source.path)} ({source.problem})" for source in sources if source.problem][:MAX_LISTED],
    )
    remarks = _remarks(survey, sources, links, declared.problem)
    provider = choose("research", current_settings()).usable()
    looked_up = await look_up(state, survey, provider) if provider else None
    await report_progress(
        1.0,
        f"✅ Surveyed {total:,} files, {len(sources):,} of them Python with {survey['lines']:,} lines",
        phase="result",
        details={**survey, "remarks": remarks, **(looked_up.details if looked_up else {})},
    )
    known = RepairState(survey=survey, remarks=remarks)
    return {**known, "notes": looked_up.notes} if looked_up else known


async def _read_all(files: Sequence[Path], worktree: Path) -> list[Source]:
    def read(some: Sequence[Path]) -> list[Source]:
        return [read_source(file, worktree) for file in some]

    sources: list[Source] = []
    for start in range(0, len(files), FILES_PER_REPORT):
        await report_progress(
            0.1 + 0.8 * start / len(files), f"📖 Reading Python files: {start:,} of {len(files):,}", phase="think"
        )
        sources += await asyncio.to_thread(read, files[start : start + FILES_PER_REPORT])
    return sources


def _remarks(survey: Survey, sources: Sequence[Source], links: Sequence[Path], problem: str | None) -> list[str]:
    remarks = [problem] if problem else []
    unparsable = sum(1 for source in sources if source.problem)
    if unparsable:
        named = "; ".join(survey["unparsable"][:3])
        remarks.append(f"{unparsable} Python file(s) do not parse and are left alone: {named}")
    if links:
        remarks.append(f"{len(links)} link(s) lead out of the project and are not followed")
    return remarks
