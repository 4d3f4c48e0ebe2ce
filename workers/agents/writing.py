"""codesmith with a model: the Claude CLI writes in the worktree."""

import asyncio
from typing import Any

from app.progress import report_progress
from workers.agents.state import RepairState
from workers.models.claude import Work, work
from workers.reading.files import shown_name
from workers.workspace.checkout import Checkout
from workers.workspace.current import current_worktree

ROLE = """\
You work on the Python project in the current directory, and only there. Do what the task asks, no more, in the
project's own style; write tests for what is new. Nobody can answer questions: decide, and record what you decide and
why with the tool record_decision if you have it.
"""
MAX_SHOWN = 100
MAX_TEXT = 20_000


async def write(state: RepairState) -> RepairState:
    worktree = await current_worktree()
    await report_progress(0.3, "📡 Calling Claude CLI for code generation")
    done = await work(_prompt(state), instructions=ROLE, worktree=worktree)
    files = await changed_files(Checkout.at(worktree))
    await report_progress(1.0, f"✅ Generated {len(files)} files", phase="result", details=told(done, files))
    return {"changed": files, "reviewed": False, "written": done.text[:MAX_TEXT]}


async def changed_files(checkout: Checkout) -> list[str]:
    """Against how the session found them."""
    return [shown_name(file) for file in await asyncio.to_thread(checkout.changed)]


def told(done: Work, files: list[str]) -> dict[str, Any]:
    """The details of a result."""
    details = {
        "files": files[:MAX_SHOWN],
        "turns": done.turns,
        "cost": done.cost,
        "duration_ms": done.duration_ms,
        "denied": done.denied,
    }
    return details | ({"stopped": done.stopped} if done.stopped else {})


def _prompt(state: RepairState) -> str:
    parts = [f"# The task\n\n{state.get('task', '')}"]
    if instructions := state.get("instructions"):
        parts.append(f"# What is to be done now\n\n{instructions}")
    if plan := state.get("design"):
        steps = "\n".join(
            f"{number}. {step['title']} ({', '.join(step['files'])}): {step['instructions']}"
            for number, step in enumerate(plan["steps"], 1)
        )
        parts.append(f"# The plan\n\n{plan['summary']}\n\n{steps}")
    if notes := state.get("notes"):
        parts.append(f"# What was looked up\n\n{notes['text']}\n\n" + "\n".join(notes["citations"]))
    if items := state.get("plan"):
        found = "\n".join(f"- {item['rule']} × {item['count']}: {item['title']}" for item in items[:MAX_SHOWN])
        parts.append(f"# What ruff finds\n\n{found}")
    if review := state.get("review"):
        parts.append(f"# The last review\n\n{review}")
    return "\n\n".join(parts)
