"""The recent frames of one stream, without a gap. Pure: it knows what is missing, others fetch it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Self

from app.events.push import Frame


@dataclass(frozen=True, slots=True)
class Page:
    """The wanted frames up to the offset `reached`, joined once for all readers at the same place."""

    frames: bytes
    last: int
    """The offset of the last frame, if there is one."""
    reached: int

    @classmethod
    def of(cls, frames: list[Frame], reached: int) -> Self:
        return cls(b"".join(frame.data for frame in frames), frames[-1].offset if frames else 0, reached)


class Ring:
    """Frames `first` … `last`; `head` is the highest offset that was heard of.

    Frames that come early wait in `_early` for those before them; frames that come twice are dropped.
    """

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._early: dict[int, Frame] = {}
        self._early_bytes = 0
        self.last = 0
        self.head = 0

    @property
    def first(self) -> int:
        return self.last - len(self._frames) + 1

    @property
    def is_lagging(self) -> bool:
        return self.last < self.head

    def restart(self, after: int) -> None:
        """Forgets everything but the early frames, and goes on after `after`."""
        self._frames.clear()
        self._bytes = 0
        self.last = after
        self.heard(after)
        self._take_early()

    def heard(self, head: int) -> None:
        """Takes it that the stream reaches to `head`."""
        self.head = max(self.head, head)

    def offer(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.heard(frame.offset)
            if frame.offset == self.last + 1:
                self._append(frame)
            elif frame.offset > self.last:
                self._keep_early(frame)
        self._take_early()

    def covers(self, after: int) -> bool:
        """Says whether the next frame after `after` is here, or has yet to come here."""
        return after >= self.first - 1

    def after(self, after: int, *, max_bytes: int) -> list[Frame]:
        """The frames after `after`, at least one if there is any; only when it `covers` it."""
        found, size = list[Frame](), 0
        for frame in islice(self._frames, max(0, after + 1 - self.first), None):
            size += len(frame.data)
            if found and size > max_bytes:
                break
            found.append(frame)
        return found

    def _append(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._bytes += len(frame.data)
        self.last = frame.offset
        while len(self._frames) > self._max_frames or self._bytes > self._max_bytes:
            self._bytes -= len(self._frames.popleft().data)

    def _keep_early(self, frame: Frame) -> None:
        if frame.offset in self._early:
            return
        if len(self._early) >= self._max_frames or self._early_bytes + len(frame.data) > self._max_bytes:
            return  # `head` remembers it; it is fetched with those that it waits for
        self._early[frame.offset] = frame
        self._early_bytes += len(frame.data)

    def _take_early(self) -> None:
        while frame := self._early.pop(self.last + 1, None):
            self._early_bytes -= len(frame.data)
            self._append(frame)
        for offset in [o for o in self._early if o <= self.last]:
            self._early_bytes -= len(self._early.pop(offset).data)
