"""Who may do what: a principal by the stack's token (or the page's cookie), a step by its own token."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from app import metrics
from app.config import Settings
from app.errors import AccessDenied
from app.gateway.wiring import Wired
from app.principals.model import OWNER, Principal
from app.sessions.model import StepToken

SCRAPER = Principal(key_id=None, name="metrics", project=None, scopes=frozenset({"audit"}))
"""Who shows the metrics token."""
_SAFE = frozenset({"GET", "HEAD"})
_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="The stack's token, or a step's.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def principal_of(request: HTTPConnection, settings: Settings) -> Principal:
    """The one rule of access: for FastAPI's endpoints and for the fast path of streams. Raises AccessDenied.

    A client that shows a token is not asked for a cookie. The middleware let only our own origin through; to change
    something with a cookie it must be shown, too.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        if is_token(token, settings):
            return OWNER
    elif has_cookie(request, settings) and (request.scope["method"] in _SAFE or "origin" in request.headers):
        return OWNER
    raise AccessDenied


def cookie_name(request: HTTPConnection) -> str:
    # Cookies do not know ports: two gateways on one machine would take each other's away.
    return f"stellwerk_{request.url.port or 0}"


def cookie_value(settings: Settings) -> str:
    """Not the token itself, since the browser sends cookies to every port of the host."""
    return hmac.digest(_token(settings), b"the page's cookie", hashlib.sha256).hex()


def is_token(given: str, settings: Settings) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), _token(settings))


def has_cookie(request: HTTPConnection, settings: Settings) -> bool:
    given = request.cookies.get(cookie_name(request), "")
    return hmac.compare_digest(given.encode(), cookie_value(settings).encode())


async def _principal(request: Request, gateway: Wired, _: Credentials) -> Principal:
    """Raises AccessDenied. The credentials are there for the OpenAPI document."""
    return principal_of(request, gateway.settings)


async def _scraper(request: Request, gateway: Wired, credentials: Credentials) -> Principal:
    """Raises AccessDenied and MissingScope."""
    if credentials is not None and metrics.is_token(credentials.credentials, gateway.settings.metrics_token):
        return SCRAPER
    principal = principal_of(request, gateway.settings)
    principal.require("audit")
    return principal


async def _step_token(gateway: Wired, credentials: Credentials) -> StepToken:
    """Raises AccessDenied."""
    if credentials is None:
        raise AccessDenied("send the step's token (STELLWERK_STEP_TOKEN) as 'Authorization: Bearer TOKEN'")
    return StepToken.parse(credentials.credentials)


def _token(settings: Settings) -> bytes:
    assert settings.token is not None  # create_app refuses to start without
    return settings.token.get_secret_value().encode()


ByPrincipal = Annotated[Principal, Depends(_principal)]
ByScraper = Annotated[Principal, Depends(_scraper)]
"""The holder of the metrics token, which opens nothing else, or a principal that may audit."""
ByStep = Annotated[StepToken, Depends(_step_token)]
