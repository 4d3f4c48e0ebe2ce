"""The servers of a bench: an embedded Postgres and Valkey of its own, and programs on them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
from psycopg import sql

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sentinel import Sentinel
from app.embedded.valkey import EmbeddedValkey
from app.schema import migrate
from tests.acceptance.faults.deployment import free_port
from tests.conftest import temporary_home, url_of
from tests.roles import as_app, remember

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-bench"
START_SECONDS = 60.0


@dataclass
class House:
    directory: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    _stack: AsyncExitStack = field(repr=False)
    is_full: bool = False
    """Whether there is time for the largest sizes."""
    _databases: int = 0

    def new_database(self, *, migrated: bool = True) -> str:
        """The superuser's address of an empty database, by default with our schema."""
        self._databases += 1
        name = f"bench_{self._databases}"
        with closing(psycopg.connect(self.postgres.superuser_url, autocommit=True)) as db:
            db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = url_of(self.postgres, name)
        if migrated:
            migrate(url)
        return url

    def environment(self, database_url: str, **settings: str) -> dict[str, str]:
        """Of a program of ours; `settings` are those of app/config.py, in capitals."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
        return {
            **kept,
            "STELLWERK_DATABASE_URL": as_app(database_url),
            "STELLWERK_REDIS_URL": self.valkey.url,
            "STELLWERK_HOME": str(self.directory / "home"),
            "STELLWERK_TOKEN": TOKEN,
            "STELLWERK_LOG_LEVEL": "warning",
            "PYTHONPATH": str(ROOT),
            **{f"STELLWERK_{name}": value for name, value in settings.items()},
        }

    async def start(
        self, command: Sequence[str | Path], *, environment: dict[str, str], name: str, directory: Path = ROOT
    ) -> psutil.Popen:
        """A program that is ended with the house, if `end` does not do it before."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = psutil.Popen(command, env=environment, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(end, process)
        return process

    async def start_gateway(self, database_url: str, **settings: str) -> tuple[psutil.Popen, int]:
        """Returns the process and its port when it answers; most figures need no worker."""
        port = free_port()
        command = [sys.executable, "-m", "app.gateway"]
        settings = {"PORT": str(port), **settings}
        process = await self.start(command, environment=self.environment(database_url, **settings), name="gateway")
        await answers(f"http://127.0.0.1:{port}/healthz")
        return process, port


def end(process: psutil.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


async def answers(url: str) -> None:
    """Waits until a server says 200."""
    async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def house(*, is_full: bool = False) -> AsyncIterator[House]:
    with temporary_home() as home, Sentinel(home):
        postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
        try:
            postgres.start()
            remember(postgres)
            valkey.start()
            async with AsyncExitStack() as stack:
                yield House(home, postgres, valkey, stack, is_full)
        finally:
            valkey.stop()
            postgres.stop()
