"""The start of a reader: what it asked for, and the place in the stream where that is. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.errors import BadCursor, CursorOutOfRange
from app.events.cursors import Cursor
from app.events.honouring import doubtful_offset, why_not
from app.events.read import EVERYTHING, Filter, StreamState
from app.gateway.streaming.filters import only_of

LATEST = "latest"
_COUNT = re.compile("-?[0-9]{1,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Start:
    """What the client asked for; with none of the first four, everything from the earliest event on."""

    after: Cursor | None = None
    latest: bool = False
    tail: int | None = None
    since: datetime | None = None
    only: Filter = EVERYTHING

    def wants_epoch_of(self, state: StreamState) -> int | None:
        """The offset whose event's epoch `place` has to know, if it has to know one."""
        return None if self.after is None else doubtful_offset(state, self.after)


@dataclass(frozen=True, slots=True)
class Opening:
    """The place where the client starts. With a `reset` its cursor could not be served, and `after` is the earliest."""

    state: StreamState
    after: int
    only: Filter
    reset: CursorOutOfRange | None = None

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.state.epoch, self.after)


def start_of(
    *,
    after: str | None = None,
    tail: str | None = None,
    since: datetime | None = None,
    t: Iterable[str] = (),
    agent: Iterable[str] = (),
    phase: Iterable[str] = (),
    epoch: int | None = None,
    last_event_id: str | None = None,
) -> Start:
    """Reads what a request says as text. `Last-Event-ID` beats every start parameter. Raises BadCursor."""
    only = only_of(t=t, agent=agent, phase=phase)
    latest = after == LATEST
    cursor = None if latest or after is None else Cursor.parse(after, epoch=epoch, what="after")
    count = None if tail is None else count_of(tail)
    if last_event_id:
        return Start(Cursor.parse(last_event_id, epoch=epoch, what="Last-Event-ID"), only=only)
    if sum(parameter is not None for parameter in (after, tail, since)) > 1:
        raise BadCursor("give one of after, tail and since")
    return Start(cursor, latest, count, since, only)


def place(state: StreamState, start: Start, *, before_since: int = 0, written_in: int | None = None) -> Opening:
    """Finds the place in the stream.

    `before_since` is the last offset before `start.since`; `written_in` the epoch of the event at
    `start.wants_epoch_of(state)`.
    """
    earliest = state.earliest - 1
    match start:
        case Start(after=Cursor() as cursor):
            if reason := why_not(state, cursor, written_in=written_in):
                again = str(Cursor(state.epoch, earliest))
                error = CursorOutOfRange(reason, cursor=again, earliest=state.earliest, head=state.head)
                return Opening(state, earliest, start.only, error)
            offset = cursor.offset
        case Start(latest=True):
            offset = state.head
        case Start(tail=int(count)):
            offset = max(earliest, state.head - count)
        case Start(since=datetime()):
            offset = min(max(earliest, before_since), state.head)
        case _:
            offset = earliest
    return Opening(state, offset, start.only)


def count_of(text: str) -> int:
    """How many events `tail` asks for. Raises BadCursor."""
    if not _COUNT.fullmatch(text):  # int() would take spaces, underscores and other scripts' digits
        raise BadCursor(f"tail is {text!r}, which is no integer; give a number of events")
    return max(0, int(text))
