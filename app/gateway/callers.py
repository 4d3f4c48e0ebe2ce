"""Who calls, as FastAPI's endpoints ask for it: a principal with a scope, or a step."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from app.errors import AccessDenied, MissingScope
from app.gateway.access import REFUSAL
from app.gateway.query import check_request
from app.gateway.wiring import Wired
from app.principals.model import OPERATORS, Principal, Scope
from app.sessions.model import StepToken

_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="The stack's token, a key, or a step's token.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
SCRAPER = Principal(key_id=None, name="metrics", project=None, scopes=frozenset({"audit"}))
"""Who shows the metrics token."""
_SCOPES: tuple[Scope, ...] = ("read", "submit", "operate", "audit", "admin")


async def _principal(request: Request, gateway: Wired, needed: SecurityScopes, credentials: Credentials) -> Principal:
    """Raises AccessDenied, MissingScope, TooMany, and what `check_request` does.

    The credentials are there for the OpenAPI document.
    """
    principal = await _admitted(request, gateway, needed)
    if principal.stream_id is not None:
        raise MissingScope("a ticket lets you read the events of its own session, and nothing else")
    check_request(request)
    return principal


async def _reader(request: Request, gateway: Wired, needed: SecurityScopes, _: Credentials) -> Principal:
    """Lets those in, too, who show a ticket."""
    principal = await _admitted(request, gateway, needed)
    check_request(request)
    return principal


async def _admitted(request: Request, gateway: Wired, needed: SecurityScopes) -> Principal:
    principal = await gateway.access.admit_after_reading(request)
    if needed.scopes:
        principal.require(*(scope for scope in _SCOPES if scope in needed.scopes))
    return principal


async def _anyone(request: Request) -> None:
    """Checks no more than that the request can be understood."""
    check_request(request)


async def _scraper(request: Request, gateway: Wired, needed: SecurityScopes, credentials: Credentials) -> Principal:
    """Raises AccessDenied, MissingScope, TooMany."""
    if credentials is not None and gateway.access.admit_scraper(credentials.credentials):
        check_request(request)
        return SCRAPER
    return await _principal(request, gateway, needed, credentials)


async def _step_token(request: Request, credentials: Credentials) -> StepToken:
    """Raises AccessDenied."""
    if credentials is None:
        raise AccessDenied("send the step's token (STELLWERK_STEP_TOKEN) as 'Authorization: Bearer TOKEN'")
    refusal: Exception | None = request.scope.get(REFUSAL)
    if refusal is not None:
        raise refusal
    token = StepToken.parse(credentials.credentials)
    check_request(request)
    return token


ByPrincipal = Annotated[Principal, Security(_principal)]
"""Whatever its scopes are."""
ToRead = Annotated[Principal, Security(_principal, scopes=["read"])]
ToFollow = Annotated[Principal, Security(_reader, scopes=["read"])]
"""Also with a ticket, whose stream `check_readable` compares."""
ToSubmit = Annotated[Principal, Security(_principal, scopes=["submit"])]
ToOperate = Annotated[Principal, Security(_principal, scopes=["operate"])]
ToScrape = Annotated[Principal, Security(_scraper, scopes=["audit"])]
"""Also with the metrics token, which opens nothing else."""
ToSeeControl = Annotated[Principal, Security(_principal, scopes=list(OPERATORS))]
ToAdminister = Annotated[Principal, Security(_principal, scopes=["admin"])]
ByStep = Annotated[StepToken, Depends(_step_token)]
BY_ANYONE = Depends(_anyone)
