"""Keys: made, listed, revoked, rotated. One function is one transaction, and is recorded in it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from app.database import transaction
from app.errors import BadInput, Conflict, NotFound, UnknownKey
from app.events.types import DEFAULT_PROJECT
from app.principals import repository
from app.principals.control import control_in_project
from app.principals.model import DEPLOYMENT, EVERY_SCOPE, Control, Key, Principal, Scope, check_name, check_project
from app.principals.secrets import digest_of, new_key
from app.unit_of_work import Backends, UnitOfWork


async def list_keys(backends: Backends, *, principal: Principal) -> list[Key]:
    """Newest first, those that are no longer in force included."""
    async with transaction(backends.engine) as db:
        return await repository.list_keys(db, project=principal.project)


async def create_key(
    backends: Backends,
    *,
    name: str,
    scopes: Sequence[Scope],
    project: str | None = None,
    expires_at: datetime | None = None,
    principal: Principal,
    reason: str | None = None,
    request_id: str | None = None,
) -> tuple[Key, str]:
    """The key's record, and the key, which is told here and never again.

    Only a principal of every project names a `project`. Raises BadInput, and Conflict while the name is taken.
    """
    check_name(name)
    project = check_project(project if project is not None else principal.project or DEFAULT_PROJECT)
    if not principal.sees(project):
        raise BadInput(f"{principal.name!r} belongs to the project {principal.project!r}; leave `project` out")
    if not scopes or not EVERY_SCOPE.issuperset(scopes):
        raise BadInput(f"a key has some of the scopes {', '.join(sorted(EVERY_SCOPE))}")
    details = {"name": name, "scopes": sorted(set(scopes)), "expires_at": expires_at and expires_at.isoformat()}
    control = Control("key.create", principal, reason=reason, request_id=request_id, details=details)
    async with control_in_project(backends, project, control) as work:
        await _check_in_force(work, principal)
        if await repository.is_taken(work.db, project, name):
            raise Conflict(f"the project {project!r} has a key {name!r}; revoke or rotate it, or take another name")
        await repository.give_up_expired_name(work.db, project, name)
        return await _insert(work, control, name, project, sorted(set(scopes)), expires_at)


async def revoke_key(
    backends: Backends,
    key_id: UUID,
    *,
    principal: Principal,
    reason: str | None = None,
    request_id: str | None = None,
) -> Key:
    """Revoking a revoked key changes nothing.

    Raises NotFound, and Conflict for a key that would revoke itself and is the last one to administer its project.
    """
    control = Control("key.revoke", principal, str(key_id), reason=reason, request_id=request_id)
    project = (await _key(backends, key_id, principal)).project
    async with control_in_project(backends, project, control) as work:
        await _check_in_force(work, principal)
        key = await _row(work, key_id)
        control.details = {"name": key.name}
        if key.revoked_at is not None:
            control.outcome = "unchanged"
            return key
        if principal.key_id == str(key_id) and await _is_last_admin(work, key):
            raise Conflict("this is the project's last key with the scope admin; make another one before you revoke it")
        await repository.set_revoked(work.db, key_id)
        work.after_commit.append(backends.push.ring_keys)
        return await _row(work, key_id)


async def rotate_key(
    backends: Backends,
    key_id: UUID,
    *,
    valid_for: timedelta,
    expires_at: datetime | None = None,
    principal: Principal,
    reason: str | None = None,
    request_id: str | None = None,
) -> tuple[Key, str]:
    """A new key of the same name, project and scopes; the old one goes on for `valid_for`.

    Without `expires_at` it lives as long as the old one was made for.

    The name stays, so what was submitted with an Idempotency-Key before is found with the new key, too. Raises
    NotFound, and Conflict for a key that is not in force or was rotated already.
    """
    control = Control("key.rotate", principal, str(key_id), reason=reason, request_id=request_id)
    project = (await _key(backends, key_id, principal)).project
    async with control_in_project(backends, project, control) as work:
        await _check_in_force(work, principal)
        old = await _row(work, key_id)
        if not old.in_force or old.successor is not None:
            raise Conflict(f"the key {old.name!r} is not in force, or was rotated already; make a new one")
        successor = uuid7()
        if expires_at is None and old.expires_at is not None:
            expires_at = datetime.now(UTC) + (old.expires_at - old.created_at)
        await repository.set_successor(work.db, key_id, successor, valid_for=valid_for)
        control.details = {"name": old.name, "valid_for_seconds": valid_for.total_seconds()}
        return await _insert(work, control, old.name, project, old.scopes, expires_at, successor, target=key_id)


async def sign_out_all(
    backends: Backends, *, principal: Principal, reason: str | None = None, request_id: str | None = None
) -> None:
    """Ends the cookies of the principal's project; of a principal of every project, all there are."""
    project = principal.project or DEPLOYMENT
    control = Control("login.revoke", principal, reason=reason, request_id=request_id)
    async with control_in_project(backends, project, control) as work:
        await _check_in_force(work, principal)
        await repository.count_sign_out(work.db, project)
        work.after_commit.append(backends.push.ring_keys)


async def _insert(
    work: UnitOfWork,
    control: Control,
    name: str,
    project: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    key_id: UUID | None = None,
    *,
    target: UUID | None = None,
) -> tuple[Key, str]:
    key, key_id = new_key(), key_id or uuid7()
    await repository.insert_key(
        work.db,
        key_id,
        digest_of(key),
        name=name,
        project=project,
        scopes=scopes,
        created_by=control.principal.name,
        expires_at=expires_at,
    )
    control.target = str(target or key_id)
    # The digest opens nothing; with it in the log, no other key can be put in its place unseen.
    control.details |= {"digest": digest_of(key).hex(), "expires_at": expires_at and expires_at.isoformat()}
    if target is not None:
        control.details["successor"] = str(key_id)
    work.after_commit.append(work.backends.push.ring_keys)
    return await _row(work, key_id), key


async def _key(backends: Backends, key_id: UUID, principal: Principal) -> Key:
    """Raises NotFound."""
    async with transaction(backends.engine) as db:
        found = await repository.key_row(db, key_id, project=principal.project)
    if found is None:
        raise NotFound(f"there is no key {key_id}")
    return found


async def _row(work: UnitOfWork, key_id: UUID) -> Key:
    found = await repository.key_row(work.db, key_id, project=None)
    assert found is not None  # rows of keys are never deleted
    return found


async def _check_in_force(work: UnitOfWork, principal: Principal) -> None:
    """Raises UnknownKey: a key that was just revoked, and that a gateway still believes, must leave no other behind."""
    if principal.key_id is not None and not (await _row(work, UUID(principal.key_id))).in_force:
        raise UnknownKey


async def _is_last_admin(work: UnitOfWork, key: Key) -> bool:
    return "admin" in key.scopes and await repository.count_admins(work.db, key.project) <= (key.successor is None)
