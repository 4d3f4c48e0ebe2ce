"""Who may do what: the owner by token (or the page's cookie), a step by its own token."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from app.config import Settings
from app.errors import AccessDenied
from app.gateway.wiring import Wired
from app.sessions.model import StepToken

OWNER = "owner"
_SAFE = frozenset({"GET", "HEAD"})
_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="The stack's token, or a step's.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def cookie_name(request: HTTPConnection) -> str:
    # Cookies do not know ports: two gateways on one machine would take each other's away.
    return f"stellwerk_{request.url.port or 0}"


def cookie_value(settings: Settings) -> str:
    """Not the token itself, since the browser sends cookies to every port of the host."""
    return hmac.digest(_token(settings), b"the page's cookie", hashlib.sha256).hex()


def is_token(given: str, settings: Settings) -> bool:
    return hmac.compare_digest(given.encode(), _token(settings))


def authorization(settings: Settings) -> bytes:
    """The header, as most clients spell it."""
    return b"Bearer " + _token(settings)


def has_cookie(request: HTTPConnection, settings: Settings) -> bool:
    given = request.cookies.get(cookie_name(request), "")
    return hmac.compare_digest(given.encode(), cookie_value(settings).encode())


async def _owner(request: Request, gateway: Wired, credentials: Credentials) -> str:
    """Raises AccessDenied."""
    if credentials is not None:
        if is_token(credentials.credentials, gateway.settings):
            return OWNER
        raise AccessDenied
    # The middleware let only our own origin through; to change something it must be shown, too.
    if has_cookie(request, gateway.settings) and (request.method in _SAFE or "origin" in request.headers):
        return OWNER
    raise AccessDenied


async def _step_token(gateway: Wired, credentials: Credentials) -> StepToken:
    """Raises AccessDenied."""
    if credentials is None:
        raise AccessDenied("send the step's token (STELLWERK_STEP_TOKEN) as 'Authorization: Bearer TOKEN'")
    return StepToken.parse(credentials.credentials)


def _token(settings: Settings) -> bytes:
    assert settings.token is not None  # create_app refuses to start without
    return settings.token.get_secret_value().encode()


Principal = Annotated[str, Depends(_owner)]
ByStep = Annotated[StepToken, Depends(_step_token)]
