"""A short way to a stream for what readers nearly always send, in front of FastAPI's resolving of parameters.

That takes most of a connection's time, and after a restart all readers come at once. Only what is plainly right
is answered here. Everything else goes the long way, so that the rules about what is wrong, and the answers that
say so, stand there alone.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.errors import AccessDenied, BadCursor, NotFound, TooMany, Unavailable
from app.events.cursors import LATER_EPOCH
from app.gateway.responses import MEDIA_TYPE, STREAM
from app.gateway.streaming.endpoint import event_stream
from app.gateway.streaming.manner import Manner, manner_of
from app.gateway.streaming.start import LATEST, Start, start_of
from app.gateway.wiring import Gateway
from app.progress import SessionId

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PATH = re.compile(f"/events|/sessions/({_UUID})/events")
_CURSOR = rf"(?:{LATER_EPOCH}\.)?[0-9]{{1,18}}"
_PARAMETERS = {
    "session_id": re.compile(_UUID),
    "after": re.compile(f"{_CURSOR}|{LATEST}"),
    "tail": re.compile("[0-9]{1,30}"),
    "epoch": re.compile("[0-9]{1,18}"),
    "ticket": re.compile(r"[\w-]{1,200}", re.ASCII),
    "lastEventId": re.compile(_CURSOR),
    "on_end": re.compile("20[04]"),
    "follow": re.compile("reopened"),
    "heartbeat": re.compile("comment|event"),
}
_ANY = re.compile(".*")
_HEADERS = {"authorization": _ANY, "accept": _ANY, "last-event-id": re.compile(_CURSOR)}
_HEADERS |= {"content-length": re.compile("0"), "transfer-encoding": re.compile("(?!)")}  # of no body
_HEADER_NAMES = frozenset(name.encode() for name in _HEADERS)


class FastPath:
    """Pure ASGI, after the middleware, which checks Host and Origin."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = None
        with suppress(AccessDenied, BadCursor, NotFound, TooMany, Unavailable):  # the long way says why
            if asked := _asked(scope):
                gateway: Gateway = self._app.state.gateway
                principal = gateway.access.admit(HTTPConnection(scope))
                principal.require("read")
                stream = await event_stream(gateway, principal, *asked)
        if stream is not None:
            await stream(scope, receive, send)
            return
        own = dict(scope)  # FastAPI leaves much in it
        await self._app(own, receive, send)
        if STREAM in own:
            scope[STREAM] = own[STREAM]


def _asked(scope: Scope) -> tuple[SessionId, Start, Manner] | None:
    """Which session's stream is plainly asked for, from where, and how. Raises BadCursor."""
    if scope["type"] != "http" or scope["method"] != "GET" or not (path := _PATH.fullmatch(scope["path"])):
        return None
    query = _plain(_parameters(scope, path[1]), _PARAMETERS)
    headers = _plain(_headers(scope), _HEADERS)
    if query is None or headers is None or "session_id" not in query:
        return None
    if path[1] is not None and MEDIA_TYPE not in headers.get("accept", ""):
        return None
    start = start_of(
        after=query.get("after"),
        tail=query.get("tail"),
        epoch=int(query["epoch"]) if "epoch" in query else None,
        last_event_id=headers.get("last-event-id") or query.get("lastEventId"),
    )
    manner = manner_of(on_end=query.get("on_end"), follow=query.get("follow"), heartbeat=query.get("heartbeat"))
    return SessionId(UUID(query["session_id"])), start, manner


Pairs = Sequence[tuple[str, str]]


def _parameters(scope: Scope, session_id: str | None) -> Pairs:
    text = scope["query_string"].decode("latin-1")
    found = [(name, value) for name, _, value in (part.partition("=") for part in text.split("&"))] if text else []
    return found if session_id is None else [*found, ("session_id", session_id)]


def _headers(scope: Scope) -> Pairs:
    return [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name in _HEADER_NAMES]


def _plain(pairs: Pairs, allowed: dict[str, re.Pattern[str]]) -> dict[str, str] | None:
    """Returns the pairs as a dict; None where a name is unknown or comes twice, or a value is anything but plain."""
    found = dict(pairs)
    is_plain = all(name in allowed and allowed[name].fullmatch(value) for name, value in pairs)
    return found if is_plain and len(found) == len(pairs) else None
