"""Going on: a session that starts from the final state of another one."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import BadInput, Conflict
from app.principals.model import Principal
from app.sessions import start_repository, transitions
from app.sessions.model import NewSession, Parent


async def read_parent(db: AsyncConnection, new: NewSession, *, project: str, principal: Principal) -> Parent | None:
    """The session that the new one continues, which has a final state; None where it continues none.

    Raises BadInput, NotFound, and Conflict with the reason for which it cannot be continued.
    """
    if new.continues is None:
        return None
    if new.path is not None or new.repo is not None:
        raise BadInput("leave `path` and `repo` out: a session that continues another has that one's files")
    parent = await start_repository.parent_row(db, new.continues, project=principal.project)
    if parent.project != project:
        raise Conflict(f"the session belongs to the project {parent.project!r}, and is continued there alone")
    if parent.status != "succeeded":
        raise Conflict(
            f"the session {transitions.said_of(parent.status)}; only one that has succeeded can be continued"
        )
    if new.workflow not in {None, parent.workflow}:
        raise Conflict(f"the session is one of {parent.workflow!r}, and cannot be continued by {new.workflow!r}")
    if parent.final_state is None:
        raise Conflict("the session ended before final states were kept, so it cannot be continued")
    return parent


def check_version(parent: Parent, version: str) -> None:
    """`version` is what new sessions of the workflow get. Raises Conflict."""
    if parent.workflow_version != version:
        raise Conflict(
            f"the session was made by version {parent.workflow_version} of {parent.workflow!r}, and new ones are of"
            f" version {version}, which cannot continue it"
        )
