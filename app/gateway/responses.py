"""What a stream's response is made of, whichever server it goes out through."""

import random
from collections.abc import AsyncGenerator
from typing import Protocol

import structlog
from fastapi import Response

from app.events.follow.live import Take
from app.events.follow.reader import Reader
from app.events.follow.updates import Update

logger = structlog.get_logger(__name__)

OVERLOAD_RETRY_MS = (5_000, 15_000)
MEDIA_TYPE = "text/event-stream"
REQUEST_ID = "stellwerk.request_id"
"""Where in the scope the request's id is kept: answers, log lines and control events name it."""
RawHeaders = list[tuple[bytes, bytes]]


def come_back(why: str) -> Response:
    """For an EventSource, to which every status but 200 is final: when it is to try again."""
    logger.warning("a reader was sent away for a while", why=why)
    retry = random.randint(*OVERLOAD_RETRY_MS)  # noqa: S311  # jitter
    return Response(f": {why}\nretry: {retry}\n\n", media_type=MEDIA_TYPE)


class Updates(Protocol):
    """`Follower.follow`, with its stream and cursor."""

    def __call__(self, *, take: Take | None = None) -> AsyncGenerator[Update, None]: ...


class Streams(Protocol):
    """The open streams of a process. One is chosen when it starts, by the server that it runs on."""

    def response(self, first: bytes, updates: Updates, reader: Reader) -> Response:
        """Sends the `first` frames, then what comes, until there is nothing more or the client has left.

        `updates` ask the `reader` whether it may go on; a slow one may be cut in the middle of what it takes.
        """
        ...

    async def watch(self) -> None:
        """Looks after the open streams until cancelled."""
        ...
