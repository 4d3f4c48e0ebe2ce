"""The order in which events were written: epoch, transaction and position beside the offset. Pure.

Within a stream each transaction has the lock to its end, so all three follow the offsets. A chain does not hold them;
across streams what was recorded of heads does.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from app.events.cursors import FeedPlace
from app.events.proof.fault import Fault

MARGIN = timedelta(minutes=2)
"""Clocks of two machines differ, and a transaction lives for a while."""

Epochs = Sequence[tuple[int, datetime]]
"""Each epoch with the time when it began."""


class Order:
    """Takes the places of a stream's events, in the order of their offsets."""

    def __init__(self) -> None:
        self._last = FeedPlace()
        # Of each epoch the earliest and the latest time, with their offsets.
        self._times: dict[int, tuple[tuple[datetime, int], tuple[datetime, int]]] = {}

    def check(self, offset: int, place: FeedPlace, ts: datetime) -> list[Fault]:
        faults = []
        last, self._last = self._last, place
        if place[:2] < last[:2]:
            what = f"epoch and transaction fall, from {last.epoch}-{last.xid} to {place.epoch}-{place.xid}"
            faults.append(Fault(f"offset {offset}", what, "order"))
        elif place.position <= last.position:
            what = f"the position is {place.position}, that of the event before is {last.position}"
            faults.append(Fault(f"offset {offset}", what, "order"))
        at = (ts, offset)
        first, latest = self._times.get(place.epoch, (at, at))
        self._times[place.epoch] = (min(first, at), max(latest, at))
        return faults

    def finish(self, epochs: Epochs) -> Iterator[Fault]:
        """Compares the times of the events with those of the epochs; of each epoch one fault is enough."""
        ends = [began + MARGIN for _, began in epochs[1:]] + [datetime.max.replace(tzinfo=UTC)]
        lives = {epoch: (began - MARGIN, end) for (epoch, began), end in zip(epochs, ends, strict=True)}
        for epoch, (first, latest) in self._times.items():
            if epoch not in lives:
                yield Fault(f"offset {first[1]}", f"there is no epoch {epoch}", "order")
                continue
            begins, ends_at = lives[epoch]
            for ts, offset in dict.fromkeys((first, latest)):
                if not begins <= ts <= ends_at:
                    what = f"it is of {ts}, when the database was not in epoch {epoch}; or a clock was wrong"
                    yield Fault(f"offset {offset}", what, "order")
