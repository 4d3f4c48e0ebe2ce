"""Reading one session's events, each once and in order, over as many connections as that takes."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from app.cli.client import GatewayClient
from app.errors import Unavailable
from app.events.cursors import Cursor

if TYPE_CHECKING:
    from httpx_sse import EventSource

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
EVENT = '{"offset":'
"""So the data of every event begins, of whatever kind."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it came over the wire; `line` is the exact text, `id` what a cursor or an answer names."""

    id: str
    offset: int
    line: str

    def parsed(self) -> dict[str, Any]:
        content: dict[str, Any] = orjson.loads(self.line)
        return content


class EventReader:
    """A cursor in a session's stream. `notice` is told what a person should know of the connection."""

    def __init__(
        self,
        gateway: GatewayClient,
        session_id: str,
        *,
        after: str = "0",
        notice: Callable[[str], None],
        before_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_retry` may raise where another attempt is pointless. Raises BadCursor."""
        self.cursor = Cursor.parse(after, what="after")
        self._gateway = gateway
        self._session_id = session_id
        self._notice = notice
        self._before_retry = before_retry
        self._first_delay = FIRST_DELAY
        self._failures = 0
        self._stops_at_head = False
        self._until: int | None = None
        self._is_done = False

    def to_end(self) -> Iterator[Event]:
        """Gives events until the stream is closed, for as long as that takes."""
        # Not tenacity: it calls a function again, and this is a generator that goes on from where it was.
        while not self._is_done:
            why = "the connection ended"
            try:
                with self._gateway.events(self._session_id, after=str(self.cursor)) as source:
                    if source is None:
                        return
                    yield from self._events_of(source)
            except Unavailable as error:
                why = str(error)
            if not self._is_done:
                self._wait(why)

    def to_head(self) -> Iterator[Event]:
        """What is there now."""
        self._stops_at_head = True
        return self.to_end()

    def _events_of(self, source: "EventSource") -> Iterator[Event]:
        """One connection's. Raises Unavailable where they do not follow the cursor without a gap, and at `away`."""
        for frame in source.iter_sse():
            if frame.retry is not None:
                self._first_delay = frame.retry / 1000
            match frame.event:
                case "stream":
                    self._on_stream(Cursor.parse(frame.id), orjson.loads(frame.data))
                case "reset":
                    self._on_reset(Cursor.parse(frame.id), orjson.loads(frame.data))
                case "end":
                    self._is_done = True
                case "away":
                    raise Unavailable(str(orjson.loads(frame.data)["reason"]))
                case "cursor":
                    self.cursor = Cursor.parse(frame.id)
                case _ if not frame.data.startswith(EVENT):
                    pass  # a heartbeat, or a control frame of a later version
                case _ if (cursor := Cursor.parse(frame.id)).offset <= self.cursor.offset:
                    pass  # a repetition
                case _ if cursor.offset > self.cursor.offset + 1:
                    raise Unavailable(f"offset {self.cursor.offset + 1} is missing")
                case _:
                    self.cursor = cursor
                    yield Event(frame.id, cursor.offset, frame.data)
            self._is_done |= self._until is not None and self.cursor.offset >= self._until
            if self._is_done:
                return

    def _on_stream(self, resolved: Cursor, told: Mapping[str, Any]) -> None:
        if self._failures:
            self._notice("connected again")
        self._failures = 0
        if resolved.offset == self.cursor.offset:
            self.cursor = resolved  # perhaps of a new epoch, in which what was read has survived
        # Where the server starts elsewhere a reset comes next, which tells the head again.
        if self._stops_at_head and self._until is None and resolved.offset == self.cursor.offset:
            self._until = told["head"]

    def _on_reset(self, resolved: Cursor, told: Mapping[str, Any]) -> None:
        self.cursor = resolved
        if self._stops_at_head:
            self._until = told["head"]
        self._notice(f"reset: {told['reason']}; going on from offset {told['earliest']}")

    def _wait(self, why: str) -> None:
        if not self._failures:
            self._notice(f"{why}; trying again")
        self._before_retry()
        delay = min(self._first_delay * 2 ** min(self._failures, 10), MAX_DELAY)
        self._failures += 1
        time.sleep(delay * random.uniform(1, 1.5))  # noqa: S311  # so that a thousand readers do not come at once
