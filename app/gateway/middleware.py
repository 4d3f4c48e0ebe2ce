"""What every request passes first: its address, Host, Origin; and what every response gets: headers, a log line."""

import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.gateway.access import PRINCIPAL, RENEWED
from app.gateway.cookies import without_strange_cookies
from app.gateway.door.admission import Failures
from app.gateway.door.bodies import announced, is_for_reports
from app.gateway.door.connections import Connections
from app.gateway.door.lingering import DRAINED_BYTES
from app.gateway.problems import problem
from app.gateway.responses import REQUEST_ID, STREAM, RawHeaders, Stream

logger = structlog.get_logger(__name__)

STATUS = "stellwerk.status"
"""Where in the scope an answer's status is kept for its log line."""
_EVENTS = re.compile("/sessions/[^/]+/events")
_TICKET = re.compile(rb"(?:^|&)ticket=[^&]")
_FIT = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OF_STRANGERS = frozenset({401, 403, 404, 405, 421})
MAX_LOGGED_PATH = 300
_ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})
"""Machines find these at an address; for a browser that another name was led here there is nothing without a token."""
_HEADERS = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Pure ASGI. A stream runs after all this, when what answered the request is gone."""

    def __init__(self, app: ASGIApp, *, settings: Settings, connections: Connections, failures: Failures) -> None:
        self._app = app
        self._any_host = "*" in settings.allowed_hosts
        self._hosts = _LOOPBACK | frozenset(settings.allowed_hosts) | {settings.host}
        self._connections = connections
        self._addresses = connections.addresses
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = without_strange_cookies(scope["headers"])
        # A proxy has many clients, so what it has open is counted by theirs.
        through_proxy = self._addresses.see_through(scope)
        address = self._addresses.limited(scope["client"][0]) if through_proxy else None
        is_welcome = self._connections.enter(address)
        started = time.monotonic()
        request_id = scope[REQUEST_ID] = _request_id(scope)
        scope[RENEWED] = []
        try:
            await self._answer(scope, receive, send, is_welcome=is_welcome)
            # A stream is not answered yet: it runs now that all this is gone.
            stream: Stream | None = scope.pop(STREAM, None)
            if stream is not None:
                scope[STATUS] = stream.status_code
                await stream.run(scope, receive, send, _with_ours(stream.raw_headers, scope))
        finally:
            if is_welcome:
                self._connections.leave(address)
            status = scope.get(STATUS, 0)
            # Without the query: it may hold a token. Strangers who are too many do not fill the log, either.
            is_strange = PRINCIPAL not in scope and (status == 429 or self._failures.are_too_many(scope))
            write = logger.debug if is_strange else logger.info
            write(
                "request",
                method=scope["method"],
                path=scope["path"][:MAX_LOGGED_PATH],
                request_id=request_id,
                status=status,
                ms=round((time.monotonic() - started) * 1000),
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, is_welcome: bool) -> None:
        headers = dict(reversed(scope["headers"]))  # of two with one name the first
        body = _Body(receive) if announced(scope) > DRAINED_BYTES or b"expect" in headers else None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[STATUS] = message["status"]
                message["headers"] = _with_ours(message["headers"], scope)
                if body is not None and not body.is_complete:
                    message["headers"].append((b"connection", b"close"))
                if _shows_nothing_that_holds(scope, message["status"]):
                    self._failures.count(scope)
            await send(message)

        answer = self._refusal(scope, headers) if is_welcome else _too_many(scope)
        await (answer or self._app)(scope, body or receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        path = scope["path"]
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers[b"origin"].decode("latin-1") if b"origin" in headers else None
        if path not in _ANY_HOST and not self._any_host and _hostname(host) not in self._hosts:
            detail = f"this gateway does not answer for {host!r}; name the host in STELLWERK_ALLOWED_HOSTS"
            return problem(421, detail, path=path)
        own = f"{scope['scheme']}://{host}"
        if origin is not None and not is_same_origin(origin, own) and not _shows_ticket(scope):
            detail = f"pages of {origin!r} may not use this gateway at {own!r}; STELLWERK_TRUSTED_PROXIES names proxies"
            return problem(403, f"{detail} that speak TLS for it", path=path, kind="ForeignOrigin")
        return None


def _shows_nothing_that_holds(scope: Scope, status: int) -> bool:
    if status == 409:
        return is_for_reports(scope["path"])
    return status in _OF_STRANGERS and PRINCIPAL not in scope


class _Body:
    """A request's body, of which it is noted whether all of it has come: what has not must not be waited for."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.is_complete = self.is_complete or not message.get("more_body", False)
        return message


def _too_many(scope: Scope) -> Response:
    detail = "too many requests of your address are open at this gateway (STELLWERK_ADDRESS_CONNECTIONS); close one"
    return problem(429, detail, path=scope["path"], kind="TooMany", headers={"Retry-After": "5"})


def is_same_origin(one: str, other: str) -> bool:
    """Compares scheme, host and port: another port of localhost is another origin."""
    origin = _origin(one)
    return origin is not None and origin == _origin(other)


def _origin(text: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None


def _shows_ticket(scope: Scope) -> bool:
    """Says whether a stream is asked for with a ticket: then nothing counts that a browser adds by itself.

    So pages of any origin may read what it opens; access.py looks at the ticket, and at no cookie beside it.
    """
    is_for_events = scope["path"] == "/events" or _EVENTS.fullmatch(scope["path"])
    return bool(is_for_events and scope["method"] in {"GET", "HEAD"} and _TICKET.search(scope["query_string"]))


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket without its other one
        return ""


def _request_id(scope: Scope) -> str:
    """The client's `X-Request-Id` where it is fit to be recorded, else one of our own."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _FIT.fullmatch(given) else uuid4().hex


def _with_ours(headers: RawHeaders, scope: Scope) -> RawHeaders:
    given = {name for name, _ in headers}
    found = [*headers, *(header for header in _HEADERS if header[0] not in given)]
    found.append((b"x-request-id", scope[REQUEST_ID].encode()))
    found += scope[RENEWED]
    if _shows_ticket(scope):
        found.append((b"access-control-allow-origin", b"*"))
    return found
