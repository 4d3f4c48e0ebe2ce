"""Who reads, as far as following needs to know."""

from typing import Protocol


class Reader(Protocol):
    """Is told when its stream begins and ends, and says whether it may still go on."""

    def may_go_on(self) -> bool:
        """Says whether the reader may get more; it is asked before each batch, so it must answer at once."""
        ...

    def came(self) -> None: ...

    def left(self) -> None: ...


class _Anyone:
    def may_go_on(self) -> bool:
        return True

    def came(self) -> None:
        pass

    def left(self) -> None:
        pass


ANYONE: Reader = _Anyone()
"""May always go on, and is not counted."""
