"""Who reads: asked between two updates whether it may go on, and told when it comes and leaves."""

from typing import Protocol


class Reader(Protocol):
    def may_go_on(self) -> bool:
        """Says whether it may still read; when that changes, `Follower.look_again` makes all readers ask."""
        ...

    def came(self) -> None:
        """It has begun to read."""
        ...

    def left(self) -> None:
        """It has ended."""
        ...


class Anyone:
    """A reader that always may go on."""

    def may_go_on(self) -> bool:
        return True

    def came(self) -> None: ...

    def left(self) -> None: ...


ANYONE = Anyone()
