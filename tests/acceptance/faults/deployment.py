"""A whole deployment of real processes whose parts can be broken one by one.

readers ── proxy ──▶ gateway ×2 ─┐
                                 ├── proxies ──▶ Postgres, Valkey
           worker ×2 ────────────┘
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx
from sqlalchemy import make_url

from app.config import MIB
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sentinel import Sentinel
from app.embedded.strays import MARK
from app.embedded.valkey import EmbeddedValkey
from app.schema import migrate
from tests.acceptance.faults import ledger
from tests.acceptance.faults.program import Program
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.faults.verdict import Verdict
from tests.conftest import temporary_home

ROOT = Path(__file__).parents[3]
TOKEN = "a-token-for-tests"
WORKFLOWS = "tests.acceptance.faults.workload"
READY_SECONDS = 60.0
LEASE_SECONDS = 4.0
DISK_BYTES = 256 * MIB
SETTINGS = MappingProxyType(
    {
        "LEASE": str(LEASE_SECONDS),
        "HEARTBEAT_STEPS": "1",
        "RESCUE_EVERY": "0.5",
        "RING_AGAIN_AFTER": "2",
        "RETRY_DELAY": "0.2",
        "HEAD_POLL": "0.5",
        "HEARTBEAT": "2",
        "SEND_TIMEOUT": "3",
        "CONCURRENCY": "8",
        "MIN_FREE_BYTES": str(32 * MIB),
        "STATEMENT_LIMIT": "6",
        "RESEARCH": "rules",
        "TOKEN": TOKEN,
        "WORKFLOWS": WORKFLOWS,
    }
)


@dataclass
class Deployment:
    directory: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    postgres_proxy: Proxy
    valkey_proxy: Proxy
    workers: list[Program] = field(default_factory=list)
    gateways: list[Program] = field(default_factory=list)
    doors: list[Proxy] = field(default_factory=list)
    """What readers and clients connect to: one proxy before each gateway."""
    has_small_disk: bool = False
    """Whether the workspaces have a file system of their own, which only root can give them."""

    @property
    def programs(self) -> list[Program]:
        return [*self.workers, *self.gateways]

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger"

    @property
    def workspaces(self) -> Path:
        return self.directory / "workspaces"

    @property
    def environment(self) -> dict[str, str]:
        """For the programs, which reach the servers through the proxies."""
        return self._environment(self.postgres_proxy.port, self.valkey_proxy.port)

    @property
    def direct_environment(self) -> dict[str, str]:
        """For the checks at the end, which no proxy disturbs."""
        return self._environment(None, None)

    def _environment(self, postgres_port: int | None, valkey_port: int | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
        return {
            **kept,
            **{f"STELLWERK_{name}": value for name, value in SETTINGS.items()},
            "STELLWERK_DATABASE_URL": _at(self.postgres.url, postgres_port),
            "STELLWERK_REDIS_URL": _at(self.valkey.url, valkey_port),
            "STELLWERK_HOME": str(self.directory),
            "PYTHONPATH": str(ROOT),
            ledger.DIRECTORY: str(self.ledger),
            MARK: str(self.directory),  # if the harness is killed, the sentinel ends everything
        }

    async def add_worker(self, **environment: str) -> Program:
        number = len(self.workers) + 1
        command = [sys.executable, "-m", "celery", "-A", "workers.main", "worker", "-n", f"worker{number}@faults"]
        quiet = ["--without-gossip", "--without-mingle"]
        worker = Program(f"worker{number}", [*command, *quiet], self.environment | environment, self.directory)
        worker.start()
        self.workers.append(worker)
        return worker

    async def add_gateway(self, port: int, **environment: str) -> Program:
        gateway = Program(
            f"gateway{len(self.gateways) + 1}",
            [sys.executable, "-m", "app.gateway"],
            self.environment | {"STELLWERK_PORT": str(port)} | environment,
            self.directory,
        )
        gateway.start()
        self.gateways.append(gateway)
        return gateway

    async def ready(self) -> None:
        """Every gateway answers, and a worker, if there are any, has registered its workflows."""
        async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as client:
            for door in self.doors:
                while True:
                    try:
                        answer = await client.get(f"http://127.0.0.1:{door.target_port}/readyz", timeout=5)
                        is_there = answer.json()["database"] and not self.workers
                        if answer.status_code == 200 or is_there:
                            break
                    except httpx.TransportError:
                        pass
                    await asyncio.sleep(0.1)

    async def stop(self) -> Verdict:
        """SIGTERM to all programs. Kills nothing."""
        started = time.monotonic()
        for program in self.programs:
            if program.is_running:
                program.send(signal.SIGCONT)
                program.send(signal.SIGTERM)
        ends = await asyncio.gather(*(program.wait() for program in self.programs), return_exceptions=True)
        late = [program.name for program, end in zip(self.programs, ends, strict=True) if end is not None]
        took = f"the last one after {time.monotonic() - started:.1f} s"
        return Verdict("SIGTERM ends all programs", took, tuple(f"{name} had to be killed" for name in late))

    def put_down(self) -> None:
        """Whatever is still there when the harness itself failed."""
        for program in self.programs:
            if program.is_running:
                program.send(signal.SIGKILL)
                assert program.process is not None
                program.process.wait()


def _at(url: str, port: int | None) -> str:
    changed = make_url(url) if port is None else make_url(url).set(port=port)
    return changed.render_as_string(hide_password=False)


def _mount(directory: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _unmount(directory: Path) -> None:
    subprocess.run(["umount", "--lazy", directory], check=True)


def _port_of(url: str) -> int:
    port = make_url(url).port
    assert port is not None
    return port


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def deployed(*, workers: int, gateways: int, **gateway_environment: str) -> AsyncIterator[Deployment]:
    """Starts everything in a temporary home; takes everything down again."""
    with temporary_home() as home, Sentinel(home):
        postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
        try:
            postgres.start()
            valkey.start()
            migrate(postgres.superuser_url)
            async with AsyncExitStack() as stack:
                postgres_proxy = await stack.enter_async_context(Proxy(_port_of(postgres.url)))
                valkey_proxy = await stack.enter_async_context(Proxy(_port_of(valkey.url)))
                deployment = Deployment(home, postgres, valkey, postgres_proxy, valkey_proxy)
                deployment.ledger.mkdir()
                deployment.workspaces.mkdir()
                if _mount(deployment.workspaces):
                    deployment.has_small_disk = True
                    stack.callback(_unmount, deployment.workspaces)
                stack.callback(deployment.put_down)
                for _ in range(workers):
                    await deployment.add_worker()
                for _ in range(gateways):
                    port = free_port()
                    deployment.doors.append(await stack.enter_async_context(Proxy(port)))
                    await deployment.add_gateway(port, **gateway_environment)
                await deployment.ready()
                yield deployment
        finally:
            valkey.stop()
            postgres.stop()
