"""advance_session: folds what its steps returned into a session's state, and queues what comes next.

read what is owed ─▶ fold ─▶ merge the steps' commits ─▶ commit (one transaction), and ring
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from app.disk import found_no_room
from app.errors import BadPath, EventTooLarge, GitFailed, InvalidEvent, TooManySupersteps, WorkflowError
from app.progress import SessionId
from app.sessions import supersteps
from app.sessions.model import Advance
from app.sessions.supersteps import Owed
from app.unit_of_work import Backends
from workers.graph import fold
from workers.graph.fold import Defaults
from workers.graph.loading import LoadedWorkflow
from workers.steps.fold_threads import FoldThreads
from workers.steps.snapshots import Snapshots, invocation_of
from workers.steps.surroundings import credentials_of
from workers.workspace.repository import Workspaces

logger = structlog.get_logger(__name__)

Served = Mapping[tuple[str, str], LoadedWorkflow]
"""Workflows by name and version."""


@dataclass(frozen=True, slots=True)
class Advancer:
    backends: Backends
    served: Served
    workspaces: Workspaces
    snapshots: Snapshots
    folds: FoldThreads

    async def advance_session(self, session_id: SessionId) -> None:
        """Does nothing when nothing is owed, so that doubled messages are harmless."""
        owed = await supersteps.read_owed(self.backends, session_id)
        if owed and (owed.session.workflow, owed.session.workflow_version) not in self.served:
            await supersteps.park_session(self.backends, owed.session)
        else:
            await self.advance(owed)

    async def advance(self, owed: Owed | None) -> None:
        """Goes on with what was owed. A worker that was quicker has gone on already; then nothing is left to do."""
        if owed is None:
            return
        session = owed.session
        workflow = self.served[session.workflow, session.workflow_version]
        try:
            found = await self._fold(workflow, owed)
            merged = await self.workspaces.merge_steps(
                session.session_id,
                [step.commit for step in owed.steps if step.commit is not None],
                base=session.base_commit,
                is_last=found.finished,
                path=session.path,
                repo=session.repo,
                continues=session.continues,
                credentials=await credentials_of(session, self.backends),
            )
            result = {**found.result, **merged.result}
            advance = replace(found, base_commit=merged.base, result=result, patch=merged.patch)
            await supersteps.commit_advance(self.backends, owed, advance)
        except (WorkflowError, BadPath, InvalidEvent, EventTooLarge, GitFailed) as error:
            if found_no_room(error, self.backends.settings.workspaces_dir):
                logger.warning("session waits for room on the disk", session=str(session.session_id), error=str(error))
                return  # the rescuer rings again, with back-off
            logger.warning("session fails", session=str(session.session_id), error=str(error))
            await supersteps.fail_session(self.backends, owed, f"{type(error).__name__}: {error}")

    async def _fold(self, workflow: LoadedWorkflow, owed: Owed) -> Advance:
        session, settings = owed.session, self.backends.settings
        if (session.folded_superstep or 0) >= settings.max_supersteps:
            raise TooManySupersteps
        invocation = invocation_of(session, self.backends.secrecy)
        defaults = Defaults(settings.max_attempts, settings.step_time_limit)
        if session.folded_superstep is not None:
            snapshot = await self.snapshots.foldable(workflow, session)
            updates = {step.task_path: step.update_data for step in owed.steps}
            run = fold.advance(workflow, snapshot, updates, invocation=invocation, defaults=defaults)
        else:
            run = fold.begin(
                workflow,
                self.backends.secrecy.resolved(session.input),
                session_id=str(session.session_id),
                start_state=owed.start_state,
                invocation=invocation,
                defaults=defaults,
            )
        return await self.folds.run(run)
