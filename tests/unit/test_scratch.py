"""Throw-away directories, also those of processes that were killed."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workers.children import scratch
from workers.children.scratch import remove_leftovers, scratch_directory


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remove_leftovers.cache_clear()
    return tmp_path


async def test_it_is_removed_even_when_the_task_is_cancelled(temporary: Path) -> None:
    made: asyncio.Queue[Path] = asyncio.Queue()

    async def work() -> None:
        async with scratch_directory() as directory:
            (directory / "file").touch()
            made.put_nowait(directory)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    directory = await made.get()
    assert directory.parent == temporary
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not directory.exists()


async def test_what_killed_processes_left_goes_and_what_living_ones_use_stays(temporary: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"])
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    left = temporary / f"{scratch.PREFIX}{dead.pid}-abc"
    (left / "project").mkdir(parents=True)
    async with scratch_directory() as used:
        remove_leftovers.cache_clear()
        remove_leftovers()
        assert used.exists()
    assert not left.exists()
