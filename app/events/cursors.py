"""Cursors: where a reader is, as a type with a text form. Pure.

A stream's cursor is `41`, or `2.41` from the second life of the database's offsets on: the offset 41 of epoch 2.
The feed's is `epoch-xid-position`, and `E.epoch-xid-position` for a place of an earlier epoch, read in the epoch E.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from app.errors import BadCursor

FIRST_EPOCH = 1
LATER_EPOCH = "(?:[2-9]|[1-9][0-9]{1,17})"
"""The first epoch has no text of its own."""
_TEXT = re.compile(rf"(?:({LATER_EPOCH})\.)?(-?[0-9]{{1,30}})", re.ASCII)
PATTERN = rf"^({LATER_EPOCH}\.)?-?[0-9]{{1,30}}$"
"""What a cursor of a stream looks like, for schemas."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event that a reader has: its offset (0: none yet), and the epoch in which it was read."""

    epoch: int
    offset: int

    @classmethod
    def parse(cls, text: str, *, epoch: int | None = None, what: str = "the cursor") -> Self:
        """A bare number belongs to `epoch`, or to the first one. Raises BadCursor."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise BadCursor(
                f"{what} is {text!r}, which is no integer (or E.offset, from the second epoch on);"
                " give the id of the last event that you have"
            )
        return cls(int(found[1] or epoch or FIRST_EPOCH), int(found[2]))

    def __str__(self) -> str:
        return f"{prefix(self.epoch)}{self.offset}"


def prefix(epoch: int) -> str:
    """What stands in front of an offset in its text form."""
    return "" if epoch <= FIRST_EPOCH else f"{epoch}."


_FEED_TEXT = re.compile(rf"(?:({LATER_EPOCH})\.)?([0-9]{{1,18}})-([0-9]{{1,19}})-([0-9]{{1,18}})", re.ASCII)
FEED_PATTERN = rf"^(0|({LATER_EPOCH}\.)?[0-9]{{1,18}}-[0-9]{{1,19}}-[0-9]{{1,18}})$"
"""What a cursor of the feed looks like, for schemas."""


class FeedPlace(NamedTuple):
    """A place in the feed of all streams, after the event that has these three numbers; all 0: at its beginning."""

    epoch: int = 0
    xid: int = 0
    position: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.xid}-{self.position}"


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """A place in the feed, and the epoch of which its reader knows: it may be later than the place's.

    Else a reader that catches up with an earlier epoch would be told of the new one each time that it comes back.
    """

    epoch: int
    place: FeedPlace

    @classmethod
    def parse(cls, text: str, *, what: str = "the cursor") -> Self:
        """Reads a cursor; `0` is the beginning. Raises BadCursor."""
        if text == "0":
            return cls(0, FeedPlace())
        found = _FEED_TEXT.fullmatch(text)
        if found is None:
            raise BadCursor(
                f"{what} is {text!r}; a cursor of the feed is EPOCH-TRANSACTION-POSITION, such as 1-4711-42, or"
                " E.EPOCH-TRANSACTION-POSITION, or 0 for the beginning; give the id of the last event that you have"
            )
        known, *numbers = found.groups()
        place = FeedPlace(*map(int, numbers))
        return cls(int(known or place.epoch), place)

    def __str__(self) -> str:
        is_later = self.epoch > self.place.epoch > 0
        return f"{prefix(self.epoch)}{self.place}" if is_later else str(self.place)


AnyCursor = Cursor | FeedCursor
