"""What every request passes first: Host, Origin, size; and what every response gets: headers, a log line."""

import time
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import MIB, Settings
from app.gateway.open_streams import STREAM, EventStream
from app.gateway.problems import problem

logger = structlog.get_logger(__name__)

MAX_BODY_BYTES = 8 * MIB
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PROBES = frozenset({"/healthz", "/readyz"})
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Gatekeeper:
    """Pure ASGI: a stream must pass through without a queue in between."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._any_host = "*" in settings.allowed_hosts
        self._allowed = frozenset(settings.allowed_hosts)
        self._hosts = _LOOPBACK | self._allowed | {settings.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if stream := await self._answer(scope, receive, send_with_headers):
                transport = send.__self__.transport  # type: ignore[attr-defined]  # of uvicorn's connection
                await stream.run(transport, send_with_headers)
        finally:
            # Without the query: it may hold a token.
            logger.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.monotonic() - started) * 1000),
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> EventStream | None:
        """A stream is not answered yet: it is to be run when all this is gone."""
        own = dict(scope)  # the app leaves much in it
        await self._admit(own, receive, send)
        stream: EventStream | None = own.get(STREAM)
        return stream

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        host, origin = headers.get("host", ""), headers.get("origin")
        if path not in _PROBES and not self._any_host and _hostname(host) not in self._hosts:
            detail = f"this gateway does not answer for {host!r}; name the host in STELLWERK_ALLOWED_HOSTS"
            await problem(421, detail, path=path)(scope, receive, send)
        elif origin is not None and not self._is_own(origin, host):
            detail = f"pages of {origin!r} may not use this gateway"
            await problem(403, detail, path=path, kind="ForeignOrigin")(scope, receive, send)
        elif _length(headers) > MAX_BODY_BYTES:
            await problem(413, _too_large(), path=path)(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)

    def _is_own(self, origin: str, host: str) -> bool:
        # Another port of localhost is another origin, so a loopback name alone proves nothing.
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.netloc != "" and (parts.netloc == host or parts.hostname in self._allowed)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket without its other one
        return ""


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


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
