"""The one rule of access: who asks, by the stack's token, a key, a ticket or the page's cookie."""

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import HTTPConnection

from app import metrics
from app.config import Settings
from app.errors import AccessDenied, UnknownKey
from app.events.types import StreamId
from app.gateway.cookies import Cookie, cookie_name, set_cookie_header
from app.gateway.limits import Limits
from app.gateway.tickets import Ticket
from app.principals.key_ring import KeyRing
from app.principals.model import OWNER, Principal
from app.principals.secrets import is_key

PRINCIPAL = "stellwerk.principal"
"""Where in the scope it is kept who asked."""
REFUSAL = "stellwerk.refusal"
"""Where in the scope it is kept why nobody may be admitted, if that was seen before."""
RENEWED = "stellwerk.renewed"
"""Where in the scope a list is kept for the header that renews the page's cookie: copies of the scope share it."""
_COUNTED = "stellwerk.counted"
_REVOKED = metrics.cut_readers.labels("revoked")
_SAFE = frozenset({"GET", "HEAD"})
_SURELY_SECONDS = 0.1
"""So long after a ticket's end it is looked at: a timer may be early."""


class Access:
    """For FastAPI's endpoints (callers.py) and for the fast path of streams."""

    def __init__(self, settings: Settings, keys: KeyRing, on_lapse: Callable[[], object] = lambda: None) -> None:
        """`on_lapse` is called when a ticket ends with which a stream is open; of keys, the ring tells."""
        assert settings.token is not None  # create_app refuses to start without
        self._token = settings.token.get_secret_value().encode()
        self._metrics_token = settings.metrics_token
        self._keys = keys
        self._on_lapse = on_lapse
        self.limits = Limits(settings)

    def admit(self, request: HTTPConnection) -> Principal:
        """Raises AccessDenied, UnknownKey where the keys should be read again, TooMany, and Unavailable."""
        principal = self._principal_of(request)
        request.scope[PRINCIPAL] = principal
        if _COUNTED not in request.scope:  # the fast path may have looked at it before
            self.limits.count_request(principal)
            request.scope[_COUNTED] = True
        return principal

    def admit_scraper(self, token: str) -> bool:
        """Says whether it is the token that opens metrics, and nothing else."""
        return metrics.is_token(token, self._metrics_token)

    async def admit_after_reading(self, request: HTTPConnection) -> Principal:
        """Like `admit`, for a key that may have been made a moment ago, perhaps at another gateway."""
        refusal: Exception | None = request.scope.get(REFUSAL)
        if refusal is not None:
            raise refusal
        return await self._after_reading(lambda: self.admit(request))

    def _principal_of(self, request: HTTPConnection) -> Principal:
        """A client that shows a token is not asked for a ticket, and one that shows a ticket not for a cookie.

        A cookie only reads: a browser shows it by itself, whoever made the request.
        """
        token = bearer_of(request)
        if token is not None:
            return self.by_token(token)
        if b"ticket=" in request.scope["query_string"] and "ticket" in request.query_params:
            return self._by_ticket(request.query_params["ticket"])
        cookie = request.cookies.get(cookie_name(request))
        if cookie is None:
            raise AccessDenied
        if request.scope["method"] not in _SAFE:
            raise AccessDenied("the page's cookie only reads; send the token or key as 'Authorization: Bearer TOKEN'")
        return self.by_cookie(request, cookie)

    def read_keys_again(self) -> None:
        """Call it when keys were changed here; other processes are told by Redis."""
        self._keys.heard(None)

    def by_token(self, token: str) -> Principal:
        """Raises AccessDenied, and Unavailable."""
        if hmac.compare_digest(token.encode(errors="replace"), self._token):
            return OWNER
        if not is_key(token):
            raise AccessDenied
        principal = self._keys.find(token)
        if principal is None:
            raise UnknownKey
        return principal

    async def by_token_after_reading(self, token: str) -> Principal:
        """Like `by_token`, for a key that may have been made a moment ago."""
        return await self._after_reading(lambda: self.by_token(token))

    async def by_cookie_after_reading(self, request: HTTPConnection) -> Principal:
        """Like `by_cookie`, for a key that may have been made a moment ago."""
        return await self._after_reading(lambda: self.by_cookie(request, request.cookies.get(cookie_name(request), "")))

    async def _after_reading(self, look: Callable[[], Principal]) -> Principal:
        try:
            return look()
        except UnknownKey:
            await self._keys.read()
            return look()

    def by_cookie(self, request: HTTPConnection, value: str) -> Principal:
        """With its answer, whatever that is, the browser gets a new cookie if this one is no longer fresh.

        Raises AccessDenied, UnknownKey where the keys should be read again, and Unavailable.
        """
        now = time.time()
        cookie = Cookie.read(value, self._token, now=now)
        if cookie is None:
            raise AccessDenied("the page's cookie is wrong, or older than half a day; sign in again")
        principal = self._by_key_id(cookie.key_id)
        if cookie.sign_outs != self._keys.sign_outs(principal.project):
            raise UnknownKey("all browsers were signed out; sign in again")
        if cookie.wants_renewal(now):
            request.scope[RENEWED][:] = [set_cookie_header(request, self.cookie_for(principal))]
        return replace(principal, sign_outs=cookie.sign_outs)

    def cookie_for(self, principal: Principal) -> str:
        return Cookie(principal.key_id, int(time.time()), self._keys.sign_outs(principal.project)).signed(self._token)

    def ticket_for(self, principal: Principal, stream_id: StreamId, *, expires: int) -> str:
        return Ticket(stream_id, principal.key_id, expires).signed(self._token)

    def holds(self, principal: Principal) -> bool:
        """Says whether what this principal has opened may go on."""
        if principal.until is not None and principal.until <= time.time():
            return False
        if principal.sign_outs not in {None, self._keys.sign_outs(principal.project)}:
            return False
        return principal.key_id is None or self._keys.holds(principal.key_id)

    async def while_it_holds(self, principal: Principal, lines: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """What a client may take for ever to read ends with its key, too; a file without its seal is seen to be cut."""
        async with aclosing(lines):
            async for line in lines:
                if not self.holds(principal):
                    return
                yield line

    def lapse_of(self, principal: Principal) -> asyncio.TimerHandle | None:
        """Calls `on_lapse` when the principal's ticket ends; None: it has none."""
        if principal.until is None:
            return None
        seconds = principal.until - time.time() + _SURELY_SECONDS
        return asyncio.get_running_loop().call_later(max(0.0, seconds), self._on_lapse)

    def _by_ticket(self, text: str) -> Principal:
        ticket = Ticket.read(text, self._token)
        if ticket is None or ticket.expires <= time.time():
            raise AccessDenied("the ticket is wrong or has expired; get another one")
        issuer = self._by_key_id(ticket.key_id)
        if "read" not in issuer.scopes:
            raise AccessDenied("the ticket's key may not read")
        stream_id = StreamId(ticket.stream_id)
        return replace(issuer, scopes=frozenset({"read"}), stream_id=stream_id, until=ticket.expires)

    def _by_key_id(self, key_id: str | None) -> Principal:
        principal = OWNER if key_id is None else self._keys.by_id(key_id)
        if principal is None:
            raise UnknownKey
        return principal


def bearer_of(request: HTTPConnection) -> str | None:
    """The token or key that is shown in a header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


class KeyHolder:
    """A reader of an open stream: it may go on as long as its key or ticket holds, and counts in its project."""

    __slots__ = ("_access", "_lapse", "_principal")

    def __init__(self, access: Access, principal: Principal) -> None:
        self._access = access
        self._principal = principal
        self._lapse: asyncio.TimerHandle | None = None

    def may_go_on(self) -> bool:
        return self._access.holds(self._principal)

    def came(self) -> None:
        self._access.limits.came(self._principal)
        self._lapse = self._access.lapse_of(self._principal)

    def left(self) -> None:
        if self._lapse is not None:
            self._lapse.cancel()
        self._access.limits.left(self._principal)
        if not self.may_go_on():
            _REVOKED.inc()
