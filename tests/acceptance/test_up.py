"""`stellwerk up` and `stellwerk down` as people run them: with the real worker and the real gateway."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from app.embedded.postgres import FILE
from app.embedded.running import StackInfo, running_stack
from tests.processes import is_alive, wait_until

STELLWERK = str(Path(sys.executable).with_name("stellwerk"))


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "STELLWERK_HOME": str(home)}


def stellwerk(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [STELLWERK, *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def up(home: Path) -> Iterator[tuple[psutil.Popen, StackInfo]]:
    with (home / "output").open("wb") as output:
        process = psutil.Popen([STELLWERK, "up"], env=environment(home), stdout=output, stderr=output)
    try:
        wait_until(lambda: running_stack(home) or process.poll() is not None, what="up is ready", patience=120)
        info = running_stack(home)
        assert info is not None, (home / "output").read_text()
        yield process, info
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=25)


def is_ready(info: StackInfo) -> bool:
    return httpx.get(f"{info.url}/readyz").status_code == 200


def descendant(process: psutil.Process, command: str) -> psutil.Process:
    (found,) = (p for p in process.children(recursive=True) if command in " ".join(p.cmdline()))
    return found


def test_up_and_down(home: Path) -> None:
    with up(home) as (process, info):
        assert info.pid == process.pid
        assert stat.S_IMODE((home / "stellwerk.json").stat().st_mode) == 0o600
        assert is_ready(info)
        assert info.url in (home / "output").read_text()
        everything = process.children(recursive=True)
        assert len(everything) > 5

        second = stellwerk(home, "up")
        assert second.returncode == 1
        assert f"already running on {home} (pid {process.pid})" in second.stderr
        assert is_ready(info)

        down = stellwerk(home, "down")
        assert (down.returncode, down.stderr) == (0, "")
        assert process.wait(timeout=5) == 0
        assert not [p for p in everything if is_alive(p)]
        assert not (home / "stellwerk.json").exists()

        nothing = stellwerk(home, "down")
        assert nothing.returncode == 1
        assert "no stack is running" in nothing.stderr


@pytest.mark.parametrize("command", ["app.gateway", "workers.main"])
def test_a_killed_child_comes_back(home: Path, command: str) -> None:
    with up(home) as (process, info):
        victim = descendant(process, command)
        victim.kill()
        wait_until(
            lambda: descendant(process, command).pid != victim.pid,
            what="another one runs",
            retry_on=(ValueError, psutil.NoSuchProcess, psutil.ZombieProcess),
        )
        wait_until(lambda: is_ready(info), what="the gateway answers", retry_on=httpx.TransportError)


def owner_url(home: Path) -> str:
    return str(json.loads((home / FILE).read_text())["owner_url"])


def test_after_a_kill_of_everything_up_recovers_with_data_port_and_token(home: Path) -> None:
    with up(home) as (process, info):
        with psycopg.connect(owner_url(home)) as db:
            db.execute("CREATE TABLE kept AS SELECT 7 AS n")
        everything = [process, *process.children(recursive=True)]
        for victim in everything:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        wait_until(lambda: not any(map(is_alive, everything)), what="all are dead")
        # A process is a zombie when its first thread is: the lock may be held a moment longer.
        wait_until(lambda: running_stack(home) is None, what="the home is free")
        assert (home / "stellwerk.json").exists()
    with up(home) as (process, again):
        assert (again.url, again.token) == (info.url, info.token)
        assert again.pid == process.pid
        with psycopg.connect(owner_url(home)) as db:
            assert db.execute("TABLE kept").fetchone() == (7,)


def test_ctrl_c_stops_cleanly_and_a_second_one_at_once(home: Path) -> None:
    for presses in (1, 2):
        with up(home) as (process, _):
            everything = process.children(recursive=True)
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
            assert not [p for p in everything if is_alive(p)]
