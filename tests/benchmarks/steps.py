"""Steps: what it costs to queue one, start it, run a node that does nothing, fold it and queue the next.

All times are those of the events in the log. One worker process with the default settings runs the sessions.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median
from typing import Any

from celery import Celery
from redis.asyncio import Redis

from tests.benchmarks.appends import DBOS
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample, percentile
from tests.benchmarks.house import House, end
from tests.benchmarks.peers import PEERS, python_with, run_peer
from tests.benchmarks.working import Client, StepTimes, working

STEPS = 1000
EARLY, LATE = slice(10, 110), slice(900, 1000)
SESSIONS = 64
STEPS_EACH = 6
TASKS = 100
IDLE_SECONDS = 0.005
"""Between two Celery tasks, so that each finds the worker waiting."""


@dataclass
class Found:
    """One value for each run."""

    sequence: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    at_once: list[float] = field(default_factory=list)
    celery_start: list[float] = field(default_factory=list)
    dbos: list[dict[str, float]] = field(default_factory=list)


async def one_session(client: Client, found: Found) -> None:
    times = await client.step_times(await client.run("chain", left=STEPS))
    durations = step_durations(times)
    found.sequence.append(1 / mean(durations))
    found.start.append(1000 * median(step.start_seconds for step in times))
    found.early.append(1000 * median(durations[EARLY]))
    found.late.append(1000 * median(durations[LATE]))


def step_durations(times: list[StepTimes]) -> list[float]:
    """From queued to the next queued."""
    return [(after.queued - step.queued).total_seconds() for step, after in pairwise(times)]


async def many_sessions(client: Client) -> float:
    """Steps a second, from the first queued to the last succeeded."""
    ids = await asyncio.gather(*(client.create("chain", left=STEPS_EACH) for _ in range(SESSIONS)))
    await client.ended(*ids)
    times = [step for session_id in ids for step in await client.step_times(session_id)]
    took = max(step.succeeded for step in times) - min(step.queued for step in times)
    return len(times) / took.total_seconds()


@asynccontextmanager
async def celery_worker(house: House) -> AsyncIterator[Celery]:
    """A worker of a bare task, and the app that sends it."""
    broker = house.valkey.url.removesuffix("0") + "1"
    environment = {**os.environ, "BROKER": broker, "PYTHONPATH": str(PEERS)}
    command = (sys.executable, "-m", "celery", "-A", "celery_start", "worker", "--pool=threads", "--concurrency=16")
    process = await house.start(command, environment=environment, name="celery")
    try:
        yield Celery("bench", broker=broker)
    finally:
        await asyncio.to_thread(end, process)


async def celery_start(app: Celery) -> float:
    """Milliseconds from sending a task until it runs."""
    latencies = []
    async with Redis.from_url(app.conf.broker_url) as redis:
        for _ in range(TASKS):
            await asyncio.to_thread(app.send_task, "celery_start.begin", [time.time()])
            popped: Any = redis.blpop(["begun"], timeout=60)  # redis-py's types allow for its other, blocking client
            latencies.append(float((await popped)[1]))
            await asyncio.sleep(IDLE_SECONDS)
    return 1000 * percentile(latencies[TASKS // 10 :], 0.5)  # the first ones connect


async def bench(house: House) -> AsyncIterator[Figure]:
    python = python_with(DBOS)
    found = Found()
    async with working(house) as client, celery_worker(house) as celery:
        await celery_start(celery)
        for _ in range(RUNS):
            await one_session(client, found)
            found.celery_start.append(await celery_start(celery))
            found.at_once.append(await many_sessions(client))
            url = house.new_database(migrated=False)
            found.dbos.append(await asyncio.to_thread(run_peer, python, "dbos_steps", url))
    for figure in figures(found):
        yield figure


def figures(found: Found) -> list[Figure]:
    sequence, start, late = sample(found.sequence), sample(found.start), sample(found.late)
    one_by_one = "DBOS's queue, one after the other"
    at_once = "DBOS's queue, all enqueued at once"
    celery = "a bare Celery task"
    return [
        Figure(
            "steps of one session in sequence", "steps/s", sequence, one_by_one, dbos(found, "sequence"),
            Goal("≥", 1.5), "queued → next queued; theirs: a workflow of one step, polled every 10 ms",
        ),
        Figure(
            "steps of one session in sequence", "steps/s", sequence, at_once, dbos(found, "queued"),
            Goal("≥", 1.5), "the same beside many workflows of one step, which one poll takes together",
        ),
        Figure(
            "start of a step, p50", "ms", start, celery, sample(found.celery_start),
            Goal("≤", 2.0), "queued → running, an idle worker; theirs: sent → running, threads pool",
        ),
        Figure(
            f"steps of {SESSIONS} sessions at once", "steps/s", sample(found.at_once),
            "DBOS, in one process without a queue", dbos(found, "concurrent"),
            Goal("≥", 1.0), f"{SESSIONS} × {STEPS_EACH} steps, one worker process; theirs cross no broker",
        ),
        Figure(
            "steps 900–1000 of a session, p50", "ms", late, "its steps 10–110", sample(found.early),
            Goal("≤", 1.2), "queued → next queued, with a state of constant size",
        ),
    ]  # fmt: skip


def sample(values: list[float]) -> Sample:
    return Sample(tuple(values))


def dbos(found: Found, name: str) -> Sample:
    return sample([rates[name] for rates in found.dbos])
