"""What a fault is, and how they are kept."""

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from tests.acceptance.faults.deployment import Deployment

Run = Callable[[Deployment, random.Random], Coroutine[Any, Any, None]]
Part = Literal["nothing", "workers", "gateways", "redis", "postgres", "disk"]


@dataclass(frozen=True, slots=True)
class Fault:
    """`run` breaks something, waits, and mends it again. What comes after is the product's task.

    `part` is what it breaks: two faults at the same time break different parts.
    """

    part: Part
    run: Run


class Faults(dict[str, Fault]):
    """By name."""

    def add(self, part: Part) -> Callable[[Run], Run]:
        def keep(run: Run) -> Run:
            self[run.__name__] = Fault(part, run)
            return run

        return keep
