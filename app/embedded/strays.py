"""What a stack that was killed has left running, and how it is ended."""

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "STELLWERK_STACK"
"""In the environment of gateway and workers, and so of all that they start: the stack's home. Theirs nobody can read
(see privacy.py), so it stands in their command lines, too."""


def end_stack(home: Path) -> None:
    """Ends gateway and workers, then the servers, of a stack whose supervisor is gone."""
    end_services(home, patience=8)
    end_valkey(home / "valkey")
    end_postgres(home / "postgres" / "data")


def end_services(home: Path, *, patience: float) -> None:
    end_processes(_marked(home), patience=patience)


def end_valkey(data: Path) -> None:
    end_processes(_servers_in(data, "valkey"), patience=5)


def end_postgres(data: Path) -> None:
    """Stops the postmaster of this directory, or waits for the last children of one that was killed."""
    processes = _servers_in(data, "postgres")
    pids = {process.pid for process in processes}
    # Only the postmaster is asked: some of its children take SIGINT for an order of their own.
    end_processes([p for p in processes if _parent(p) not in pids], sign=signal.SIGINT, patience=15)
    end_processes(_still_alive(processes, patience=5), sign=signal.SIGKILL, patience=5)


def end_processes(
    processes: Iterable[psutil.Process], *, sign: signal.Signals = signal.SIGTERM, patience: float
) -> None:
    """Ends processes that are not our children: asks, waits `patience` seconds, kills."""
    processes = list(processes)
    _each(processes, lambda process: process.send_signal(sign))
    alive = _still_alive(processes, patience)
    _each(alive, psutil.Process.kill)
    _still_alive(alive, patience=5)


def _servers_in(directory: Path, name: str) -> list[psutil.Process]:
    """Servers called `name…` whose working directory is `directory`.

    Both servers change into their data directory and overwrite their environment with a title, so this is
    the trace that a pid file cannot fake: in a container the pids of the last life are soon other processes'.
    """
    resolved = str(directory.resolve())
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["cwd"] == resolved and str(process.info["name"]).startswith(name)
    ]


def marked(command: Sequence[str], home: Path) -> list[str]:
    """The same command of Python, with an option that it does not know, and that says whose it is."""
    python, *arguments = command
    return [python, "-X", f"{MARK}={home}", *arguments]


def _marked(home: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get(MARK) == str(home) or f"{MARK}={home}" in (process.info["cmdline"] or ())
    ]


def _still_alive(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Those that have not ended after `patience` seconds.

    A zombie has ended: in a container the first process may reap nothing, and then they stay.
    """
    deadline = time.monotonic() + patience
    while (alive := [process for process in processes if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _each(processes: Iterable[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            action(process)
