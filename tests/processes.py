"""Watching other processes, and waiting for what they do."""

import time
from collections.abc import Callable

import psutil


def wait_until(
    condition: Callable[[], object],
    *,
    what: str,
    patience: float = 30.0,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Returns once `condition` holds; the errors `retry_on` mean "not yet". Fails after `patience` s."""
    deadline = time.monotonic() + patience
    while not _holds(condition, retry_on):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        time.sleep(0.02)


def _holds(condition: Callable[[], object], retry_on: type[Exception] | tuple[type[Exception], ...]) -> bool:
    try:
        return bool(condition())
    except retry_on:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Zombies are not: in a container the first process may reap nothing."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
