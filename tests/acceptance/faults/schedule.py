"""Which fault comes when, by a seed; and how long the deployment takes to move again after each."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import psycopg

from tests.acceptance.faults.deployment import Deployment
from tests.acceptance.faults.faults import FAULTS
from tests.acceptance.faults.load import Load

PATIENCE_SECONDS = 90.0
SLOW_SECONDS = 15.0
"""Who took longer than this is named."""
TOGETHER = 0.3
"""How often two faults come at the same time."""


def shuffled(names: list[str], chance: random.Random) -> Iterator[tuple[str, ...]]:
    """Every fault once in random order, then again; sometimes two together."""
    while True:
        deck = chance.sample(names, len(names))
        while deck:
            first = deck.pop()
            others = [name for name in deck if FAULTS[name].part != FAULTS[first].part]
            if others and chance.random() < TOGETHER:
                deck.remove(others[0])
                yield first, others[0]
            else:
                yield (first,)


@dataclass
class Schedule:
    deployment: Deployment
    load: Load
    chance: random.Random
    names: list[str]
    say: Callable[[str], None]
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    _standing: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for together in shuffled(self.names, self.chance):
            left = until - time.monotonic()
            if left <= 0 or self.violations:
                return
            await asyncio.sleep(min(left, self.chance.uniform(0, 1)))
            await self._inject(together)

    async def _inject(self, together: tuple[str, ...]) -> None:
        name = " + ".join(together)
        was_open = set(self.load.open)
        broken = time.monotonic()
        async with asyncio.TaskGroup() as faults:
            for each in together:
                faults.create_task(FAULTS[each].run(self.deployment, self.chance))
        mended = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._moves_again(was_open)
        except TimeoutError:
            self.violations.append(f"{name}: not everything moved again within {PATIENCE_SECONDS:.0f} s")
        recovered = time.monotonic() - mended
        self.recoveries.setdefault(name, []).append(recovered)
        slow = f"; last of all {', '.join(self._standing)}" if recovered > SLOW_SECONDS else ""
        self.say(f"{name}: {mended - broken:.1f} s, then moving again after {recovered:.1f} s{slow}")

    async def _moves_again(self, was_open: set[str]) -> None:
        """A new session runs from end to end, and each one that was open before gets new events or has ended."""
        heads = await asyncio.to_thread(self._open_heads, was_open)
        self._standing = ["a new session"]
        await self.load.one("probe", {})
        while standing := heads.items() & (await asyncio.to_thread(self._open_heads, set(heads))).items():
            heads = dict(standing)
            self._standing = list(heads)
            await asyncio.sleep(0.1)

    def _open_heads(self, session_ids: set[str]) -> dict[str, int]:
        query = "SELECT stream_id::text, head FROM streams WHERE stream_id = ANY(%s::uuid[]) AND NOT closed"
        with psycopg.connect(self.deployment.postgres.superuser_url) as db:
            return dict(db.execute(query, (list(session_ids),)).fetchall())


@dataclass(frozen=True, slots=True)
class Recovery:
    """Of one kind of fault, alone or in company: how often, and the seconds until everything moved again."""

    fault: str
    count: int
    median_seconds: float
    worst_seconds: float


def recoveries(schedule: Schedule) -> list[Recovery]:
    by_fault: dict[str, list[float]] = {}
    for name, seconds in schedule.recoveries.items():
        for fault in name.split(" + "):
            by_fault.setdefault(fault, []).extend(seconds)
    return [Recovery(name, len(found), median(found), max(found)) for name, found in sorted(by_fault.items())]
