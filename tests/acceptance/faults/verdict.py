"""What a check says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """One invariant: what was looked at, and what violates it."""

    invariant: str
    looked_at: str
    violations: tuple[str, ...]
