"""What a stream's response is made of, whichever server it goes out through."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.events.cursors import AnyCursor
from app.events.follow.live import Take
from app.events.follow.reader import Reader
from app.events.follow.updates import Update

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "text/event-stream"
RawHeaders = list[tuple[bytes, bytes]]
Encode = Callable[[Update], bytes]
REQUEST_ID = "stellwerk.request_id"
"""Where in the scope the request's id is kept: answers, log lines and control events name it."""
CACHE_CONTROL = b"cache-control", b"no-store, no-transform"
"""A proxy that compresses would hold a stream back until its end."""
STREAM = "stellwerk.stream"
"""Where in the scope a stream waits until the middleware runs it."""


class Updates(Protocol):
    """`Follower.follow`, with its stream and cursor."""

    def __call__(self, *, take: Take | None = None) -> AsyncGenerator[Update, None]: ...


class Stream(Protocol):
    """A response that the middleware runs, when all layers that answered the request are gone."""

    status_code: int
    raw_headers: RawHeaders

    async def run(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        """Sends it with these headers by the server's own `send`. Only after `End` is the body complete."""
        ...


class Streams(Protocol):
    """The open streams of a process. One is chosen when it starts, by the server that it runs on."""

    def response(self, first: bytes, updates: Updates, reader: Reader, encode: Encode) -> Response:
        """Sends the `first` frames, then what comes, until there is nothing more or the client has left.

        `updates` ask the `reader` whether it may go on; a slow one may be sent away in the middle of what it takes.
        """
        ...

    def away(self, why: str, cursor: AnyCursor | None) -> Response:
        """Says when to come back, and nothing else."""
        ...

    def hang_up(self) -> None:
        """The process is about to stop, and the follower has been told: clients that are slow are not waited for."""
        ...

    async def watch(self) -> None:
        """Looks after the open streams until cancelled."""
        ...


def come_back(streams: Streams, why: str, cursor: AnyCursor | None = None) -> Response:
    """For an EventSource, to which every status but 200 is final: when it is to try again."""
    logger.warning("a reader was sent away for a while", why=why)
    return streams.away(why, cursor)


async def no_updates(*, take: Take | None = None) -> AsyncGenerator[Update, None]:
    """Ends at once."""
    for update in list[Update]():
        yield update
