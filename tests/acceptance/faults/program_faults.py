"""Faults of workers, of gateways and those who read from them, and of the disk under the workspaces."""

import asyncio
import random
import signal
from contextlib import suppress

from app.config import MIB
from tests.acceptance.faults.deployment import LEASE_SECONDS, Deployment
from tests.acceptance.faults.fault import Faults
from tests.acceptance.faults.program import Program

FAULTS = Faults()
CLOCK_SECONDS = 420.0


@FAULTS.add("nothing")
async def nothing(deployment: Deployment, chance: random.Random) -> None:
    """What the measure of recovery shows when nothing was broken."""


# --- workers


@FAULTS.add("workers")
async def worker_killed(deployment: Deployment, chance: random.Random) -> None:
    worker = chance.choice(deployment.workers)
    await worker.kill()
    await worker.respawn()


@FAULTS.add("workers")
async def all_workers_killed(deployment: Deployment, chance: random.Random) -> None:
    for worker in deployment.workers:
        await worker.kill()
    await asyncio.gather(*(worker.respawn() for worker in deployment.workers))


@FAULTS.add("workers")
async def worker_frozen(deployment: Deployment, chance: random.Random) -> None:
    """Longer than its leases: when it wakes up, its steps are somebody else's."""
    worker = chance.choice(deployment.workers)
    await _freeze(worker, LEASE_SECONDS * chance.uniform(1.2, 1.8))


@FAULTS.add("workers")
async def worker_restarted(deployment: Deployment, chance: random.Random) -> None:
    worker = chance.choice(deployment.workers)
    await _restart(worker)


@FAULTS.add("workers")
async def worker_clock_wrong(deployment: Deployment, chance: random.Random) -> None:
    """From now on one worker's clock is minutes apart from the database's."""
    worker = chance.choice(deployment.workers)
    worker.clock_offset = chance.choice([-1, 1]) * CLOCK_SECONDS
    await _restart(worker)


# --- gateways and those who read from them


@FAULTS.add("gateways")
async def gateway_killed(deployment: Deployment, chance: random.Random) -> None:
    gateway = chance.choice(deployment.gateways)
    await gateway.kill()
    await gateway.respawn()


@FAULTS.add("gateways")
async def gateway_restarted(deployment: Deployment, chance: random.Random) -> None:
    gateway = chance.choice(deployment.gateways)
    await _restart(gateway)


@FAULTS.add("gateways")
async def gateway_frozen(deployment: Deployment, chance: random.Random) -> None:
    await _freeze(chance.choice(deployment.gateways), chance.uniform(2, 6))


@FAULTS.add("gateways")
async def readers_cut(deployment: Deployment, chance: random.Random) -> None:
    for door in deployment.doors:
        door.cut()


@FAULTS.add("gateways")
async def readers_vanished(deployment: Deployment, chance: random.Random) -> None:
    """They are gone, no FIN arrives, and nobody takes what the gateway sends."""
    door = chance.choice(deployment.doors)
    door.vanish()
    await asyncio.sleep(chance.uniform(2, 4))
    door.swallow(False)


@FAULTS.add("gateways")
async def readers_stuck(deployment: Deployment, chance: random.Random) -> None:
    """Nothing passes; then everything does."""
    async with chance.choice(deployment.doors).swallowing():
        await asyncio.sleep(chance.uniform(2, 6))


@FAULTS.add("gateways")
async def readers_slow(deployment: Deployment, chance: random.Random) -> None:
    door = chance.choice(deployment.doors)
    door.bytes_per_second = 4096
    await asyncio.sleep(4)
    door.bytes_per_second = 0


# --- the disk under the workspaces


@FAULTS.add("disk")
async def disk_full(deployment: Deployment, chance: random.Random) -> None:
    """To the last byte: what had begun to write ends in the middle of a file."""
    filler = deployment.workspaces / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass
    await asyncio.sleep(chance.uniform(1, 4))
    filler.unlink()


async def _freeze(program: Program, seconds: float) -> None:
    program.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    program.send(signal.SIGCONT)


async def _restart(program: Program) -> None:
    program.send(signal.SIGTERM)
    await program.wait()
    program.start()
