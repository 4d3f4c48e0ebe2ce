"""LangGraph's recursion limit for a run that begins in the middle."""

from typing import Any

from langgraph._internal._config import _DefaultRecursionLimit


class Counted:
    """A limit of steps of which some were taken before.

    LangGraph adds the limit to the superstep at which a run begins, and ours begins anew for every step. Only the
    first sum is less: what runs inside of the step, and the node itself, see the limit as it was given.
    """

    taken = 0

    def __radd__(self: Any, begun_at: int) -> int:
        taken, self.taken = self.taken, 0
        return begun_at + int(self) - int(taken)


class StepLimit(Counted, int):
    pass


class DefaultStepLimit(Counted, _DefaultRecursionLimit):
    """LangGraph lets a default give way where another one is configured."""
