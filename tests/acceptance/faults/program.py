"""A gateway or a worker, which is killed, frozen and started again."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

RESPAWN_SECONDS = 0.5
CLOCK = Path(__file__).parent / "clock"


@dataclass
class Program:
    """A process that is started again and again with the same command; each life has its own log."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    directory: Path
    clock_offset: float = 0.0
    lives: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.lives += 1
        # The shim is there only where it is needed: it would hide another sitecustomize.
        clock = (
            {
                "PYTHONPATH": f"{CLOCK}{os.pathsep}{self.environment['PYTHONPATH']}",
                "FAULTS_CLOCK_OFFSET": str(self.clock_offset),
            }
            if self.clock_offset
            else {}
        )
        with (self.directory / f"{self.name}-{self.lives}.log").open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                env={**self.environment, **clock},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    async def wait(self, patience: float = 30.0) -> None:
        assert self.process is not None
        async with asyncio.timeout(patience):
            await asyncio.to_thread(self.process.wait)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.wait()

    async def respawn(self) -> None:
        """As a supervisor does it, a moment later."""
        await asyncio.sleep(RESPAWN_SECONDS)
        self.start()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def usage(self) -> tuple[int, int]:
        """Resident bytes and open file descriptors."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        return process.memory_info().rss, process.num_fds()

    def connections(self, port: int) -> int:
        """How many clients are connected to it at this port of its own."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(1 for one in found if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED)
