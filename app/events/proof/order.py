"""The order in which events were written: epoch, transaction and position beside the offset. Pure.

Within a stream each transaction has the lock to its end, so all three follow the offsets. A chain does not hold them;
across streams what was recorded of heads does.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from app.events.cursors import FeedCursor
from app.events.proof.fault import Fault

MARGIN = timedelta(minutes=2)
"""Clocks of two machines differ, and a transaction lives for a while."""


class Order:
    """Takes the places of a stream's events, in the order of their offsets. `epochs` are numbers and beginnings."""

    def __init__(self, epochs: Sequence[tuple[int, datetime]]) -> None:
        ends = [began + MARGIN for _, began in epochs[1:]] + [datetime.max.replace(tzinfo=epochs[-1][1].tzinfo)]
        self._epochs = {epoch: (began - MARGIN, end) for (epoch, began), end in zip(epochs, ends, strict=True)}
        self._last = FeedCursor()

    def check(self, offset: int, place: FeedCursor, ts: datetime) -> Iterator[Fault]:
        last, self._last = self._last, place
        if place[:2] < last[:2]:
            what = f"epoch and transaction fall, from {last.epoch}-{last.xid} to {place.epoch}-{place.xid}"
            yield Fault(f"offset {offset}", what, "order")
        elif place.position <= last.position:
            what = f"the position is {place.position}, that of the event before is {last.position}"
            yield Fault(f"offset {offset}", what, "order")
        lives = self._epochs.get(place.epoch)
        if lives is None:
            yield Fault(f"offset {offset}", f"there is no epoch {place.epoch}", "order")
        elif not lives[0] <= ts <= lives[1]:
            what = f"it is of {ts}, when the database was not in epoch {place.epoch}; or a clock was wrong"
            yield Fault(f"offset {offset}", what, "order")
