"""The faults: each breaks something, waits, and mends it again. What comes after is the product's task."""

import asyncio
import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import psycopg
from redis.asyncio import Redis

from app.config import MIB
from tests.acceptance.faults.deployment import LEASE_SECONDS, Deployment, Program

Run = Callable[[Deployment, random.Random], Coroutine[Any, Any, None]]
Part = Literal["nothing", "workers", "gateways", "redis", "postgres", "disk"]
CLOCK_SECONDS = 420.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`part` is what it breaks: two faults at the same time break different parts."""

    part: Part
    run: Run


FAULTS: dict[str, Fault] = {}


def fault(part: Part) -> Callable[[Run], Run]:
    def keep(run: Run) -> Run:
        FAULTS[run.__name__] = Fault(part, run)
        return run

    return keep


@fault("nothing")
async def nothing(deployment: Deployment, chance: random.Random) -> None:
    """What the measure of recovery shows when nothing was broken."""


# --- workers


@fault("workers")
async def worker_killed(deployment: Deployment, chance: random.Random) -> None:
    worker = chance.choice(deployment.workers)
    await worker.kill()
    await worker.respawn()


@fault("workers")
async def all_workers_killed(deployment: Deployment, chance: random.Random) -> None:
    for worker in deployment.workers:
        await worker.kill()
    await asyncio.gather(*(worker.respawn() for worker in deployment.workers))


@fault("workers")
async def worker_frozen(deployment: Deployment, chance: random.Random) -> None:
    """Longer than its leases: when it wakes up, its steps are somebody else's."""
    worker = chance.choice(deployment.workers)
    await _freeze(worker, LEASE_SECONDS * chance.uniform(1.2, 1.8))


@fault("workers")
async def worker_restarted(deployment: Deployment, chance: random.Random) -> None:
    worker = chance.choice(deployment.workers)
    await _restart(worker)


@fault("workers")
async def worker_clock_wrong(deployment: Deployment, chance: random.Random) -> None:
    """From now on one worker's clock is minutes apart from the database's."""
    worker = chance.choice(deployment.workers)
    worker.clock_offset = chance.choice([-1, 1]) * CLOCK_SECONDS
    await _restart(worker)


# --- gateways and those who read from them


@fault("gateways")
async def gateway_killed(deployment: Deployment, chance: random.Random) -> None:
    gateway = chance.choice(deployment.gateways)
    await gateway.kill()
    await gateway.respawn()


@fault("gateways")
async def gateway_restarted(deployment: Deployment, chance: random.Random) -> None:
    gateway = chance.choice(deployment.gateways)
    await _restart(gateway)


@fault("gateways")
async def gateway_frozen(deployment: Deployment, chance: random.Random) -> None:
    await _freeze(chance.choice(deployment.gateways), chance.uniform(2, 6))


@fault("gateways")
async def readers_cut(deployment: Deployment, chance: random.Random) -> None:
    for door in deployment.doors:
        door.cut()


@fault("gateways")
async def readers_vanished(deployment: Deployment, chance: random.Random) -> None:
    """They are gone, no FIN arrives, and nobody takes what the gateway sends."""
    door = chance.choice(deployment.doors)
    door.vanish()
    await asyncio.sleep(chance.uniform(2, 4))
    door.swallow(False)


@fault("gateways")
async def readers_stuck(deployment: Deployment, chance: random.Random) -> None:
    """Nothing passes; then everything does."""
    async with chance.choice(deployment.doors).swallowing():
        await asyncio.sleep(chance.uniform(2, 6))


@fault("gateways")
async def readers_slow(deployment: Deployment, chance: random.Random) -> None:
    door = chance.choice(deployment.doors)
    door.bytes_per_second = 4096
    await asyncio.sleep(4)
    door.bytes_per_second = 0


# --- Redis


@fault("redis")
async def redis_stopped(deployment: Deployment, chance: random.Random) -> None:
    await asyncio.to_thread(deployment.valkey.stop)
    await asyncio.sleep(chance.uniform(0.5, 5))
    await asyncio.to_thread(deployment.valkey.start)


@fault("redis")
async def redis_killed_and_emptied(deployment: Deployment, chance: random.Random) -> None:
    deployment.valkey.kill()
    await asyncio.to_thread(deployment.valkey.stop)
    shutil.rmtree(deployment.directory / "valkey")
    await asyncio.to_thread(deployment.valkey.start)


@fault("redis")
async def redis_flushed(deployment: Deployment, chance: random.Random) -> None:
    async with Redis.from_url(deployment.valkey.url) as redis:
        await redis.flushall()


@fault("redis")
async def redis_clients_killed(deployment: Deployment, chance: random.Random) -> None:
    await _kill_clients(deployment)


async def _kill_clients(deployment: Deployment) -> None:
    async with Redis.from_url(deployment.valkey.url) as redis:
        for kind in ("normal", "pubsub"):
            await redis.client_kill_filter(_type=kind, skipme=True)


@fault("redis")
async def redis_slow(deployment: Deployment, chance: random.Random) -> None:
    deployment.valkey_proxy.delay_seconds = chance.uniform(0.1, 0.5)
    await asyncio.sleep(4)
    deployment.valkey_proxy.delay_seconds = 0


