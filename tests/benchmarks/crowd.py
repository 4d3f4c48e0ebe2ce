"""Clients that count frames, in a process of their own; and how busy they and a server were."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

from tests.benchmarks.house import ROOT

ANSWER_BYTES = 64 * 1024 * 1024
PATIENCE_SECONDS = 60.0


class Crowd:
    """Each client sends one request and counts the frames of its answer; a server's greeting is the first."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.process = psutil.Process(process.pid)

    async def connect(self, port: int, requests: Sequence[str], *, timed: bool = False) -> float:
        """When the first of them began. Ends the connections before."""
        await self._ask("close")
        started: float = (await self._ask("connect", port=port, requests=requests, timed=timed))["started"]
        return started

    async def reach(self, frames: int) -> tuple[int, float]:
        """Waits until every client has so many; how many the slowest has, and when it got there."""
        answer = await self._ask("reach", goal=frames)
        return answer["slowest"], answer["at"]

    async def total(self) -> tuple[int, float]:
        """The frames of all clients together, and when they were counted."""
        answer = await self._ask("total")
        return answer["total"], answer["at"]

    async def arrivals(self) -> dict[int, list[float]]:
        """For each number of a frame, when each client had it, in order; if it was connected `timed`."""
        arrivals = (await self._ask("arrivals"))["arrivals"]
        return {int(number): times for number, times in arrivals.items()}

    async def leave(self) -> None:
        await self._ask("close")

    async def _ask(self, do: str, **arguments: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the counting clients have ended; see their error above")
        return json.loads(answer)


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited by servers that start from now on
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.counting"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=ANSWER_BYTES,
        cwd=ROOT,
    )
    try:
        yield Crowd(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Load:
    """Shares of one core that a server and the counting clients took, run by run."""

    server: list[float] = field(default_factory=list)
    clients: list[float] = field(default_factory=list)

    @contextmanager
    def measured(self, server: psutil.Process, clients: psutil.Process) -> Iterator[None]:
        started, before = time.monotonic(), (cpu_seconds(server), cpu_seconds(clients))
        yield
        seconds = time.monotonic() - started
        self.server.append((cpu_seconds(server) - before[0]) / seconds)
        self.clients.append((cpu_seconds(clients) - before[1]) / seconds)

    def __str__(self) -> str:
        return f"{median(self.server):.0%} of a core, the clients {median(self.clients):.0%}"


def cpu_seconds(process: psutil.Process) -> float:
    """With its children's."""
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)
