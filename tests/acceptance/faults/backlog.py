"""Many sessions submitted at once: they wait in Postgres, so neither the broker nor the workers hold them."""

import asyncio
import time
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, LiteralString

import httpx
import psycopg
from redis.asyncio import Redis

from app.config import MIB
from tests.acceptance.faults.deployment import TOKEN, Deployment, deployed
from tests.acceptance.faults.scale import PATIENCE_SECONDS, Size, memory_of

ACTIVE = 20
PRIORITIES = (0, 5, -5)
AT_ONCE = 100
"""Clients that submit side by side."""
QUEUES = ("advance", "default")
MESSAGES = 3
"""A session of one step needs two messages, and one more may have been sent again."""
BROKER_BYTES = 2 * MIB
WORKER_BYTES = 64 * MIB
"""What a worker's memory grows by with its first sessions, whatever waits behind them."""
SECONDS_EACH = 0.1

_BEGUN = """
SELECT x.priority, x.session_id::text,
       (SELECT min(e.position) FROM events e WHERE e.stream_id = x.session_id AND e.t = 'step_event'),
       (SELECT max(e.position) FROM events e WHERE e.stream_id = x.session_id)
FROM sessions x WHERE x.task = 'backlog'
"""
_SUCCEEDED = "SELECT count(*) FROM sessions WHERE task = 'backlog' AND status = 'succeeded'"
_ADMITTED = "SELECT session_id::text FROM sessions WHERE admitted_at IS NOT NULL"


@dataclass
class Broker:
    """What the backlog makes of it."""

    redis: Redis
    grown: int = 0
    waiting: int = 0

    async def watch(self) -> None:
        """Until cancelled."""
        before = await self._used()
        while True:
            self.grown = max(self.grown, await self._used() - before)
            self.waiting = max(self.waiting, sum([await self.redis.llen(queue) for queue in QUEUES]))
            await asyncio.sleep(0.05)

    async def _used(self) -> int:
        used: int = (await self.redis.info("memory"))["used_memory"]
        return used

    async def messages(self) -> int:
        """All that were ever put into a queue."""
        commands = await self.redis.info("commandstats")
        return int(commands.get("cmdstat_lpush", {}).get("calls", 0))


async def backlog(size: Size) -> list[str]:
    """All are submitted while nobody works; then two workers come."""
    settings = {"STELLWERK_MAX_ACTIVE_SESSIONS": str(ACTIVE)}
    async with (
        deployed(workers=0, gateways=1, **settings) as deployment,
        Redis.from_url(deployment.valkey.url) as redis,
    ):
        await _register(deployment, settings)
        broker = Broker(redis)
        watching, before = asyncio.create_task(broker.watch()), await broker.messages()
        accepted, slowest = await _submit(deployment, size.backlog)
        at_once = {row[0] for row in await _rows(deployment, _ADMITTED)}  # found room when they came
        workers = [await deployment.add_worker(**settings) for _ in range(2)]
        started = time.monotonic()
        await _ended(deployment, 1)
        async with memory_of(workers[0]) as first, memory_of(workers[1]) as second:
            await _ended(deployment, size.backlog)
        took = time.monotonic() - started
        messages = await broker.messages() - before
        watching.cancel()
        away, active = await _order(deployment, at_once)
    grown = max(first.grown, second.grown)
    # Two workers take up what was admitted in order side by side.
    assert away <= ACTIVE, f"a session began {away} places from where it belongs"
    assert active <= ACTIVE, f"{active} were active at a time"
    assert messages <= MESSAGES * size.backlog + ACTIVE, f"{messages} messages"
    assert broker.waiting <= MESSAGES * ACTIVE, f"{broker.waiting} messages waited in the broker"
    assert broker.grown < BROKER_BYTES and grown < WORKER_BYTES, f"{broker.grown} and {grown} bytes"
    return [
        f"{size.backlog} sessions accepted in {accepted:.1f} s, each in {slowest * 1000:.0f} ms at most",
        f"done {took:.1f} s later, by priority and age: at most {away} places off, {active} active at a time",
        f"{messages} messages, at most {broker.waiting} waiting; the broker's memory grew by {broker.grown >> 10} KiB",
        f"a worker's memory grew by {grown // MIB} MiB after its first session",
    ]


def _client(deployment: Deployment) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{deployment.doors[0].target_port}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        limits=httpx.Limits(max_connections=AT_ONCE),
        timeout=httpx.Timeout(10, pool=None),
    )


async def _register(deployment: Deployment, settings: dict[str, str]) -> None:
    """A worker says which workflows there are, and leaves."""
    worker = await deployment.add_worker(**settings)
    async with asyncio.timeout(PATIENCE_SECONDS), _client(deployment) as client:
        while (await client.post("/sessions", json={"task": "first", "workflow": "probe"})).status_code != 201:
            await asyncio.sleep(0.1)
    await worker.kill()


async def _submit(deployment: Deployment, count: int) -> tuple[float, float]:
    """Seconds for all, and for the slowest."""
    turn, slowest = asyncio.Semaphore(AT_ONCE), 0.0

    async def post(client: httpx.AsyncClient, number: int) -> None:
        nonlocal slowest
        async with turn:
            started = time.monotonic()
            priority = PRIORITIES[number % len(PRIORITIES)]
            new = {"task": "backlog", "workflow": "probe", "priority": priority}
            (await client.post("/sessions", json=new)).raise_for_status()
            slowest = max(slowest, time.monotonic() - started)

    started = time.monotonic()
    async with _client(deployment) as client, asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(post(client, number))
    return time.monotonic() - started, slowest


async def _ended(deployment: Deployment, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS + SECONDS_EACH * count):
        while (await _rows(deployment, _SUCCEEDED))[0][0] < count:
            await asyncio.sleep(0.2)


async def _order(deployment: Deployment, at_once: set[str]) -> tuple[int, int]:
    """How far a session began from where it belongs, by the log's positions, and how many were active at a time."""
    rows = await _rows(deployment, _BEGUN)
    by_right = sorted(rows, key=lambda row: (0, 0, row[1]) if row[1] in at_once else (1, -row[0], row[1]))
    begun = sorted(rows, key=lambda row: row[2])
    place = {row[1]: number for number, row in enumerate(begun)}
    away = max(abs(place[row[1]] - number) for number, row in enumerate(by_right))
    changes = sorted([(row[2], 1) for row in rows] + [(row[3], -1) for row in rows])
    return away, max(accumulate(change for _, change in changes))


async def _rows(deployment: Deployment, query: LiteralString) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(deployment.postgres.superuser_url) as db:
        return await (await db.execute(query)).fetchall()
