"""Rebuilding: folds sessions from their log alone and compares with their snapshots, or replaces these.

The snapshot is a cache of the fold; this is the proof.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from app.config import Settings
from app.database import DriverPool, create_engine
from app.errors import SnapshotVersionMismatch, UnknownSecret, WorkflowError
from app.events.push import Push
from app.events.seals import SealKeys
from app.known_secrets import Secrets
from app.progress import SessionId
from app.sessions import history
from app.sessions.dispatch import Dispatch
from app.sessions.model import RefusedWorkflow, SessionRow
from app.unit_of_work import Backends
from workers.graph import fold
from workers.graph.fold import Fold
from workers.graph.loading import LoadedWorkflow, load_workflows
from workers.process.runtime import Addresses
from workers.steps.advancer import Served
from workers.steps.fold_threads import FoldThreads
from workers.steps.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Rebuilt:
    session_id: SessionId
    status: Literal["same", "different", "replaced", "skipped"]
    detail: str = ""


async def rebuild(
    settings: Settings, session_ids: Sequence[SessionId] | None, *, check: bool
) -> AsyncIterator[Rebuilt]:
    """All sessions where `session_ids` is None. With `check` nothing is written."""
    addresses = Addresses.of(settings)
    workflows = load_workflows(settings.workflows, settings.allowed_state_types, Secrets.of(settings))
    served = {(w.name, w.version): w for w in workflows.served.values()}
    database = create_engine(addresses.database, pool_size=2, limit=settings.statement_limit)
    push, dispatch = Push(addresses.redis, SealKeys(database)), Dispatch(addresses.broker)
    pool = DriverPool(addresses.database, limit=settings.statement_limit)
    backends = Backends(settings, database, pool, push, dispatch)
    folds = FoldThreads(settings.fold_time_limit)
    rebuilder = Rebuilder(backends, served, Snapshots(backends, folds), workflows.refused)
    try:
        chosen = history.session_ids(backends) if session_ids is None else _these(session_ids)
        async for session_id in chosen:
            yield await rebuilder.rebuild(session_id, check=check)
    finally:
        folds.close()
        await push.close()
        dispatch.close()
        await pool.close()
        await database.dispose()


async def _these(session_ids: Sequence[SessionId]) -> AsyncIterator[SessionId]:
    for session_id in session_ids:
        yield session_id


@dataclass
class Rebuilder:
    backends: Backends
    served: Served
    snapshots: Snapshots
    refused: Sequence[RefusedWorkflow] = ()

    async def rebuild(self, session_id: SessionId, *, check: bool) -> Rebuilt:
        """Raises NotFound."""
        session = await history.read_session(self.backends, session_id)
        if session.folded_superstep is None:
            return Rebuilt(session_id, "skipped", "nothing is folded yet")
        workflow = self.served.get((session.workflow, session.workflow_version))
        if workflow is None:
            version = f"{session.workflow!r} in version {session.workflow_version}"
            why = [str(refused) for refused in self.refused if refused.workflow in (session.workflow, None)]
            return Rebuilt(session_id, "skipped", "; ".join([f"the workflow {version} is not served here", *why]))
        try:
            folded = await self.snapshots.rebuild(workflow, session)
        except UnknownSecret as error:
            return Rebuilt(session_id, "skipped", str(error))
        except WorkflowError as error:
            return Rebuilt(session_id, "different", f"the log cannot be folded: {error}")
        if not check:
            replaced = await history.replace_snapshot(self.backends, session, folded.snapshot)
            return Rebuilt(
                session_id, "replaced" if replaced else "skipped", "" if replaced else "it moved on meanwhile"
            )
        return self._compare(workflow, session, folded)

    def _compare(self, workflow: LoadedWorkflow, session: SessionRow, folded: Fold) -> Rebuilt:
        if session.snapshot is None:
            return Rebuilt(session.session_id, "different", "there is no snapshot")
        try:
            kept = fold.read(workflow, session.snapshot)
        except (SnapshotVersionMismatch, UnknownSecret) as error:
            return Rebuilt(session.session_id, "skipped", str(error))
        # Not the bytes: checkpoint and interrupt ids hold a random part. Encoded, since NaN equals nothing.
        before, after = ({name: workflow.codec.encode(v) for name, v in f.values.items()} for f in (kept, folded))
        if before != after:
            names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            return Rebuilt(session.session_id, "different", f"the state differs in {', '.join(names)}")
        if [step.path for step in kept.pending] != [step.path for step in folded.pending]:
            return Rebuilt(session.session_id, "different", "other nodes are pending")
        return Rebuilt(session.session_id, "same")
