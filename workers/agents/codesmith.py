"""codesmith: with a model it writes; without, it applies the plan, safe fixes first and then formatting."""

import asyncio

from app.progress import report_progress
from workers.agents.state import RepairState
from workers.agents.writing import write
from workers.models.providers import choose
from workers.reading.files import shown_name
from workers.settings import current_settings
from workers.tools.ruff import Ruff, ruff_on
from workers.workspace.checkout import Checkout
from workers.workspace.current import current_worktree

MAX_SHOWN = 100


async def codesmith(state: RepairState) -> RepairState:
    return await (write if choose("codesmith", current_settings()).usable() else apply_plan)(state)


async def apply_plan(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    checkout = Checkout.at(worktree)
    is_isolated = state["findings"]["problem"] is not None
    async with ruff_on(worktree, current_settings(), isolated=is_isolated) as ruff:
        await _apply(state, checkout, ruff)
    files = [shown_name(file) for file in await asyncio.to_thread(checkout.changed)]
    await report_progress(
        1.0, f"✅ Repaired {len(files)} file(s)", phase="result", details={"files": files[:MAX_SHOWN]}
    )
    return {"changed": files, "reviewed": False}


async def _apply(state: RepairState, checkout: Checkout, ruff: Ruff) -> None:
    fixes = [item for item in state["plan"] if item["action"] == "fix"]
    if fixes:
        rules = ", ".join(item["rule"] for item in fixes[:8])
        await report_progress(0.1, f"🔧 Applying ruff's safe fixes: {rules}")
        await ruff.fix()
    changed = await asyncio.to_thread(checkout.changed)
    await report_progress(0.5, f"🔧 The fixes changed {len(changed)} file(s)")

    formatting = state["formatting"]
    if formatting["scope"] == "all":
        targets = sorted({*changed, *await ruff.unformatted(formatting["options"])})
    else:
        targets = changed
    await report_progress(0.6, f"📐 Formatting {len(targets)} file(s): {formatting['reason']}")
    await ruff.format(targets, formatting["options"])
