"""The Reporter of a running attempt: what its agent says goes into the log, under the attempt's lease."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from app.errors import EventTooLarge, InvalidEvent
from app.events import log
from app.events.group_commit import GroupCommit
from app.events.types import agent_event
from app.progress import CurrentStep, ModelCall, Report, report_progress
from app.redaction import Redactor
from app.sessions import calls
from app.sessions.attempts import Claim
from app.sessions.service import Services


@dataclass
class AttemptReporter:
    """Appends an attempt's reports under its lease; callable from any thread and loop."""

    claim: Claim
    services: Services
    appends: GroupCommit
    loop: asyncio.AbstractEventLoop
    redactor: Redactor
    _in_flight: "set[asyncio.Task[int]]" = field(default_factory=set)

    async def report(self, step: CurrentStep, report: Report) -> int:
        event = agent_event(
            agent=report.agent,
            phase=report.phase,
            msg=self.redactor.text(report.message),
            progress=report.progress,
            total=report.total,
            details=self.redactor.value(dict(report.details)),
            step=step.step,
            attempt=step.attempt,
        )
        return await self._write(self._append(log.item(step.session_id, event, lease=self.claim.lease)))

    async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
        redacted = replace(
            call,
            request=self.redactor.value(call.request),
            response=self.redactor.value(call.response),
            error=self.redactor.value(call.error),
        )
        return await self._write(calls.record_call(self.services, self.claim, redacted))

    async def _append(self, entry: log.Item) -> int:
        return (await self.appends.append(entry)).offset

    async def _write(self, writing: Coroutine[Any, Any, int]) -> int:
        if asyncio.get_running_loop() is self.loop:
            return await self._shielded(writing)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._shielded(writing), self.loop))

    async def _shielded(self, writing: Coroutine[Any, Any, int]) -> int:
        # A task of its own: a caller that is cancelled meanwhile does not take back what is being written.
        task = asyncio.create_task(writing)
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Waits for reports that the node started and did not wait for."""
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def stream(self, value: Any) -> None:
        """What a node gives to LangGraph's stream writer becomes a report."""
        details: dict[str, Any]
        match value:
            case str():
                message, details = value, {}
            case {"msg": str(message), **rest} | {"message": str(message), **rest}:
                details = {str(key): item for key, item in rest.items()}
            case dict():
                message, details = "", value
            case _:
                message, details = "", {"value": value}
        try:
            await report_progress(0.0, message, total=None, details=details)
        except (InvalidEvent, EventTooLarge) as error:
            await report_progress(0.0, f"{message}: {error}", total=None, details={"refused": True})
