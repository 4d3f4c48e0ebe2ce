"""What a bench says: our medians beside somebody else's, their ratio, and the goal for it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

RUNS = 3
"""Of each side, in turns, so that a noisy neighbour disturbs both."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Repeated measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """From the smallest to the largest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio ours/theirs should be; with a `unit`, what our own figure should be."""

    sign: Literal["≥", "≤"]
    value: float
    unit: str = ""

    def is_met(self, value: float) -> bool:
        return value >= self.value if self.sign == "≥" else value <= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:.2g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `unit` is of both samples, as "events/s" or "ms"."""

    what: str
    unit: str
    ours: Sample
    against: str
    theirs: Sample
    goal: Goal
    meaning: str
    """In one line: what was counted, from where to where."""

    @property
    def ratio(self) -> float:
        return self.ours.median / self.theirs.median

    @property
    def is_met(self) -> bool:
        return self.goal.is_met(self.ours.median if self.goal.unit else self.ratio)

    def as_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours.median,
            "ours_runs": self.ours.values,
            "against": self.against,
            "theirs": self.theirs.median,
            "theirs_runs": self.theirs.values,
            "ratio": round(self.ratio, 3),
            "goal": str(self.goal),
            "met": self.is_met,
            "meaning": self.meaning,
        }


Measure = Callable[[], Awaitable[float]]


async def in_turns(*measures: Measure, runs: int = RUNS) -> list[Sample]:
    """One sample for each measure; run by run, one after the other."""
    values: list[list[float]] = [[] for _ in measures]
    for _ in range(runs):
        for measure, found in zip(measures, values, strict=True):
            found.append(await measure())
    return [Sample(tuple(found)) for found in values]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0…1) of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
