"""Faults of Redis and of Postgres."""

import asyncio
import hashlib
import os
import random
import shutil
import signal
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import uuid4

import psycopg
from redis.asyncio import Redis

from app.events.push import Frame, encode_message
from tests.acceptance.faults.deployment import LEASE_SECONDS, Deployment
from tests.acceptance.faults.fault import Faults

FAULTS = Faults()
LITTER = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    b'{"properties": {}}',
    b'{"body": 5, "properties": {"delivery_tag": "x"}}',
)


# --- Redis


@FAULTS.add("redis")
async def redis_stopped(deployment: Deployment, chance: random.Random) -> None:
    await asyncio.to_thread(deployment.valkey.stop)
    await asyncio.sleep(chance.uniform(0.5, 5))
    await asyncio.to_thread(deployment.valkey.start)


@FAULTS.add("redis")
async def redis_killed_and_emptied(deployment: Deployment, chance: random.Random) -> None:
    deployment.valkey.kill()
    await asyncio.to_thread(deployment.valkey.stop)
    shutil.rmtree(deployment.directory / "valkey")
    await asyncio.to_thread(deployment.valkey.start)


@FAULTS.add("redis")
async def redis_flushed(deployment: Deployment, chance: random.Random) -> None:
    async with Redis.from_url(deployment.valkey.url) as redis:
        await redis.flushall()


@FAULTS.add("redis")
async def redis_clients_killed(deployment: Deployment, chance: random.Random) -> None:
    await _kill_clients(deployment)


async def _kill_clients(deployment: Deployment) -> None:
    async with Redis.from_url(deployment.valkey.url) as redis:
        for kind in ("normal", "pubsub"):
            await redis.client_kill_filter(_type=kind, skipme=True)


@FAULTS.add("redis")
async def redis_slow(deployment: Deployment, chance: random.Random) -> None:
    deployment.valkey_proxy.delay_seconds = chance.uniform(0.1, 0.5)
    await asyncio.sleep(4)
    deployment.valkey_proxy.delay_seconds = 0


@FAULTS.add("redis")
async def redis_unreachable(deployment: Deployment, chance: random.Random) -> None:
    """Packets vanish; no connection ends."""
    async with deployment.valkey_proxy.swallowing():
        await asyncio.sleep(chance.uniform(2, 8))


@FAULTS.add("redis")
async def redis_half_open(deployment: Deployment, chance: random.Random) -> None:
    """All connections are dead, and neither side is told; new ones work."""
    deployment.valkey_proxy.forget()


@FAULTS.add("redis")
async def messages_dropped(deployment: Deployment, chance: random.Random) -> None:
    await _steal(deployment, copies=0)


@FAULTS.add("redis")
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


@FAULTS.add("redis")
async def publishes_forged(deployment: Deployment, chance: random.Random) -> None:
    """Another client of Redis speaks in the name of workers: events that are none, ends, and nonsense everywhere."""
    forged = Frame(0, "session_event", None, None, b'id: 1\nevent: session\ndata: {"t":"session_event","forged":1}\n\n')
    async with Redis.from_url(deployment.valkey.url) as redis:
        loop = asyncio.get_running_loop()
        until = loop.time() + 3
        while loop.time() < until:
            for channel in await redis.pubsub_channels("stellwerk:*"):
                frame = forged._replace(offset=chance.randrange(1, 200))
                message = encode_message([frame], inline_bytes=chance.choice([0, 1000]))
                await redis.publish(channel, chance.choice([message, bytes(40) + message, b"\xff\xfe", b"", b"[1,2]"]))
            await asyncio.sleep(0.05)


@FAULTS.add("redis")
async def queues_littered(deployment: Deployment, chance: random.Random) -> None:
    """Garbage in the queues, and messages about what there is not."""
    async with Redis.from_url(deployment.valkey.url) as redis:
        for _ in range(60):
            await redis.lpush(chance.choice(["default", "advance"]), chance.choice(LITTER))
            await asyncio.sleep(0.05)


# --- Postgres


@FAULTS.add("postgres")
async def postgres_restarted(deployment: Deployment, chance: random.Random) -> None:
    await asyncio.to_thread(deployment.postgres.stop)
    await asyncio.sleep(chance.uniform(0, 3))
    await asyncio.to_thread(deployment.postgres.start)


@FAULTS.add("postgres")
async def postgres_killed(deployment: Deployment, chance: random.Random) -> None:
    pid_file = (deployment.directory / "postgres").resolve() / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    await asyncio.to_thread(deployment.postgres.stop)
    await asyncio.to_thread(deployment.postgres.start)


@FAULTS.add("postgres")
async def postgres_connections_terminated(deployment: Deployment, chance: random.Random) -> None:
    for _ in range(5):
        with suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(deployment.postgres.superuser_url, autocommit=True) as db:
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
        await asyncio.sleep(chance.uniform(0, 0.3))


@FAULTS.add("postgres")
async def postgres_cut_at_commit(deployment: Deployment, chance: random.Random) -> None:
    """Resets in the middle of dialogues: whether the last statement was committed nobody can tell."""
    for _ in range(20):
        deployment.postgres_proxy.cut()
        await asyncio.sleep(chance.uniform(0.02, 0.2))


@FAULTS.add("postgres")
async def postgres_slow(deployment: Deployment, chance: random.Random) -> None:
    deployment.postgres_proxy.delay_seconds = chance.uniform(0.02, 0.2)
    await asyncio.sleep(4)
    deployment.postgres_proxy.delay_seconds = 0


@FAULTS.add("postgres")
async def postgres_unreachable(deployment: Deployment, chance: random.Random) -> None:
    """Packets vanish for longer than a lease; then the connections are gone, too."""
    proxy = deployment.postgres_proxy
    async with proxy.swallowing():
        await asyncio.sleep(LEASE_SECONDS * chance.uniform(0.5, 2))
        if chance.random() < 0.5:
            proxy.cut()


@FAULTS.add("postgres")
async def postgres_half_open(deployment: Deployment, chance: random.Random) -> None:
    """All connections are dead, and neither side is told; new ones work."""
    deployment.postgres_proxy.forget()


@FAULTS.add("postgres")
async def postgres_out_of_connections(deployment: Deployment, chance: random.Random) -> None:
    """Everybody is thrown out, and others take the places."""
    async with AsyncExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                address = deployment.postgres.superuser_url
                connection = await psycopg.AsyncConnection.connect(address, application_name="a crowd")
                await stack.enter_async_context(connection)
                await connection.rollback()
        deployment.postgres_proxy.cut()
        await asyncio.sleep(chance.uniform(1, 4))


@FAULTS.add("postgres")
async def transaction_stalled(deployment: Deployment, chance: random.Random) -> None:
    """Between taking its position and its commit; what others commit meanwhile has later positions."""
    async with await psycopg.AsyncConnection.connect(deployment.postgres.superuser_url) as db:
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
