"""Snapshots of sessions: caches of their folds, rebuilt from the log where there is none that this worker can read."""

from dataclasses import dataclass

import structlog

from app.errors import SnapshotVersionMismatch
from app.events.secrecy import Secrecy
from app.sessions import history
from app.sessions.history import History
from app.sessions.model import SessionRow
from app.unit_of_work import Backends
from workers.graph import fold, results
from workers.graph.fold import Fold
from workers.graph.invocation import Invocation
from workers.graph.loading import LoadedWorkflow
from workers.steps.fold_threads import FoldThreads

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshots:
    backends: Backends
    folds: FoldThreads

    async def foldable(self, workflow: LoadedWorkflow, session: SessionRow) -> bytes:
        """The session's, or one rebuilt from the log where it is missing or of another LangGraph."""
        if session.snapshot is not None:
            try:
                fold.check(workflow, session.snapshot)
            except SnapshotVersionMismatch as error:
                logger.info("snapshot is rebuilt", session=str(session.session_id), reason=str(error))
            else:
                return session.snapshot
        return (await self.rebuild(workflow, session)).snapshot

    async def rebuild(self, workflow: LoadedWorkflow, session: SessionRow) -> Fold:
        """Folds the session from its log alone, as far as the session has been folded."""
        logged = await history.read_history(self.backends, session.session_id)
        secrecy = self.backends.secrecy
        invocation = invocation_of(logged, secrecy)
        started = fold.start(
            workflow,
            secrecy.resolved(logged.input),
            session_id=str(session.session_id),
            start_state=workflow.codec.decode(logged.start_state),
            invocation=invocation,
        )
        folded = await self.folds.run(started)
        for updates in logged.supersteps[: session.folded_superstep or 0]:
            decoded = {path: results.decode(workflow.codec, update) for path, update in updates.items()}
            folded = await self.folds.run(fold.fold(workflow, folded.snapshot, decoded, invocation=invocation))
        return folded


def invocation_of(given: SessionRow | History, secrecy: Secrecy) -> Invocation:
    """What the session gives to its graph beside the state: by its row, or by its log. Raises UnknownSecret."""
    return Invocation(secrecy.resolved(given.context), secrecy.resolved(given.config))
