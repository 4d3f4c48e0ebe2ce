"""Starting processes that end with the attempt that started them, whatever ends the attempt."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from app.config import MIB
from workers.children.orphans import end_holders_of

GUARDIAN = Path(__file__).with_name("guardian.py")
GRACE = timedelta(seconds=2)
LINE_LIMIT = 16 * MIB
CHUNK = 64 * 1024
DRAIN_SECONDS = 0.01
LOOK_SECONDS = 0.5
GUARDIAN_SECONDS = 15.0
"""After its grace a guardian gives up on what survives SIGKILL; see guardian.py."""

logger = structlog.get_logger(__name__)

_ending: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended; `stdout` and `stderr` are the last bytes, up to the limit, that it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


@asynccontextmanager
async def guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bool = False,
    rlimits: Mapping[str, int] | None = None,
    grace: timedelta = GRACE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The running command, with its output as streams.

    When the block is left, however that happens, and also when this process is killed, the command and
    everything that it started are ended.
    """
    reading, writing = os.pipe()
    limits = [f"{name}={value}" for name, value in (rlimits or {}).items()]
    guardian = [sys.executable, "-I", "-S", str(GUARDIAN), str(reading), str(grace.total_seconds())]

    async def spawn() -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *guardian,
                *limits,
                "--",
                *command,
                cwd=cwd,
                env=env,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(reading,),
                start_new_session=True,  # a Ctrl-C in our terminal is for us to pass on
                umask=0o022,  # as a person's shell has it: ours is stricter, and a project's tests may look at modes
                limit=LINE_LIMIT,
            )
        finally:
            os.close(reading)

    # Shielded: asyncio would kill a guardian that it is just starting, and leave the command alone.
    spawning = asyncio.ensure_future(spawn())
    try:
        process = await asyncio.shield(spawning)
    except BaseException:
        spawning.add_done_callback(lambda _: os.close(writing))
        raise
    try:
        yield process
    finally:
        os.close(writing)
        ending = asyncio.create_task(_wait_for_end(process, grace))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)
        await asyncio.shield(ending)


async def _wait_for_end(process: asyncio.subprocess.Process, grace: timedelta) -> None:
    """Reads what is left, for asyncio notices the end of a pipe only by reading.

    A guardian ends all that came from its command, unless that has killed it: then this does, as far as it finds it.
    """
    if process.stdin is not None:
        process.stdin.close()
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    pipes = {pipe for number in (1, 2) if (pipe := _pipe_of(process, number)) is not None}
    ended = asyncio.gather(process.wait(), *(_drain(stream) for stream in streams))
    await _look_after(ended, process, pipes, grace.total_seconds() + GUARDIAN_SECONDS)
    if not ended.done():
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # a guardian that its command has stopped does nothing more
        await _look_after(ended, process, pipes, GUARDIAN_SECONDS)
    if not ended.done():
        logger.warning("a command that outlived its guardian is left alone", pid=process.pid)
        _transport_of(process).close()
        ended.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ended


async def _look_after(
    ended: asyncio.Future[Any], process: asyncio.subprocess.Process, pipes: set[int], seconds: float
) -> None:
    """Ends what outlives the guardian, for at most so many seconds."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while not ended.done() and clock() < until:
        await asyncio.wait({ended}, timeout=LOOK_SECONDS)
        if not ended.done() and process.returncode is not None:
            await asyncio.to_thread(end_holders_of, pipes)


def _transport_of(process: asyncio.subprocess.Process) -> asyncio.SubprocessTransport:
    return process._transport  # type: ignore[attr-defined,no-any-return]  # asyncio hands it out nowhere


def _pipe_of(process: asyncio.subprocess.Process, number: int) -> int | None:
    """The inode of a pipe that is still open."""
    transport = _transport_of(process).get_pipe_transport(number)
    if transport is None or transport.is_closing():
        return None
    return os.fstat(transport.get_extra_info("pipe").fileno()).st_ino


async def _drain(stream: asyncio.StreamReader) -> None:
    is_open = True
    while is_open:
        try:
            is_open = bool(await stream.read(CHUNK))
        except RuntimeError:  # another reader waits, which the agent has started and left: it takes what comes
            await asyncio.sleep(DRAIN_SECONDS)


async def run_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: timedelta | None = None,
    stdin: bytes | None = None,
    stdout_limit: int = 256 * MIB,
    stderr_limit: int = MIB,
    rlimits: Mapping[str, int] | None = None,
    grace: timedelta = GRACE,
) -> Completed:
    """Runs the command to its end, or to that of `timeout`. A command that does not exist ends with 127."""
    output, errors = Tail(stdout_limit), Tail(stderr_limit)
    timed_out = False
    async with guarded(command, cwd=cwd, env=env, stdin=stdin is not None, rlimits=rlimits, grace=grace) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with (
                asyncio.timeout(timeout.total_seconds() if timeout else None),
                asyncio.TaskGroup() as group,
            ):
                group.create_task(output.take(process.stdout))
                group.create_task(errors.take(process.stderr))
                if process.stdin is not None:
                    group.create_task(feed(process.stdin, stdin or b""))
        except TimeoutError:
            timed_out = True
    returncode = -signal.SIGKILL if process.returncode is None else process.returncode
    truncated = output.truncated or errors.truncated
    return Completed(returncode, output.bytes(), errors.bytes(), timed_out, truncated)


async def feed(stream: asyncio.StreamWriter, content: bytes) -> None:
    """Writes it all and closes; a command that does not want it is none to complain to."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(content)
        await stream.drain()
    stream.close()


class Tail:
    """The last `limit` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        self.truncated = False

    async def take(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(CHUNK):
            self._content += chunk
            if len(self._content) > self._limit + MIB:  # not at every chunk: it moves all bytes
                self._cut()

    def bytes(self) -> bytes:
        if len(self._content) > self._limit:
            self._cut()
        return bytes(self._content)

    def _cut(self) -> None:
        del self._content[: len(self._content) - self._limit]
        self.truncated = True
