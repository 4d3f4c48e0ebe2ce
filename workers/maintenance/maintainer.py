"""A maintainer: what a worker process does again and again beside its steps, in rounds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Duty:
    """What a maintainer's rounds are like."""

    name: str
    every: timedelta
    """How long it waits between two rounds."""
    at_most: int
    """How many things of a kind one round takes up; the rest is left to the next one."""
    is_exclusive: bool = False
    """Whether only one process of the whole deployment does it at a time."""
    rests: timedelta = timedelta(0)
    """How long it does nothing after the database was away and came back."""


class Maintainer(Protocol):
    """The room (room.py) runs its rounds. What a round missed or left half done, the next one does."""

    @property
    def duty(self) -> Duty: ...

    async def round(self) -> None:
        """Does one round. An error that it raises ends this round only."""
        ...
