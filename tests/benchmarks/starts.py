"""How long programs take to start: a worker until it claims its first step, and the command line's help."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.figure import Figure, Goal, in_turns
from tests.benchmarks.house import House, end
from tests.benchmarks.peers import PEERS
from tests.benchmarks.working import WORKER, WORKFLOWS, Client, Local, client_of

HELP_RUNS = 7
IMPORTS = "import celery, langgraph.graph, sqlalchemy.ext.asyncio"
SHIPPED = "workers.workflows.repair"
STELLWERK = Path(sys.executable).with_name("stellwerk")


async def bench(house: House) -> AsyncIterator[Figure]:
    yield await first_claim(house)
    yield await help_shown()


async def first_claim(house: House) -> Figure:
    url = house.new_database()
    async with client_of(house, url) as client:
        local = Local(client, "chain")
        await local.register()
        environment = keeping_bytecode(house.environment(url, WORKFLOWS=f"{SHIPPED},{WORKFLOWS}"))

        async def worker() -> float:
            return await seconds_to_claim(house, client, local, environment)

        async def imports() -> float:
            return await seconds_of([sys.executable, "-c", IMPORTS])

        await worker()  # whatever has no bytecode yet gets it
        ours, theirs = await in_turns(worker, imports)
    return Figure(
        "start of a worker",
        "s",
        ours,
        f"`{IMPORTS}`",
        theirs,
        Goal("≤", 1.3),
        "until it claims a step that was queued before; it serves the shipped workflow, too",
    )


async def seconds_to_claim(house: House, client: Client, local: Local, environment: dict[str, str]) -> float:
    session_id = await client.create("chain", left=1)
    await local.advancer.advance_session(session_id)
    began = time.time()
    process = await house.start(WORKER, environment=environment, name="starting")
    try:
        await client.ended(session_id)
    finally:
        await asyncio.to_thread(end, process)
    (step,) = await client.step_times(session_id)
    return step.running.timestamp() - began


async def help_shown() -> Figure:
    async def ours() -> float:
        return await seconds_of([STELLWERK, "--help"])

    async def trivial() -> float:
        return await seconds_of([sys.executable, PEERS / "trivial.py", "--help"])

    await ours()
    await trivial()
    shown, theirs = await in_turns(ours, trivial, runs=HELP_RUNS)
    meaning = "from the start of the process to its end"
    return Figure("stellwerk --help", "s", shown, "a typer program of one command", theirs, Goal("≤", 2.0), meaning)


def keeping_bytecode(environment: Mapping[str, str]) -> dict[str, str]:
    """Packages have their bytecode from the set-up; what was edited since gets it at the first start."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


async def seconds_of(command: Sequence[str | Path]) -> float:
    environment = keeping_bytecode(os.environ)
    began = time.monotonic()
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.monotonic() - began
