"""What following gives: frames, and what else a reader has to be told."""

from dataclasses import dataclass
from typing import NamedTuple

from app.events.cursors import AnyCursor, Cursor, FeedCursor, FeedPlace
from app.events.read import StreamState


class Frames(NamedTuple):
    """Frames to be sent as they are. None at all: the cursor moved over events that the filter dropped."""

    cursor: AnyCursor
    frames: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """The cursor cannot be served any more; what follows begins at the stream's earliest event."""

    reason: str
    state: StreamState

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.state.epoch, self.state.earliest - 1)


@dataclass(frozen=True, slots=True)
class Renewed:
    """The log has lost events, but none that the reader has: the stream goes on after `cursor`, perhaps in another
    epoch."""

    state: StreamState
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class FeedReset:
    """Streams may be shorter than they were; the feed goes on after `cursor`."""

    reason: str
    epoch: int
    head: FeedPlace
    cursor: FeedCursor


@dataclass(frozen=True, slots=True)
class End:
    """The stream is closed and everything was sent."""

    state: StreamState


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing came for a while: the connection is to show that it lives. `head` is the last that is known of."""

    head: int | FeedPlace


@dataclass(frozen=True, slots=True)
class Away:
    """The last of a reader that is to come back, with `cursor`: the id that it was told last."""

    reason: str
    cursor: AnyCursor | str | None


STOPPING = "the gateway is stopping"
LAPSED = "the key, ticket or cookie is no longer in force, or could not be checked"
GONE = "this gateway follows the stream no more"

Update = Frames | Reset | Renewed | FeedReset | End | Beat | Away
