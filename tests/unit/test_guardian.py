"""The guardian with real processes: nothing of a command outlives it or the process that wanted it."""

import asyncio
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from workers.children import guarded as children
from workers.children.guarded import guarded, run_guarded

ENV = {"PATH": os.environ["PATH"]}

# A child, a grandchild that left the session, and one that ignores SIGTERM; each says its pid.
FAMILY = """
import os, signal, subprocess, sys
def report(): print(os.getpid(), flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        report()
        signal.pause()
    report()
    os._exit(0)
report()
signal.pause()
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def process_of(number: int) -> psutil.Process | None:
    """None if it has ended already."""
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


async def pids(stream: asyncio.StreamReader | None, count: int = 3) -> list[psutil.Process | None]:
    assert stream is not None
    numbers = [int(await stream.readline()) for _ in range(count)]
    return [process_of(number) for number in numbers]


def gone(processes: list[psutil.Process | None]) -> bool:
    """Waits on the kernel, not on the clock; the limit only ends a failing test."""
    _, alive = psutil.wait_procs([process for process in processes if process], timeout=10)
    return not alive


async def test_output_exit_code_and_input(tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read()[::-1], end=''); print('no', file=sys.stderr); sys.exit(3)"
    done = await run_guarded(python(code), cwd=tmp_path, env=ENV, stdin=b"abc")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"cba", b"no\n")
    assert not done.timed_out
    assert not done.truncated


async def test_end_by_signal_and_missing_command(tmp_path: Path) -> None:
    done = await run_guarded(python("import os; os.kill(os.getpid(), 11)"), cwd=tmp_path, env=ENV)
    assert done.returncode == -signal.SIGSEGV
    done = await run_guarded([str(tmp_path / "missing")], cwd=tmp_path, env=ENV)
    assert done.returncode == 127
    assert b"cannot start" in done.stderr


async def test_the_end_of_long_output_is_kept(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write('x' * 3_000_000 + 'end')"
    done = await run_guarded(python(code), cwd=tmp_path, env=ENV, stdout_limit=10)
    assert done.stdout == b"xxxxxxxend"
    assert done.truncated


async def test_leaving_the_block_ends_the_whole_family(tmp_path: Path) -> None:
    async with guarded(python(FAMILY), cwd=tmp_path, env=ENV, grace=timedelta(milliseconds=100)) as process:
        family = await pids(process.stdout)
        assert len([member for member in family if member]) >= 2
    assert gone(family)


async def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    leaving = FAMILY.replace("report()\nsignal.pause()", "report()\nsys.stdin.read()")
    grace = timedelta(milliseconds=100)
    async with guarded(python(leaving), cwd=tmp_path, env=ENV, stdin=True, grace=grace) as process:
        family = await pids(process.stdout)  # all have spoken before the first one leaves
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0
        assert gone(family)


async def test_a_reader_that_is_still_waiting_is_no_error(tmp_path: Path) -> None:
    """An agent may leave the block with a task of its own that reads on."""
    async with guarded(python("input()"), cwd=tmp_path, env=ENV, stdin=True) as process:
        assert process.stdout is not None
        reader = asyncio.create_task(process.stdout.read())
        await asyncio.sleep(0)  # it waits now
    assert await reader == b""


async def test_time_limit(tmp_path: Path) -> None:
    code = "import signal; print('so far', flush=True); signal.pause()"
    done = await run_guarded(python(code), cwd=tmp_path, env=ENV, timeout=timedelta(seconds=0.5))
    assert done.timed_out
    assert done.stdout == b"so far\n"


async def test_cancelling_ends_the_family(tmp_path: Path) -> None:
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    code = FAMILY.replace("print(os.getpid(), flush=True)", r"os.write(out, b'%d\n' % os.getpid())")
    code = f"import os\nout = os.open({str(fifo)!r}, os.O_WRONLY)\n{code}"
    task = asyncio.create_task(run_guarded(python(code), cwd=tmp_path, env=ENV))

    def read() -> list[int]:
        with fifo.open() as lines:
            return [int(next(lines)) for _ in range(3)]

    numbers = await asyncio.to_thread(read)
    family = [process_of(number) for number in numbers]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(family)


async def test_a_killed_worker_takes_the_family_along(tmp_path: Path) -> None:
    worker = f"""
import asyncio, sys
from pathlib import Path
from workers.children.guarded import guarded
async def main():
    async with guarded([sys.executable, "-I", "-S", "-c", {FAMILY!r}], cwd=Path("/"), env={{}}) as process:
        async for line in process.stdout:
            print(line.decode(), end="", flush=True)
asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", worker, cwd=root, stdout=asyncio.subprocess.PIPE
    )
    family = await pids(process.stdout)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert gone([*family, *children])


def test_in_an_event_loop_of_another_thread(tmp_path: Path) -> None:
    """That is where a worker runs its agents."""
    results = []
    thread = threading.Thread(
        target=lambda: results.append(asyncio.run(run_guarded(python("print('hello')"), cwd=tmp_path, env=ENV)).stdout)
    )
    thread.start()
    thread.join(timeout=30)
    assert results == [b"hello\n"]


async def test_limits_hold_for_the_command(tmp_path: Path) -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE))"
    done = await run_guarded(python(code), cwd=tmp_path, env=ENV, rlimits={"RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0})
    assert done.stdout == b"(64, 64) (0, 0)\n"


KILLS_ITS_GUARDIAN = """
import os, signal, subprocess, sys
other = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"], start_new_session=%s)
print(os.getpid(), flush=True)
print(other.pid, flush=True)
os.kill(os.getppid(), signal.SIGKILL)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a pipe")
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_command_that_kills_its_guardian_is_ended(tmp_path: Path, elsewhere: bool) -> None:
    """With all that it has started and that still holds its output, in whatever session that is."""
    async with asyncio.timeout(30):
        async with guarded(python(KILLS_ITS_GUARDIAN % elsewhere), cwd=tmp_path, env=ENV) as process:
            family = await pids(process.stdout, 2)
        assert gone(family)
        done = await run_guarded(
            python(KILLS_ITS_GUARDIAN % elsewhere), cwd=tmp_path, env=ENV, timeout=timedelta(seconds=1)
        )
    assert done.returncode == -signal.SIGKILL
    assert gone([process_of(int(pid)) for pid in done.stdout.split()])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a pipe")
async def test_a_command_that_stops_its_guardian_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GUARDIAN_SECONDS", 1.0)
    code = (KILLS_ITS_GUARDIAN % True).replace("SIGKILL", "SIGSTOP")
    async with asyncio.timeout(30):
        done = await run_guarded(
            python(code), cwd=tmp_path, env=ENV, timeout=timedelta(seconds=1), grace=timedelta(seconds=0)
        )
    assert done.timed_out and done.returncode == -signal.SIGKILL
    assert gone([process_of(int(pid)) for pid in done.stdout.split()])
