"""The recent frames of the feed. Pure: it knows what it holds, others read it from Postgres."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from app.events.cursors import FeedPlace
from app.events.feed import FeedFilter, FeedFrame


@dataclass(frozen=True, slots=True)
class FeedPage:
    """The wanted frames up to `reached`, joined once for all readers at the same place.

    `last` is the place of the last frame, if there is one; `epoch` the current one when this was read.
    """

    epoch: int
    frames: bytes
    last: FeedPlace | None
    reached: FeedPlace


class FeedRing:
    """All frames after `begins` up to `reached`; before `restart` nothing at all."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[FeedFrame] = deque()
        self._bytes = 0
        self._begins: FeedPlace | None = None
        self.reached = FeedPlace()

    @property
    def has_begun(self) -> bool:
        return self._begins is not None

    def restart(self, after: FeedPlace) -> None:
        """Forgets everything, and goes on after this place."""
        self._frames.clear()
        self._bytes = 0
        self._begins = self.reached = after

    def offer(self, frames: Iterable[FeedFrame], *, reached: FeedPlace) -> None:
        """Takes the next frames; there are no others up to `reached`."""
        for frame in frames:
            self._frames.append(frame)
            self._bytes += len(frame.data)
        self.reached = reached
        while len(self._frames) > self._max_frames or self._bytes > self._max_bytes:
            dropped = self._frames.popleft()
            self._begins = dropped.place
            self._bytes -= len(dropped.data)

    def covers(self, after: FeedPlace) -> bool:
        """Says whether the next frame after this place is here, or has yet to come here."""
        return self._begins is not None and after >= self._begins

    def page(self, after: FeedPlace, only: FeedFilter, *, epoch: int, max_bytes: int) -> FeedPage:
        """The wanted frames after this place, at least one if there is any; only when it `covers` it."""
        wanted, size, last = list[bytes](), 0, None
        first = bisect_right(self._frames, after, key=lambda frame: frame.place)
        for frame in islice(self._frames, first, None):
            if not only.matches(frame):
                continue
            size += len(frame.data)
            if wanted and size > max_bytes:
                assert last is not None
                return FeedPage(epoch, b"".join(wanted), last, last)
            wanted.append(frame.data)
            last = frame.place
        return FeedPage(epoch, b"".join(wanted), last, max(after, self.reached))
