"""What a verification finds."""

from dataclasses import dataclass
from typing import Literal

Check = Literal[
    "offsets",  # dense from the earliest one to the head, and none beside
    "chain",  # digests and links
    "columns",  # what stands beside an event's text repeats it, and the text is an event of the stream's kind
    "erasure",  # what is not there (any more) was allowed to go
    "order",  # epoch, transaction and position
    "stream",  # the stream's own row
    "artifacts",
    "session",  # the session's row
    "steps",
    "keys",
    "control",  # what the operators' stream says that was done
    "strays",  # rows that belong to nothing
    "heads",  # what was recorded of streams
]
"""What is compared; each fault is of one of them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written, and where."""

    where: str
    what: str
    check: Check = "chain"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def span(first: int, last: int) -> str:
    """Such as "offsets 3 … 7"."""
    return f"offset {first}" if first == last else f"offsets {first} … {last}"
