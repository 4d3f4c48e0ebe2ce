"""Keys: made, listed, revoked and rotated by who may administer them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from app.gateway.callers import ToAdminister
from app.gateway.inputs import Body, Reason, RequestId
from app.gateway.wiring import Wired
from app.principals import service
from app.principals.model import Key, Scope

router = APIRouter(prefix="/keys", tags=["keys"])

MAX_SECONDS = 100 * 366 * 24 * 3600
KeyId = Annotated[UUID, Path(description="The key's UUID, not the key.")]
ExpiresIn = (
    Annotated[int, Field(strict=True, ge=1, le=MAX_SECONDS, description="Seconds; null: it does not expire.")] | None
)


class NewKey(Body):
    name: Annotated[str, Field(max_length=100, description="Who acts with it, as events name them.")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]
    project: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Only who belongs to no project names one; else it is the own one."
    )
    expires_in: ExpiresIn = None
    reason: Reason = None


class Rotation(Body):
    valid_for: Annotated[int, Field(strict=True, ge=0, le=MAX_SECONDS)] = Field(
        default=86_400, description="Seconds for which the old key holds."
    )
    expires_in: ExpiresIn = Field(default=None, description="Seconds; null: the new key lives as long as the old one.")
    reason: Reason = None


class Revocation(Body):
    reason: Reason = None


class MadeKey(BaseModel):
    key: str = Field(description="Told here and never again.")
    record: Key


class Keys(BaseModel):
    keys: list[Key]


@router.get("")
async def list_keys(gateway: Wired, principal: ToAdminister) -> Keys:
    """Newest first, those that are no longer in force included."""
    return Keys(keys=await service.list_keys(gateway.backends, principal=principal))


@router.post("", status_code=201)
async def create_key(gateway: Wired, principal: ToAdminister, new: NewKey, request_id: RequestId) -> MadeKey:
    """Makes a key; only this answer holds it."""
    record, key = await service.create_key(
        gateway.backends,
        name=new.name,
        scopes=new.scopes,
        project=new.project,
        expires_at=_expires_at(new.expires_in),
        principal=principal,
        reason=new.reason,
        request_id=request_id,
    )
    return MadeKey(key=key, record=record)


@router.post("/{key_id}/revoke")
async def revoke_key(
    gateway: Wired, principal: ToAdminister, key_id: KeyId, request_id: RequestId, asked: Revocation | None = None
) -> Key:
    """Ends it, and the streams that are open with it, within ten seconds everywhere."""
    reason = asked.reason if asked else None
    key = await service.revoke_key(gateway.backends, key_id, principal=principal, reason=reason, request_id=request_id)
    gateway.access.read_keys_again()
    return key


@router.post("/{key_id}/rotate", status_code=201)
async def rotate_key(
    gateway: Wired, principal: ToAdminister, key_id: KeyId, request_id: RequestId, asked: Rotation | None = None
) -> MadeKey:
    """Makes a new key of the same name, project and scopes; the old one holds for a while."""
    asked = asked or Rotation()
    record, key = await service.rotate_key(
        gateway.backends,
        key_id,
        valid_for=timedelta(seconds=asked.valid_for),
        expires_at=_expires_at(asked.expires_in),
        principal=principal,
        reason=asked.reason,
        request_id=request_id,
    )
    gateway.access.read_keys_again()
    return MadeKey(key=key, record=record)


def _expires_at(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
