"""The SQL on how sessions start: what they are made of, the requests that made them, and whom they continue."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.progress import SessionId
from app.sessions import repository
from app.sessions.model import NewSession, Parent, RegisteredWorkflow, listed
from app.sessions.transitions import OPEN


async def insert_session(
    db: AsyncConnection,
    session_id: SessionId,
    new: NewSession,
    workflow: RegisteredWorkflow,
    *,
    graph_input: Any,
    parent: Parent | None,
    project: str,
    principal: str,
    idempotency_key: str | None,
    digest: bytes,
) -> None:
    """With a `parent` it takes over that one's project files."""
    await db.execute(
        text(
            "INSERT INTO sessions (session_id, status, task, input, path, repo, priority, options, principal,"
            " workflow, workflow_version, langgraph_version, idempotency_key, request_digest, project,"
            " context, config, continues, base_commit, repo_credentials)"
            " VALUES (:id, 'created', :task, :input, :path, :repo, :priority, :options, :principal,"
            " :workflow, :version, :langgraph, :key, :digest, :project, :context, :config, :continues, :base,"
            " :credentials)"
        ),
        {
            "id": session_id,
            "task": new.task,
            "input": repository.as_json(graph_input),
            "path": parent.path if parent else new.path,
            "repo": parent.repo if parent else new.repo,
            "priority": new.priority,
            "options": repository.as_json(new.options),
            "principal": principal,
            "workflow": workflow.name,
            "version": workflow.version,
            "langgraph": workflow.langgraph_version,
            "key": idempotency_key,
            "digest": digest,
            "project": project,
            "context": repository.as_json(new.context),
            "config": repository.as_json(new.config or {}),
            "continues": new.continues,
            "base": parent.base_commit if parent else None,
            "credentials": new.repo_credentials,
        },
    )


async def parent_row(db: AsyncConnection, session_id: SessionId, *, project: str | None) -> Parent:
    """The session that another one is to continue. Raises NotFound, also for one of another project than `project`."""
    row = (
        await db.execute(
            text(
                "SELECT session_id, x.status, x.project, workflow, workflow_version, path, repo, base_commit,"
                " final_state, head, head_chain FROM sessions x JOIN streams s ON s.stream_id = x.session_id"
                f" WHERE session_id = :id AND {repository.OF_PROJECT}"
            ),
            {"id": session_id, "project": project},
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return Parent(*row)


async def session_by_key(
    db: AsyncConnection, project: str, principal: str, idempotency_key: str
) -> tuple[SessionId, bytes] | None:
    row = (
        await db.execute(
            text(
                "SELECT session_id, request_digest FROM sessions"
                " WHERE project = :project AND principal = :principal AND idempotency_key = :key"
            ),
            {"project": project, "principal": principal, "key": idempotency_key},
        )
    ).one_or_none()
    return (SessionId(row[0]), row[1]) if row else None


async def forget_credentials(db: AsyncConnection, session_id: SessionId) -> None:
    """The repository is cloned; nothing else needs what opened it."""
    await db.execute(text("UPDATE sessions SET repo_credentials = NULL WHERE session_id = :id"), {"id": session_id})


async def count_open(db: AsyncConnection, project: str, *, at_most: int) -> int:
    """How many sessions of the project have not ended; it stops counting at `at_most`."""
    found = await db.scalar(
        text(
            "SELECT count(*) FROM (SELECT FROM sessions WHERE project = :project"
            f" AND status IN {listed(OPEN)} LIMIT :at_most) AS open"
        ),
        {"project": project, "at_most": at_most},
    )
    return int(found or 0)
