"""What clients do with sessions: create, look, take the result. One function, one transaction."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import transaction
from app.disk import check_room
from app.errors import (
    BadInput,
    IdempotencyMismatch,
    NotFound,
    NoWorkerYet,
    StellwerkError,
    TooMany,
    UnknownWorkflow,
    WorkflowRefused,
)
from app.events import append, artifacts, references
from app.events.secrecy import Secrecy
from app.events.types import DEFAULT_PROJECT
from app.principals.control import control_in_project
from app.principals.model import Control, Principal, check_project, no_project
from app.progress import SessionId
from app.sessions import (
    credentials,
    facts,
    history,
    repository,
    start_repository,
    transitions,
    view_repository,
    worker_repository,
)
from app.sessions.admission import admit_sessions
from app.sessions.continuing import check_version, read_parent
from app.sessions.knowing import learn_secrets
from app.sessions.lists import ListedSession
from app.sessions.model import NewSession, RegisteredWorkflow, SessionView, new_session_id
from app.unit_of_work import Backends, UnitOfWork

NO_WORKER = "no worker is running; the session goes on when one starts"


async def create_session(
    backends: Backends,
    new: NewSession,
    *,
    principal: Principal,
    project: str | None = None,
    idempotency_key: str | None = None,
    request_id: str | None = None,
) -> tuple[SessionView, bool]:
    """The session, and whether it is new: the same key and body again give the first one.

    Only a principal of every project names the `project`. Raises BadInput, UnknownWorkflow, WorkflowRefused,
    NoWorkerYet, DiskFull, IdempotencyMismatch, TooMany where the project has as many open sessions as it may have; and
    NotFound and Conflict for the session that is to be continued.
    """
    _check_limit(backends, new)
    new = await _without_credentials(backends, new)
    if project is None:
        project = principal.project or DEFAULT_PROJECT
    elif not principal.sees(check_project(project)):
        raise BadInput(f"{principal.name!r} belongs to the project {principal.project!r}; leave `project` out")
    control = Control("session.create", principal, request_id=request_id)
    if new.continues is not None:
        control.details = {"continues": str(new.continues)}
    try:
        async with control_in_project(backends, project, control) as work:
            if idempotency_key and (found := await _by_key(work.db, project, principal, idempotency_key, new)):
                control.target, control.outcome = str(found.session_id), "unchanged"
                return found, False
            check_room(backends.settings)
            await _check_room(work, project)
            session_id = await _insert(work, new, project, principal, idempotency_key)
            control.target = str(session_id)
            work.after_commit.append(partial(admit_sessions, backends))
            return await repository.session_view(work.db, session_id), True
    except IntegrityError:
        # Two requests with one new key at the same time: the other one was first.
        async with transaction(backends.engine) as db:
            found = await _by_key(db, project, principal, idempotency_key, new) if idempotency_key else None
        if found is None:
            raise
        return found, False


async def _without_credentials(backends: Backends, new: NewSession) -> NewSession:
    """Raises BadInput."""
    if new.repo is None:
        return new
    credentials.check_address(new.repo)
    repo, found = credentials.without_credentials(new.repo)
    kept = None if found is None else await asyncio.to_thread(credentials.encrypted, found, backends.settings)
    return replace(new, repo=repo, repo_credentials=kept)


async def forget_credentials(backends: Backends, session_id: SessionId) -> None:
    """The session's repository is cloned."""
    async with transaction(backends.engine) as db:
        await start_repository.forget_credentials(db, session_id)


def _check_limit(backends: Backends, new: NewSession) -> None:
    limit, most = (new.config or {}).get("recursion_limit", 1), backends.settings.max_supersteps
    if not 1 <= limit <= most:
        raise BadInput(f"config.recursion_limit is {limit}; it may be 1 to {most} (STELLWERK_MAX_SUPERSTEPS)")


async def _check_room(work: UnitOfWork, project: str) -> None:
    """Raises TooMany. The caller holds the lock of the project's operators' stream, so two do not take one place."""
    most = work.backends.settings.project_sessions
    if await start_repository.count_open(work.db, project, at_most=most) >= most:
        raise TooMany(
            f"the project {project!r} has {most} sessions that have not ended (STELLWERK_PROJECT_SESSIONS);"
            " try again when some have",
            retry_after=10,
        )


async def _by_key(
    db: AsyncConnection, project: str, principal: Principal, key: str, new: NewSession
) -> SessionView | None:
    found = await start_repository.session_by_key(db, project, principal.name, key)
    if found is None:
        return None
    if found[1] != new.digest():
        raise IdempotencyMismatch
    return await repository.session_view(db, found[0])


