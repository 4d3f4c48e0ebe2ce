"""research: surveys the project by reading it; with a model it also looks up what the task needs."""

import asyncio
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from app.progress import report_progress
from workers.agents.looking_up import look_up
from workers.agents.state import RepairState, Survey
from workers.models.providers import choose
from workers.reading.files import LeftOut
from workers.reading.process import ask
from workers.settings import current_settings
from workers.workspace.checkout import Checkout
from workers.workspace.current import current_worktree

MAX_LISTED = 50
MAX_NAMED = 3


async def research(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    await report_progress(0.05, "📡 Listing the project's files")
    (read,) = await ask("survey", {"worktree": str(worktree)}, on_progress=_report_reading)
    installed = await asyncio.to_thread(packages_distributions)
    survey = Survey(
        files=read["files"],
        python_files=read["python_files"],
        lines=read["lines"],
        requires_python=read["requires_python"],
        dependencies=read["dependencies"],
        imports=read["imports"][:MAX_LISTED],
        not_installed=[name for name in read["imports"] if name not in installed][:MAX_LISTED],
        unparsable=read["unparsable"],
    )
    remarks = await asyncio.to_thread(_remarks, worktree, read)
    provider = choose("research", current_settings()).usable()
    looked_up = await look_up(state, survey, provider) if provider else None
    await report_progress(
        1.0,
        f"✅ Surveyed {survey['files']:,} files, {survey['python_files']:,} of them Python"
        f" with {survey['lines']:,} lines",
        phase="result",
        details={**survey, "remarks": remarks, **(looked_up.details if looked_up else {})},
    )
    known = RepairState(survey=survey, remarks=remarks)
    return {**known, "notes": looked_up.notes} if looked_up else known


async def _report_reading(done: int, total: int) -> None:
    await report_progress(0.1 + 0.8 * done / total, f"📖 Reading Python files: {done:,} of {total:,}", phase="think")


def _remarks(worktree: Path, read: Mapping[str, Any]) -> list[str]:
    remarks = [read["problem"]] if read["problem"] else []
    if count := read["unparsable_files"]:
        named = "; ".join(read["unparsable"][:MAX_NAMED])
        remarks.append(f"{count} Python file(s) do not parse and are left alone: {named}")
    if count := read["leaving_links"]:
        remarks.append(f"{count} link(s) lead out of the project and are not followed")
    if (absent := Checkout.at(worktree).left_out()).count:
        remarks.append(f"{absent.count} file(s) of the project were left out: {absent.sentence()}")
    if (unseen := LeftOut(**read["left_out"])).count:
        remarks.append(f"{unseen.count} file(s) were not looked at: {unseen.sentence()}")
    return remarks
