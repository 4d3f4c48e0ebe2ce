"""One run of the harness: a deployment under load, faults by a seed, and the verdicts."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.acceptance.faults import ledger
from tests.acceptance.faults.checker import check
from tests.acceptance.faults.deployment import TOKEN, Deployment, deployed
from tests.acceptance.faults.faults import FAULTS
from tests.acceptance.faults.feed import Feed
from tests.acceptance.faults.history import History, read_history
from tests.acceptance.faults.leaks import connections_and_memory, orphans, rebuilt
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.readers import Readers
from tests.acceptance.faults.schedule import Recovery, Schedule, recoveries
from tests.acceptance.faults.verdict import Verdict
from tests.acceptance.faults.workload import WORKFLOWS, hostile_projects

SESSIONS = 6
"""Kept open at the same time; two cores are busy with them."""
DRAIN_SECONDS = 120.0


@dataclass
class Outcome:
    seed: int
    seconds: float
    verdicts: list[Verdict]
    recoveries: list[Recovery]
    logs: dict[str, str] = field(default_factory=dict)
    """What the programs wrote, by file name."""

    @property
    def violations(self) -> list[str]:
        return [violation for verdict in self.verdicts for violation in verdict.violations]


async def run(seconds: float, seed: int, only: list[str], say: Callable[[str], None]) -> Outcome:
    """Breaks things for about `seconds`, then lets everything come to its end and checks it."""
    started = time.monotonic()
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(deployed(workers=2, gateways=2))
        projects = stack.enter_context(hostile_projects(deployment.directory / "hostile"))
        await _served(deployment)
        ports = [door.port for door in deployment.doors]
        readers = Readers(ports, TOKEN, random.Random(chance.random()))
        load = Load(ports, TOKEN, readers, random.Random(chance.random()), projects)
        feed = Feed(ports, TOKEN, random.Random(chance.random()))
        schedule = Schedule(deployment, load, chance, possible(deployment, only or list(FAULTS)), say)
        reading = asyncio.create_task(feed.run())
        working = asyncio.create_task(load.run(sessions=SESSIONS))
        await schedule.run(seconds)
        say("everything is mended; what is open comes to its end")
        verdicts = [await _drain(load, working, schedule)]
        history = await asyncio.to_thread(read_history, deployment.postgres.superuser_url)
        await _fed(feed, history)
        reading.cancel()
        await asyncio.wait({reading})
        verdicts += check(history, ledger.read(deployment.ledger), load, readers, feed)
        verdicts += await connections_and_memory(deployment)
        verdicts.append(await asyncio.to_thread(rebuilt, deployment))
        verdicts.append(await deployment.stop())
        verdicts.append(orphans(deployment))
        outcome = Outcome(seed, time.monotonic() - started, verdicts, recoveries(schedule))
        outcome.logs = {path.name: path.read_text(errors="replace") for path in _logs(deployment.directory)}
        return outcome


def possible(deployment: Deployment, names: list[str]) -> list[str]:
    return [name for name in names if FAULTS[name].part != "disk" or deployment.has_small_disk]


async def _served(deployment: Deployment) -> None:
    async with asyncio.timeout(60):
        while True:
            async with await psycopg.AsyncConnection.connect(deployment.postgres.superuser_url) as db:
                cursor = await db.execute("SELECT count(*) FROM workflows")
                if await cursor.fetchone() == (len(WORKFLOWS),):
                    return
            await asyncio.sleep(0.1)


async def _drain(load: Load, working: "asyncio.Task[None]", schedule: Schedule) -> Verdict:
    load.stop()
    violations = list(schedule.violations)
    started = time.monotonic()
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(working), DRAIN_SECONDS)
    if not working.done():
        violations += [f"{session_id} did not end in {DRAIN_SECONDS:.0f} s" for session_id in load.open]
        working.cancel()
        await asyncio.wait({working})
    looked_at = f"the last one ended {time.monotonic() - started:.1f} s after the last fault"
    return Verdict("everything moves again, and every session ends", looked_at, tuple(violations))


async def _fed(feed: Feed, history: History) -> None:
    """The feed may be a moment behind."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while feed.events < history.fed_events:
                await asyncio.sleep(0.05)


def _logs(directory: Path) -> list[Path]:
    return [*directory.glob("*.log"), *(directory / "logs").glob("*.log")]
