"""advance_session: folds what its steps returned into a session's state, and queues what comes next."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
import structlog

from app.config import Settings
from app.errors import (
    BadPath,
    EventTooLarge,
    FoldTimeout,
    GitFailed,
    InvalidEvent,
    SnapshotVersionMismatch,
    TooManySupersteps,
    WorkflowError,
)
from app.progress import SessionId
from app.sessions import history, supersteps
from app.sessions.model import NewStep, SessionRow
from app.sessions.supersteps import Advance, Owed
from app.unit_of_work import Backends
from workers.graph import fold
from workers.graph.codec import readable
from workers.graph.fold import Fold, PendingStep
from workers.graph.loading import LoadedWorkflow
from workers.steps.fold_threads import FoldThreads
from workers.workspace.repository import Workspaces

logger = structlog.get_logger(__name__)

T = TypeVar("T")

FOLDS_AT_ONCE = 2
MAX_FILES = 200
"""Names of changed files in a result; the patch has them all."""
Served = Mapping[tuple[str, str], LoadedWorkflow]
"""Workflows by name and version."""


@dataclass
class Advancer:
    backends: Backends
    served: Served
    workspaces: Workspaces
    settings: Settings
    # A fold is pure computation; on the event loop a large one would hold up every append of the process.
    _folds: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FOLDS_AT_ONCE))
    _threads: FoldThreads = field(default_factory=FoldThreads)

    async def advance_session(self, session_id: SessionId) -> None:
        """Does nothing when nothing is owed, so that doubled messages are harmless."""
        if owed := await supersteps.read_owed(self.backends, session_id):
            await self.advance(owed)

    async def advance(self, owed: Owed | None) -> None:
        """Goes on with what was owed; does nothing when another worker was quicker."""
        while owed:
            session = owed.session
            workflow = self.served.get((session.workflow, session.workflow_version))
            if workflow is None:
                await supersteps.park_session(self.backends, session)
                return
            try:
                advance = await self._advance(workflow, owed)
                if await supersteps.commit_advance(self.backends, owed, advance):
                    return
            except (WorkflowError, BadPath, InvalidEvent, EventTooLarge, GitFailed) as error:
                logger.warning("session fails", session=str(session.session_id), error=str(error))
                await supersteps.fail_session(self.backends, owed, f"{type(error).__name__}: {error}")
                return
            owed = await supersteps.read_owed(self.backends, session.session_id)

    async def _advance(self, workflow: LoadedWorkflow, owed: Owed) -> Advance:
        session = owed.session
        if (session.folded_superstep or 0) >= self.settings.max_supersteps:
            raise TooManySupersteps
        if session.folded_superstep is None:
            folded = await self.fold(fold.start(workflow, session.input, session_id=str(session.session_id)))
        else:
            results = {step.task_path: workflow.codec.decode(step.update_data) for step in owed.steps}
            snapshot = await self.snapshot(workflow, session)
            folded = await self.fold(fold.fold(workflow, snapshot, results))
        commits = [step.commit for step in owed.steps if step.commit is not None]
        base = await self._merge(session, commits)
        steps = [] if folded.finished else [self._new_step(workflow, pending) for pending in folded.pending]
        advance = Advance(
            snapshot=folded.snapshot,
            deltas=[(node, readable(delta)) for node, delta in folded.deltas],
            steps=steps,
            base_commit=base,
            finished=folded.finished,
        )
        return await self._with_result(session, folded, advance) if folded.finished else advance

    def close(self) -> None:
        self._threads.close()

    async def fold(self, run: Coroutine[Any, Any, T]) -> T:
        """Runs a fold beside the event loop. Raises FoldTimeout."""
        async with self._folds:  # the limit begins with the fold, not with the wait for its turn
            try:
                return await asyncio.wait_for(self._threads.submit(run), self.settings.fold_time_limit.total_seconds())
            except TimeoutError:
                raise FoldTimeout from None

    async def snapshot(self, workflow: LoadedWorkflow, session: SessionRow) -> bytes:
        """The session's, or one rebuilt from the log where it is missing or of another LangGraph."""
        if session.snapshot is not None:
            try:
                workflow.saver(session.snapshot)
            except SnapshotVersionMismatch as error:
                logger.info("snapshot is rebuilt", session=str(session.session_id), reason=str(error))
            else:
                return session.snapshot
        return (await self.rebuild(workflow, session)).snapshot

    async def rebuild(self, workflow: LoadedWorkflow, session: SessionRow) -> Fold:
        """Folds the session from its log alone, as far as the session has been folded."""
        logged = await history.read_history(self.backends, session.session_id)
        folded = await self.fold(fold.start(workflow, logged.input, session_id=str(session.session_id)))
        for results in logged.supersteps[: session.folded_superstep or 0]:
            decoded = {path: workflow.codec.decode(update) for path, update in results.items()}
            folded = await self.fold(fold.fold(workflow, folded.snapshot, decoded))
        return folded

    def _new_step(self, workflow: LoadedWorkflow, pending: PendingStep) -> NewStep:
        node = workflow.node(pending.node)
        has_input = pending.input is not fold.NO_INPUT
        return NewStep(
            task_path=pending.path,
            agent=pending.node,
            queue=node.queue,
            interrupt_id=pending.interrupt_id,
            input=orjson.dumps(workflow.codec.encode(pending.input)) if has_input else None,
            max_attempts=node.max_attempts or self.settings.max_attempts,
            time_limit=node.time_limit or self.settings.step_time_limit,
        )

    async def _merge(self, session: SessionRow, commits: list[str]) -> str | None:
        if not commits:
            return session.base_commit
        workspace = await self.workspaces.open(session.session_id, path=session.path, repo=session.repo)
        return await workspace.merge(session.base_commit or workspace.initial, commits)

    async def _with_result(self, session: SessionRow, folded: Fold, advance: Advance) -> Advance:
        """The graph's output; for a session with a project also its branch and patch."""
        output = folded.output
        result: dict[str, Any] = output if isinstance(output, dict) else {"output": output}
        patch = None
        if session.path or session.repo or advance.base_commit:
            workspace = await self.workspaces.open(session.session_id, path=session.path, repo=session.repo)
            finished = await workspace.finish(advance.base_commit or workspace.initial, session=session.session_id)
            patch = finished.patch
            result = {
                **result,
                "branch": finished.branch,
                "patch": str(finished.patch_path) if finished.patch_path else None,
                "files": list(finished.files[:MAX_FILES]),
                "files_changed": len(finished.files),
                "workspace": str(workspace.gitdir),
            }
        return replace(advance, result=readable(result), patch=patch)