@fault("redis")
async def redis_unreachable(deployment: Deployment, chance: random.Random) -> None:
    """Packets vanish; no connection ends."""
    async with deployment.valkey_proxy.swallowing():
        await asyncio.sleep(chance.uniform(2, 8))


@fault("redis")
async def redis_half_open(deployment: Deployment, chance: random.Random) -> None:
    """All connections are dead, and neither side is told; new ones work."""
    deployment.valkey_proxy.forget()


@fault("redis")
async def messages_dropped(deployment: Deployment, chance: random.Random) -> None:
    await _steal(deployment, copies=0)


@fault("redis")
async def messages_doubled(deployment: Deployment, chance: random.Random) -> None:
    await _steal(deployment, copies=3)


async def _steal(deployment: Deployment, *, copies: int) -> None:
    """Competes with the workers for what is in the queues, and puts some of it back."""
    async with Redis.from_url(deployment.valkey.url) as redis:
        loop = asyncio.get_running_loop()
        until, kept = loop.time() + 3, []
        while (left := until - loop.time()) > 0:
            if taken := await redis.brpop(["default", "advance"], timeout=left):
                kept.append(taken)
        for queue, message in kept * copies:
            await redis.lpush(queue, message)


# --- Postgres


@fault("postgres")
async def postgres_restarted(deployment: Deployment, chance: random.Random) -> None:
    await asyncio.to_thread(deployment.postgres.stop)
    await asyncio.sleep(chance.uniform(0, 3))
    await asyncio.to_thread(deployment.postgres.start)


@fault("postgres")
async def postgres_killed(deployment: Deployment, chance: random.Random) -> None:
    pid_file = (deployment.directory / "postgres").resolve() / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    await asyncio.to_thread(deployment.postgres.stop)
    await asyncio.to_thread(deployment.postgres.start)


@fault("postgres")
async def postgres_connections_terminated(deployment: Deployment, chance: random.Random) -> None:
    for _ in range(5):
        with suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(deployment.postgres.url, autocommit=True) as db:
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
        await asyncio.sleep(chance.uniform(0, 0.3))


@fault("postgres")
async def postgres_cut_at_commit(deployment: Deployment, chance: random.Random) -> None:
    """Resets in the middle of dialogues: whether the last statement was committed nobody can tell."""
    for _ in range(20):
        deployment.postgres_proxy.cut()
        await asyncio.sleep(chance.uniform(0.02, 0.2))


@fault("postgres")
async def postgres_slow(deployment: Deployment, chance: random.Random) -> None:
    deployment.postgres_proxy.delay_seconds = chance.uniform(0.02, 0.2)
    await asyncio.sleep(4)
    deployment.postgres_proxy.delay_seconds = 0


@fault("postgres")
async def postgres_unreachable(deployment: Deployment, chance: random.Random) -> None:
    """Packets vanish for longer than a lease; then the connections are gone, too."""
    proxy = deployment.postgres_proxy
    async with proxy.swallowing():
        await asyncio.sleep(LEASE_SECONDS * chance.uniform(0.5, 2))
        if chance.random() < 0.5:
            proxy.cut()


@fault("postgres")
async def postgres_half_open(deployment: Deployment, chance: random.Random) -> None:
    """All connections are dead, and neither side is told; new ones work."""
    deployment.postgres_proxy.forget()


@fault("postgres")
async def postgres_out_of_connections(deployment: Deployment, chance: random.Random) -> None:
    """Everybody is thrown out, and others take the places."""
    async with AsyncExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                address = deployment.postgres.url
                connection = await psycopg.AsyncConnection.connect(address, application_name="a crowd")
                await stack.enter_async_context(connection)
                await connection.rollback()
        deployment.postgres_proxy.cut()
        await asyncio.sleep(chance.uniform(1, 4))


@fault("postgres")
async def transaction_stalled(deployment: Deployment, chance: random.Random) -> None:
    """Between taking its position and its commit; what others commit meanwhile has later positions."""
    async with await psycopg.AsyncConnection.connect(deployment.postgres.url) as db:
        await db.execute("SELECT pg_current_xact_id(), nextval(pg_get_serial_sequence('events', 'position'))")
        await _append_to_own_stream(db)
        await asyncio.sleep(chance.uniform(2, 5))


async def _append_to_own_stream(db: psycopg.AsyncConnection[Any]) -> None:
    stream_id = uuid4()
    await db.execute(
        "INSERT INTO streams (stream_id, kind, head_chain) VALUES (%s, 'session', %s)",
        (stream_id, hashlib.sha256(stream_id.bytes).digest()),
    )
    await db.execute(
        "SELECT append_events(NULL, NULL, ARRAY[%s::uuid], ARRAY[%s], ARRAY['agent_event'], ARRAY[NULL], ARRAY[NULL],"
        " ARRAY[NULL::int], ARRAY[NULL::int], ARRAY[NULL::uuid], ARRAY[NULL], ARRAY['\\x00'::bytea])",
        (stream_id, '{"t":"agent_event"}'),
    )


# --- the disk under the workspaces


@fault("disk")
async def disk_full(deployment: Deployment, chance: random.Random) -> None:
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
