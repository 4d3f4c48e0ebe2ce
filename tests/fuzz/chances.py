"""What is switched on in a graph, and how often it then comes."""

from collections.abc import Set
from dataclasses import dataclass, replace

from hypothesis import strategies as st


@dataclass(frozen=True)
class Chances:
    draw: st.DrawFn
    on: Set[str]
    favoured: Set[str]
    """Of what is on, what comes nearly always: so each thing comes in enough of the graphs."""

    def may(self, switch: str, one_of: int = 2) -> bool:
        """Draws whether it comes now: in one of so many cases. Shrinks to no."""
        if switch not in self.on:
            return False
        if switch in self.favoured:
            return self.draw(st.sampled_from([False, True, True, True]))
        return self.draw(st.integers(0, one_of - 1)) == one_of - 1

    def without(self, off: Set[str]) -> "Chances":
        return replace(self, on=self.on - off, favoured=self.favoured - off)
