"""Sign-ins of browsers, ended for all at once."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.gateway.callers import ToAdminister
from app.gateway.inputs import Body, Reason, RequestId
from app.gateway.wiring import Wired
from app.principals import service

router = APIRouter(prefix="/logins", tags=["keys"])


class SigningOut(Body):
    reason: Reason = None


class SignedOut(BaseModel):
    project: str | None = Field(description="Whose browsers must sign in again; null: those of every project.")


@router.post("/revoke")
async def revoke_logins(
    gateway: Wired, principal: ToAdminister, request_id: RequestId, asked: SigningOut | None = None
) -> SignedOut:
    """Ends all cookies of the project, or of the deployment, and the streams that are open with them.

    Within ten seconds everywhere. Keys and tokens go on.
    """
    reason = asked.reason if asked else None
    await service.sign_out_all(gateway.backends, principal=principal, reason=reason, request_id=request_id)
    gateway.access.read_keys_again()
    return SignedOut(project=principal.project)
