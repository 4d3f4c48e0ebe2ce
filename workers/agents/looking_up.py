"""research with a model: looks up what the task needs, and keeps what the answer rests on."""

from dataclasses import dataclass
from typing import Any

from app.progress import report_progress
from workers.agents.state import Notes, RepairState, Survey
from workers.models.chat import search
from workers.models.gate import Provider

MAX_NOTES = 20_000
MAX_SOURCES = 50


@dataclass(frozen=True, slots=True)
class LookedUp:
    notes: Notes
    details: dict[str, Any]


async def look_up(state: RepairState, survey: Survey, provider: Provider) -> LookedUp:
    await report_progress(0.92, f"📡 Asking {provider} what the task needs")
    found = await search(_question(state, survey), provider=provider)
    citations = found.citations[:MAX_SOURCES]
    notes = Notes(text=found.text[:MAX_NOTES], citations=citations)
    return LookedUp(
        notes, {"notes": notes["text"], "citations": citations, "search_results": found.sources[:MAX_SOURCES]}
    )


def _question(state: RepairState, survey: Survey) -> str:
    lines = [
        f"A Python project is to be changed. The task: {state.get('task', '')}",
        state.get("instructions", ""),
        f"It has {survey['python_files']} Python file(s), needs Python {survey['requires_python'] or 'of any version'}",
        f"and uses {', '.join(survey['dependencies'] or survey['imports']) or 'the standard library alone'}.",
        "What should somebody who does it know? Name current practice, pitfalls and sources, in at most 300 words.",
    ]
    return "\n".join(line for line in lines if line)
