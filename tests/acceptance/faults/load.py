"""Clients that keep a number of sessions open, however long a request has to be repeated."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from tests.acceptance.faults.readers import MANNERS, Readers
from tests.acceptance.faults.workload import State, some_input

REQUEST_SECONDS = 5.0
READERS_EACH = 2
FILES_EACH = 0.2
"""How many of the sessions work on files."""
HOSTILE_EACH = 0.1
"""How many read a hostile project."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A session that a client asked for. `session_id` is None as long as nobody acknowledged it."""

    key: str
    workflow: str
    given: State
    session_id: str | None = None


@dataclass
class Load:
    ports: list[int]
    token: str
    readers: Readers
    chance: random.Random
    projects: list[Path]
    """Hostile ones."""
    asked: dict[str, Asked] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    requests: int = 0
    _stopping: bool = False

    async def run(self, *, sessions: int) -> None:
        """Until `stop`; then until the sessions that are open have ended."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(sessions):
                clients.create_task(self._client())

    def stop(self) -> None:
        self._stopping = True

    async def _client(self) -> None:
        while not self._stopping:
            drawn = self.chance.random()
            if drawn < FILES_EACH:
                await self.one("files", {})
            elif drawn < FILES_EACH + HOSTILE_EACH:
                await self.one("hostile", {}, path=self.chance.choice(self.projects))
            else:
                await self.one("mixed", some_input(self.chance))

    async def one(self, workflow: str, given: State, *, path: Path | None = None) -> float:
        """A session from its request to its readers' ends; returns its seconds."""
        started = time.monotonic()
        session_id = await self._create(workflow, given, path)
        self.open.add(session_id)
        async with asyncio.TaskGroup() as readers:
            if workflow == "probe":
                readers.create_task(self.readers.follow(session_id, "steady"))
            else:
                for _ in range(READERS_EACH):
                    readers.create_task(self.readers.follow(session_id, self.chance.choice(MANNERS)))
        self.open.discard(session_id)
        return time.monotonic() - started

    async def _create(self, workflow: str, given: State, path: Path | None) -> str:
        """Asks again, with the same key, until somebody says yes."""
        key = str(uuid4())
        self.asked[key] = Asked(key, workflow, given)
        body = {"task": key, "workflow": workflow, "input": given} | ({"path": str(path)} if path else {})
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": key}
        while True:
            self.requests += 1
            port = self.chance.choice(self.ports)
            try:
                async with httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=False) as client:
                    answer = await client.post(f"http://127.0.0.1:{port}/sessions", json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in {200, 201}:
                session_id: str = answer.json()["session_id"]
                self.asked[key] = Asked(key, workflow, given, session_id)
                return session_id
            if answer is not None and answer.status_code < 500:
                raise AssertionError(f"POST /sessions was answered with {answer.status_code}: {answer.text[:500]}")
            await asyncio.sleep(self.chance.uniform(0.1, 0.4))
