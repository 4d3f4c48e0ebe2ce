"""A step without a worker: what an agent says and the calls that it makes go into lists."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.config import Settings
from app.progress import CurrentStep, ModelCall, Report, SessionId, ToolCall, running_step
from workers.models.gate import PaidAnswer, Provider, Spending, model_gate
from workers.settings import current_settings, step_settings
from workers.workspace.current import worktree_provider


@dataclass
class Log:
    """A Reporter and a ModelGate in one."""

    reports: list[Report] = field(default_factory=list)
    calls: list[ModelCall] = field(default_factory=list)
    tools: list[ToolCall] = field(default_factory=list)
    started: dict[str, str] = field(default_factory=dict)

    async def report(self, step: CurrentStep, report: Report) -> int:
        self.reports.append(report)
        return len(self.reports) + len(self.calls)

    async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
        self.calls.append(call)
        return len(self.reports) + len(self.calls)

    async def record_tool_call(self, step: CurrentStep, call: ToolCall) -> int:
        self.tools.append(call)
        return len(self.reports) + len(self.calls) + len(self.tools)

    @asynccontextmanager
    async def admit(self, provider: Provider) -> AsyncIterator[None]:
        yield

    async def spending(self) -> Spending:
        return Spending(sum(call.cost or 0 for call in self.calls), 0)

    async def paid_answer(self, digest: str, *, whole_session: bool) -> PaidAnswer | None:
        found = [call for call in self.calls if call.trace["request_digest"] == digest and call.error is None]
        return PaidAnswer(1, found[-1].response) if found else None

    async def started_response(self, digest: str) -> str | None:
        return self.started.get(digest)

    def said(self, phase: str) -> list[str]:
        return [report.message for report in self.reports if report.phase == phase]


@contextmanager
def step_of(agent: str, worktree: Path, log: Log, settings: Settings) -> Iterator[Log]:
    async def provide() -> Path:
        return worktree

    provider, gate, before = worktree_provider.set(provide), model_gate.set(log), step_settings.set(settings)
    try:
        with running_step(CurrentStep(SessionId(uuid4()), 1, 1, agent, log)):
            yield log
    finally:
        worktree_provider.reset(provider)
        model_gate.reset(gate)
        step_settings.reset(before)


def change_settings(**changes: Any) -> None:
    """Changes settings of the step for the rest of the test."""
    step_settings.set(current_settings().model_copy(update=changes))
