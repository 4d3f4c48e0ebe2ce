"""Finding the changes that do harm among many, with few trials."""

from collections.abc import Awaitable, Callable, Sequence

Harmless = Callable[[Sequence[str]], Awaitable[bool]]


async def sift(changes: Sequence[str], harmless: Harmless, *, trials: int) -> list[str]:
    """Changes that are harmless together. Each trial takes those kept so far and a further group; a group that
    does harm is tried again in halves, so one culprit among n costs about 2 log2(n) trials.

    What no trial is left for is not kept.
    """
    kept: list[str] = []
    groups = [list(changes)] if changes else []
    while groups and trials:
        group = groups.pop()
        trials -= 1
        if await harmless([*kept, *group]):
            kept += group
        elif len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return kept
