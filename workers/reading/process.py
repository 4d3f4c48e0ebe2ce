"""The worker's side: asks a process of its own to read a project, so that no content holds up the worker."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pathspec

from app.config import MIB
from app.errors import ToolFailed
from workers.children.guarded import Tail, feed, guarded

CHILD = Path(__file__).with_name("child.py")
PLACES = tuple(dict.fromkeys((str(CHILD.parents[2]), str(Path(pathspec.__file__).parents[1]))))

Verb = Literal["listing", "survey", "planning", "report"]
Progress = Callable[[int, int], Awaitable[None]]

TIME_LIMIT = timedelta(minutes=10)
CPU_SECONDS = 300
MEMORY_BYTES = 1024 * MIB
MAX_ANSWER_BYTES = 256 * MIB
STDERR_BYTES = 2000
LIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_CPU": CPU_SECONDS,
    "RLIMIT_AS": MEMORY_BYTES,
    "RLIMIT_FSIZE": 0,  # it only reads
}


async def ask(
    verb: Verb, request: Mapping[str, Any], *, more: bytes = b"", on_progress: Progress | None = None
) -> list[Any]:
    """The parts of the answer. Raises ToolFailed, which says why, when there is none."""
    command = [sys.executable, "-I", "-S", str(CHILD), verb, *PLACES]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONUTF8": "1"}
    errors = Tail(STDERR_BYTES)
    parts: list[Any] = []
    async with guarded(command, cwd=Path("/"), env=environment, stdin=True, rlimits=LIMITS) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        beside = [
            asyncio.create_task(errors.take(process.stderr)),
            asyncio.create_task(feed(process.stdin, json.dumps(request).encode() + b"\n" + more)),
        ]
        try:
            async with asyncio.timeout(TIME_LIMIT.total_seconds()) as limit:
                await _hear(process.stdout, parts, on_progress)
                await asyncio.gather(*beside)
        except TimeoutError:
            if limit.expired():
                raise ToolFailed(f"reading the project took longer than {TIME_LIMIT}") from None
            raise
        finally:
            for task in beside:
                task.cancel()
    if process.returncode != 0:
        raise ToolFailed(_why(process.returncode, errors.bytes().decode(errors="replace")))
    return parts


async def _hear(lines: asyncio.StreamReader, parts: list[Any], on_progress: Progress | None) -> None:
    size = 0
    while line := await lines.readline():
        size += len(line)
        if size > MAX_ANSWER_BYTES:
            raise ToolFailed(f"reading the project gave more than {MAX_ANSWER_BYTES:,} bytes")
        part = json.loads(line)
        if isinstance(part, dict) and "progress" in part:
            if on_progress is not None:
                await on_progress(*part["progress"])
        else:
            parts.append(part)
        await asyncio.sleep(0)  # lines that are there already are read without a wait


def _why(status: int | None, said: str) -> str:
    last = said.strip().splitlines()[-1:]
    if "MemoryError" in said:
        return f"reading the project takes more than {MEMORY_BYTES:,} bytes of memory"
    if status is not None and status < 0:
        return f"reading the project takes more than {CPU_SECONDS} s of computing, or ends its process ({status})"
    return f"the project cannot be read: {''.join(last) or f'the process ended with {status}'}"
