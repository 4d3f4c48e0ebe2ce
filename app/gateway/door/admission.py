"""A request that shows nothing that holds costs nothing: its body is not read, and of many from one address most are
not looked into."""

from collections.abc import Callable

from fastapi import FastAPI
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from app.database import DATABASE_AWAY
from app.door_settings import DoorSettings
from app.errors import AccessDenied, LeaseLost, TooMany, Unavailable
from app.gateway.access import REFUSAL, Access, bearer_of
from app.gateway.door.addresses import Addresses
from app.gateway.door.bodies import SMALL_REPORT_BYTES, announced, bounded, is_for_reports, largest, no_body, too_large
from app.gateway.door.connections import refuse
from app.gateway.problems import problem
from app.sessions.model import StepToken
from app.sessions.reports import may_report

PUBLIC = frozenset({"/", "/login", "/logout", "/healthz", "/readyz", "/dashboard/login.js", "/dashboard/style.css"})
"""What stands here looks at what a request shows by itself, if at all."""
_RETRY_AFTER = {"Retry-After": "1", "Connection": "close"}
_OVER_SECONDS = 1.0


class Failures:
    """How many requests of each address showed nothing that holds. One for each process."""

    def __init__(self, settings: DoorSettings, addresses: Addresses, clock: Callable[[], float]) -> None:
        self._addresses = addresses
        self._clock = clock
        self._rate = RateLimitItemPerSecond(settings.address_failures)
        self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._over = dict[str, float]()
        """Until when each address that had too many is held back: those of the last second, in their order."""

    def count(self, scope: Scope) -> None:
        address = self._address(scope)
        if address is None or self._counts.hit(self._rate, address):
            return
        now = self._clock()
        while self._over and (first := next(iter(self._over))) and self._over[first] <= now:
            del self._over[first]
        self._over.pop(address, None)
        self._over[address] = now + _OVER_SECONDS

    def are_too_many(self, scope: Scope) -> bool:
        if not self._over or (address := self._address(scope)) is None:
            return False
        return self._over.get(address, 0.0) > self._clock()

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        return self._addresses.limited(client[0]) if client else None


class Admission:
    """Pure ASGI. It refuses by itself only what is too much; all else is refused where it always was."""

    def __init__(self, inner: ASGIApp, app: FastAPI, failures: Failures) -> None:
        self._inner = inner
        self._app = app
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = scope["path"]
        if self._failures.are_too_many(scope) and not self._holds(scope):
            refuse("unauthenticated")
            detail = (
                "too many requests from your address showed no token or key that holds (STELLWERK_ADDRESS_FAILURES)"
            )
            await problem(429, detail, path=path, kind="TooMany", headers=_RETRY_AFTER)(scope, receive, send)
            return
        size = announced(scope)
        if size:
            is_too_large = largest(path) < size < float("inf")
            if await self._is_refused(scope, 0 if is_too_large else size):
                receive = no_body
            elif is_too_large:
                answer = problem(413, too_large(largest(path)), path=path, headers={"Connection": "close"})
                await answer(scope, receive, send)
                return
            else:
                receive = bounded(receive, path)
        await self._inner(scope, receive, send)

    @property
    def _access(self) -> Access:
        access: Access = self._app.state.gateway.access
        return access

    def _holds(self, scope: Scope) -> bool:
        """Says whether what is shown may open something; what would take a query to find out does not count."""
        path: str = scope["path"]
        if path in PUBLIC:
            return path != "/login" and b"token=" not in scope["query_string"]
        request = HTTPConnection(scope)
        token = bearer_of(request) or ""
        try:
            self._access.admit(request)
        except AccessDenied:
            return self._access.admit_scraper(token)
        except (TooMany, Unavailable):
            pass
        return True

    async def _is_refused(self, scope: Scope, size: float) -> bool:
        """Says whether it will be answered without its body; it is kept why, for where it is said."""
        if scope["path"] in PUBLIC:
            return False
        request = HTTPConnection(scope)
        try:
            if is_for_reports(scope["path"]) and scope["method"] == "POST":
                await self._check_step_token(StepToken.parse(bearer_of(request) or ""), size)
            else:
                await self._access.admit_after_reading(request)
        except (AccessDenied, LeaseLost, TooMany, Unavailable, *DATABASE_AWAY) as error:
            scope[REFUSAL] = error
            return True
        return False

    async def _check_step_token(self, token: StepToken, size: float) -> None:
        """Raises LeaseLost for a made-up one. Whether it holds costs a query, so that of a small report waits."""
        if size > SMALL_REPORT_BYTES and not await may_report(self._app.state.gateway.backends, token):
            raise LeaseLost