async def _insert(work: UnitOfWork, new: NewSession, project: str, principal: Principal, key: str | None) -> SessionId:
    parent = await read_parent(work.db, new, project=project, principal=principal)
    workflow = await _workflow(work.db, new.workflow or (parent.workflow if parent else ""))
    if parent:
        check_version(parent, workflow.version)
    merged = {"task": new.task, "path": new.path}
    graph_input = {k: v for k, v in merged.items() if k in workflow.input_fields and v is not None} | new.input
    digest = new.digest()
    await learn_secrets(work.backends, work.db)
    new, graph_input = await _as_recorded(work.backends.secrecy, new, graph_input)
    session_id = new_session_id()
    await append.create_stream(work.db, session_id, "session", project=project)
    await start_repository.insert_session(
        work.db,
        session_id,
        new,
        workflow,
        graph_input=graph_input,
        parent=parent,
        project=project,
        principal=principal.name,
        idempotency_key=key,
        digest=digest,
    )
    values: dict[str, Any] = {"input": graph_input, "context": new.context, "config": new.config}
    if parent and parent.final_state:
        values["state"] = orjson.loads(parent.final_state)
    created = facts.session_created(
        new,
        path=parent.path if parent else new.path,
        repo=parent.repo if parent else new.repo,
        given=await _outsourced(work, session_id, values),
        workflow=workflow,
        project=project,
        principal=principal,
        continues=parent.end if parent else None,
    )
    await work.append(session_id, created)
    if not await worker_repository.is_served(work.db, workflow.name, workflow.version):
        await work.append(session_id, facts.session_waiting(NO_WORKER))
        await repository.set_status(work.db, session_id, transitions.after("park", "created"), NO_WORKER)
    return session_id


async def _as_recorded(secrecy: Secrecy, new: NewSession, graph_input: Any) -> tuple[NewSession, Any]:
    """What is asked for, without secrets: for columns and for the first event."""

    async def exact(value: Any) -> Any:
        return await secrecy.kept(references.as_it_is(value), "exact")

    recorded = replace(
        new,
        task=await secrecy.kept(new.task, "shown"),
        context=await exact(new.context),
        config=await exact(new.config),
    )
    return recorded, await exact(graph_input)


async def _outsourced(work: UnitOfWork, session_id: SessionId, values: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, for one event; it holds all that a rebuild needs: a parent may be gone by then."""
    given = {name: value for name, value in values.items() if value is not None}
    return {name: await work.outsource(session_id, value, "exact", share=len(given)) for name, value in given.items()}


async def _workflow(db: AsyncConnection, name: str) -> RegisteredWorkflow:
    """The version for a new session. Raises WorkflowRefused, NoWorkerYet in a new deployment, else UnknownWorkflow."""
    # Also where a worker served it before: what is submitted would wait, and for nothing.
    if refusals := await worker_repository.refusals(db, name):
        reasons = "; ".join(f"{refused.reason} (module {refused.module})" for refused in refusals)
        raise WorkflowRefused(f"the workflow {name!r} is refused: {reasons}")
    workflow = await worker_repository.newest_workflow(db, name)
    if workflow is None:
        raise await _unknown(db, name)
    return workflow


async def _unknown(db: AsyncConnection, name: str) -> StellwerkError:
    names = await worker_repository.workflow_names(db)
    refused = await worker_repository.refused_workflows(db)
    if not names and not refused:
        return NoWorkerYet()
    # It may be in a module that could not be imported.
    modules = "".join(f"; {module}" for module in refused if module.workflow is None)
    return UnknownWorkflow(
        f"no worker serves a workflow {name!r}; known: {', '.join(names) or 'none'}{modules}"
        " (workers serve what STELLWERK_WORKFLOWS named when they started)"
    )


async def get_session(backends: Backends, session_id: SessionId, *, principal: Principal) -> SessionView:
    """The session with its steps. Raises NotFound."""
    async with transaction(backends.engine) as db:
        view = await repository.session_view(db, session_id, project=principal.project)
        return replace(view, steps=await view_repository.step_views(db, session_id))


async def list_sessions(
    backends: Backends,
    *,
    principal: Principal,
    project: str | None = None,
    before: SessionId | None = None,
    limit: int = 100,
    statuses: Collection[str] = (),
    workflow: str | None = None,
) -> list[ListedSession]:
    """Newest first, without steps and results; `before` is the last id of the page before.

    Raises NotFound for a project that is not the principal's.
    """
    if project is not None and not principal.sees(project):
        raise no_project(project)
    async with transaction(backends.engine) as db:
        return await view_repository.list_sessions(
            db, project=principal.project or project, before=before, limit=limit, statuses=statuses, workflow=workflow
        )


async def read_patch(backends: Backends, session_id: SessionId, *, principal: Principal) -> bytes | None:
    """The result as a patch, None when nothing was changed. It is the one that the session's last event names.

    Raises NotFound while there is no result, and Altered where the log knows none or the content is another one.
    """
    async with transaction(backends.engine) as db:
        view = await repository.session_view(db, session_id, project=principal.project)
        if view.status != "succeeded":
            raise NotFound(f"the session is {view.status}; a patch is there when it has succeeded")
        result = await history.read_result(db, session_id)
        digest = result.get("patch_digest") if isinstance(result, dict) else None
        if digest is None:
            return None
        return (await artifacts.get_artifact(db, session_id, bytes.fromhex(digest))).content
