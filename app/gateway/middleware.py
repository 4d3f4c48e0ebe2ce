"""What every request passes first: Host, Origin, size; and what every response gets: headers, a log line."""

import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from fastapi import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import MIB, Settings
from app.gateway.problems import problem
from app.gateway.responses import REQUEST_ID, STREAM, RawHeaders, Stream

logger = structlog.get_logger(__name__)

STATUS = "stellwerk.status"
"""Where in the scope an answer's status is kept for its log line."""
MAX_BODY_BYTES = 8 * MIB
_EVENTS = re.compile("/sessions/[^/]+/events")
_TICKET = re.compile(rb"(?:^|&)ticket=[^&]")
_FIT = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
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

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._any_host = "*" in settings.allowed_hosts
        self._allowed = frozenset(settings.allowed_hosts)
        self._hosts = _LOOPBACK | self._allowed | {settings.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        request_id = scope[REQUEST_ID] = _request_id(scope)
        try:
            await self._answer(scope, receive, send)
            # A stream is not answered yet: it runs now that all this is gone.
            stream: Stream | None = scope.pop(STREAM, None)
            if stream is not None:
                scope[STATUS] = stream.status_code
                await stream.run(scope, receive, send, _with_ours(stream.raw_headers, scope))
        finally:
            # Without the query: it may hold a token.
            logger.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                request_id=request_id,
                status=scope.get(STATUS, 0),
                ms=round((time.monotonic() - started) * 1000),
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[STATUS] = message["status"]
                message["headers"] = _with_ours(message["headers"], scope)
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, _limited(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = dict(reversed(scope["headers"])), scope["path"]  # of two with one name the first
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers[b"origin"].decode("latin-1") if b"origin" in headers else None
        if path not in _ANY_HOST and not self._any_host and _hostname(host) not in self._hosts:
            detail = f"this gateway does not answer for {host!r}; name the host in STELLWERK_ALLOWED_HOSTS"
            return problem(421, detail, path=path)
        if origin is not None and not self._is_own(origin, host) and not _shows_ticket(scope):
            detail = f"pages of {origin!r} may not use this gateway"
            return problem(403, detail, path=path, kind="ForeignOrigin")
        if _length(headers) > MAX_BODY_BYTES:
            return problem(413, _too_large(), path=path)
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        # Another port of localhost is another origin, so a loopback name alone proves nothing.
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.netloc != "" and (parts.netloc == host or parts.hostname in self._allowed)


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


def _length(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _request_id(scope: Scope) -> str:
    """The client's `X-Request-Id` where it is fit to be recorded, else one of our own."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _FIT.fullmatch(given) else uuid4().hex


def _with_ours(headers: RawHeaders, scope: Scope) -> RawHeaders:
    given = {name for name, _ in headers}
    found = [*headers, *(header for header in _HEADERS if header[0] not in given)]
    found.append((b"x-request-id", scope[REQUEST_ID].encode()))
    if _shows_ticket(scope):
        found.append((b"access-control-allow-origin", b"*"))
    return found


def _limited(receive: Receive) -> Receive:
    size = 0

    async def receive_counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, _too_large())
        return message

    return receive_counting


def _too_large() -> str:
    return f"a request's body may have {MAX_BODY_BYTES} bytes; put large inputs into files"
