"""Reading one session's events, each once and in order, over as many connections as that takes."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from httpx_sse import EventSource, SSEError

from app.cli.client import Gateway
from app.errors import Unavailable

FIRST_DELAY = 0.5
MAX_DELAY = 30.0


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it came over the wire; `line` is the exact text."""

    offset: int
    line: str

    def parsed(self) -> dict[str, Any]:
        content: dict[str, Any] = orjson.loads(self.line)
        return content


class Follower:
    """A cursor in a session's stream. `notice` is told what a person should know of the connection."""

    def __init__(
        self,
        gateway: Gateway,
        session_id: str,
        *,
        after: int = 0,
        notice: Callable[[str], None],
        before_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_retry` may raise where another attempt is pointless."""
        self.cursor = after
        self._gateway = gateway
        self._session_id = session_id
        self._notice = notice
        self._before_retry = before_retry
        self._first_delay = FIRST_DELAY
        self._failures = 0
        self._epoch: int | None = None

    def to_end(self) -> Iterator[Event]:
        """Until the stream is closed, for as long as that takes."""
        return self._read(to_head=False)

    def to_head(self) -> Iterator[Event]:
        """What is there now."""
        return self._read(to_head=True)

    def _read(self, *, to_head: bool) -> Iterator[Event]:
        # Not tenacity: it calls a function again, and this is a generator that goes on from where it was.
        until: int | None = None
        while True:
            try:
                with self._gateway.events(self._session_id, after=self.cursor, epoch=self._epoch) as source:
                    if source is None:
                        return
                    for event in self._frames(source):
                        if isinstance(event, Event):
                            yield event
                        elif to_head and until is None:
                            until = event
                        if until is not None and self.cursor >= until:
                            return
                    if self._ended:
                        return
                why = "the connection ended"
            except (Unavailable, SSEError) as error:
                why = str(error)
            self._wait(why)

    def _frames(self, source: EventSource) -> Iterator[Event | int]:
        """The events of one connection; and, as an int, the head that it told of."""
        self._ended = False
        for frame in source.iter_sse():
            if frame.retry is not None:
                self._first_delay = frame.retry / 1000
            match frame.event:
                case "stream":
                    if self._failures:
                        self._notice("connected again")
                    self._failures = 0
                    told = orjson.loads(frame.data)
                    self._epoch = told["epoch"]
                    if int(frame.id) == self.cursor:  # else a reset comes next
                        yield told["head"]
                case "reset":
                    told = orjson.loads(frame.data)
                    self.cursor = told["earliest"] - 1
                    self._notice(f"reset: {told['reason']}; going on from offset {told['earliest']}")
                    yield told["head"]
                case "end":
                    self._ended = True
                    return
                case _ if not frame.data:
                    pass  # only a cursor or a delay
                case _ if int(frame.id) <= self.cursor:
                    pass  # a repetition
                case _ if int(frame.id) > self.cursor + 1:
                    raise SSEError(f"offset {self.cursor + 1} is missing")
                case _:
                    self.cursor = int(frame.id)
                    yield Event(self.cursor, frame.data)

    def _wait(self, why: str) -> None:
        if not self._failures:
            self._notice(f"{why}; trying again")
        self._before_retry()
        delay = min(self._first_delay * 2**self._failures, MAX_DELAY)
        self._failures += 1
        time.sleep(delay * random.uniform(1, 1.5))  # noqa: S311  # so that a thousand readers do not come at once
