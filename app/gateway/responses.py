"""What a stream's response is made of, whichever server it goes out through."""

from collections.abc import AsyncGenerator
from typing import Protocol

from fastapi import Response

from app.events.follow.live import Take
from app.events.follow.reader import Reader
from app.events.follow.updates import Update

REQUEST_ID = "stellwerk.request_id"
"""Where in the scope the request's id is kept: answers, log lines and control events name it."""
RawHeaders = list[tuple[bytes, bytes]]


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
