"""What an attempt's agent gets: a reporter, a checkout of the session's files, the way to models, and settings."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.errors import EventTooLarge, InvalidEvent
from app.events.encoding import Item, printable
from app.events.group_commit import GroupCommit
from app.progress import CurrentStep, ModelCall, Report, ToolCall, current_step, running_step
from app.sessions import model_calls, service, tool_calls
from app.sessions.attempts import Claim
from app.sessions.credentials import Credentials, decrypted
from app.sessions.facts import agent_event
from app.sessions.model import SessionRow
from app.unit_of_work import Backends
from workers.models.gate import model_gate
from workers.models.limits import ModelLimits
from workers.settings import step_settings
from workers.steps.call_records import kept_model_call, kept_tool_call
from workers.steps.failures import patiently
from workers.steps.model_gate import AttemptGate
from workers.workspace.current import worktree_provider
from workers.workspace.repository import Workspace, Workspaces

STREAMED_AHEAD = 1000
"""Streamed reports that are on their way to the log at a time, and so in memory."""


@dataclass
class AttemptReporter:
    """Appends an attempt's reports under its lease; callable from any thread and loop."""

    claim: Claim
    backends: Backends
    appends: GroupCommit
    loop: asyncio.AbstractEventLoop
    _in_flight: "set[asyncio.Task[int]]" = field(default_factory=set)
    _streamed: "deque[asyncio.Task[None]]" = field(default_factory=deque)

    async def report(self, step: CurrentStep, report: Report) -> int:
        # What is large is looked through for secrets beside the loop; what is left for the door is quick then.
        details = await self.backends.secrecy.kept(dict(report.details), "shown")
        return await self._append_report(step, replace(report, details=details))

    async def _append_report(self, step: CurrentStep, report: Report) -> int:
        event = agent_event(
            agent=report.agent,
            phase=report.phase,
            msg=report.message,
            progress=report.progress,
            total=report.total,
            details=report.details,
            step=step.step,
            attempt=step.attempt,
        )
        return await self._write(self._append(self.backends.item(step.session_id, event, lease=self.claim.lease)))

    async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
        kept = kept_model_call(call, self.backends.settings.record_models)
        return await self._write(self._record(partial(model_calls.record_call, self.backends, self.claim, kept)))

    async def record_tool_call(self, step: CurrentStep, call: ToolCall) -> int:
        kept = kept_tool_call(call, self.backends.settings.record_models)
        return await self._write(self._record(partial(tool_calls.record_call, self.backends, self.claim, kept)))

    async def _append(self, entry: Item) -> int:
        return (await self.appends.append(entry)).offset

    async def _record(self, recording: Callable[..., Awaitable[int]]) -> int:
        """The call is paid for: a database that restarts just now must not cost it."""
        return await patiently(partial(recording, key=f"call:{uuid4()}"))

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

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """A node runs in here: what it streamed is in the log before its end is.

        A node that is cancelled does not wait: what is on its way comes there if its lease still stands. Raises what
        the first report met that the log did not take.
        """
        try:
            yield
        except asyncio.CancelledError:
            for task in self._streamed:
                task.cancel()
            raise
        except BaseException:
            await asyncio.gather(*self._streamed)
            raise
        await asyncio.gather(*self._streamed)

    async def stream(self, value: Any) -> None:
        """What a node gives to LangGraph's stream writer becomes a report; raises what an earlier one met.

        The node does not wait for what it writes, so no report waits for another: many share a round trip. Tasks
        begin in the order in which they are made, and up to the log's line nothing in them waits, so it is theirs.
        """
        while self._streamed and (self._streamed[0].done() or len(self._streamed) >= STREAMED_AHEAD):
            await asyncio.shield(self._streamed[0])
            self._streamed.popleft()
        value = await self.backends.secrecy.kept(value, "shown")
        self._streamed.append(asyncio.create_task(self._report_streamed(value)))
        await asyncio.sleep(0)  # a thousand that come at once must hold up neither the first of them nor other steps

    async def _report_streamed(self, value: Any) -> None:
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
        step = current_step()
        try:
            await self._append_report(step, Report(step.agent, message, 0.0, None, details=details))
        except (InvalidEvent, EventTooLarge) as error:
            told = f"{printable(message[:200])} …: {error}"
            await self._append_report(step, Report(step.agent, told, 0.0, None, details={"refused": True}))


@dataclass
class AttemptWorkspace:
    """The attempt's checkout, made when its agent first asks for it."""

    claim: Claim
    workspaces: Workspaces
    backends: Backends
    workspace: Workspace | None = None
    worktree: Path | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def provide(self) -> Path:
        async with self._making:
            if self.worktree is None:
                session, step = self.claim.session, self.claim.step
                self.workspace = await self.workspaces.open(
                    session.session_id,
                    path=session.path,
                    repo=session.repo,
                    continues=session.continues,
                    base=session.base_commit,
                    credentials=await credentials_of(session, self.backends),
                )
                if session.repo_credentials is not None:
                    await patiently(partial(service.forget_credentials, self.backends, session.session_id))
                base = session.base_commit or self.workspace.initial
                self.worktree = await self.workspace.checkout(base, step=step.step, attempt=step.attempt)
            return self.worktree

    async def commit(self) -> str | None:
        """None when nothing was changed, or no checkout was made."""
        if self.workspace is None or self.worktree is None:
            return None
        agent = self.claim.step.agent
        return await self.workspace.commit(self.worktree, agent=agent, message=f"{agent}: {self.claim.session.task}")

    async def discard(self) -> None:
        if self.workspace is not None and self.worktree is not None:
            await self.workspace.discard(self.worktree)


async def credentials_of(session: SessionRow, backends: Backends) -> Credentials | None:
    """What opens the session's repository, as long as it is not cloned. Raises UnknownSecret."""
    if session.repo_credentials is None:
        return None
    return await asyncio.to_thread(decrypted, session.repo_credentials, backends.settings)


@contextmanager
def surrounded(
    claim: Claim,
    reporter: AttemptReporter,
    workspace: AttemptWorkspace,
    *,
    backends: Backends,
    limits: ModelLimits,
) -> Iterator[None]:
    """An agent runs in here: what it reports, reads, changes and asks of models is this attempt's."""
    step = CurrentStep(
        session_id=claim.session.session_id,
        step=claim.step.step,
        attempt=claim.step.attempt,
        agent=claim.step.agent,
        reporter=reporter,
        environment={
            "STELLWERK_URL": backends.settings.url or "",
            "STELLWERK_SESSION": str(claim.session.session_id),
            "STELLWERK_STEP_TOKEN": str(claim.token),
        },
    )
    provider = worktree_provider.set(workspace.provide)
    gate = model_gate.set(AttemptGate(claim, backends, limits))
    chosen = step_settings.set(backends.settings)
    try:
        with running_step(step):
            yield
    finally:
        step_settings.reset(chosen)
        model_gate.reset(gate)
        worktree_provider.reset(provider)
