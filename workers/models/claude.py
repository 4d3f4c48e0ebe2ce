"""The Claude CLI at work in the session's worktree, and its stream of lines as events.

A process of our own and not claude-agent-sdk: the SDK starts the CLI itself, in our process group, with our whole
environment beneath its own, and ends it with a signal to that one process. Here the guardian ends everything that
came from it (also when this worker is killed), the environment is made from nothing, and silence has a limit.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from app.errors import ModelFaltered, ModelRefused
from app.progress import report_progress
from workers.children.guarded import LINE_LIMIT, Tail, feed, guarded
from workers.children.scratch import scratch_directory
from workers.models.claude_command import BRIDGE, BRIDGE_TOOLS, command_line, environment, write_bridge
from workers.models.claude_lines import Began, Denied, Result, Retried, Said, Thought, UsedTool, read_line
from workers.models.recording import Recording, recorded_call
from workers.settings import current_settings

logger = structlog.get_logger(__name__)

STDERR_BYTES = 64 * 1024
PASSING = frozenset({408, 409, 425, 429})
"""And all from 500 up: the provider's trouble, not ours."""
STOPPED = {"error_max_turns": "its limit on turns", "error_max_budget_usd": "what was left of the budget"}
"""Ends at which the work so far counts."""


@dataclass(slots=True)
class Work:
    """What the CLI did, besides what it left in the worktree. `stopped`: what it ran into before it was done."""

    text: str = ""
    turns: int = 0
    cost: float | None = None
    duration_ms: float = 0
    denied: list[str] = field(default_factory=list)
    tools: int = 0
    stopped: str | None = None


async def work(prompt: str, *, instructions: str, worktree: Path) -> Work:
    """Lets the CLI work until it says that it is done. Raises ModelFaltered and ModelRefused."""
    settings = current_settings()
    model = settings.claude_model or "default"
    request = {
        "prompt": prompt,
        "instructions": instructions,
        "tools": list(settings.claude_tools),
        "permission_mode": settings.claude_permission_mode,
    }
    async with recorded_call("claude", model, request) as recording, scratch_directory() as home:
        bridge = await asyncio.to_thread(write_bridge, home)
        command = command_line(
            settings, instructions=instructions, bridge=bridge, budget_left_usd=recording.budget_left_usd
        )
        following = _Following(recording)
        async with guarded(command, cwd=worktree, env=environment(settings, home), stdin=True) as process:
            errors = Tail(STDERR_BYTES)
            async with _in_background(process, errors, prompt):
                await following.all_of(process, settings.claude_silence)
        return following.finished(process.returncode, errors.bytes().decode(errors="replace"))


@asynccontextmanager
async def _in_background(process: asyncio.subprocess.Process, errors: Tail, prompt: str) -> AsyncIterator[None]:
    """Feeds the prompt and reads what goes to standard error; after the block there is nothing left to read."""
    assert process.stdin is not None and process.stderr is not None
    tasks = [
        asyncio.create_task(feed(process.stdin, prompt.encode(errors="replace"))),
        asyncio.create_task(errors.take(process.stderr)),
    ]
    try:
        yield
        await asyncio.gather(*tasks)
        await process.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a stream has one reader at a time


class _Following:
    """Reads the CLI's lines and says what they say."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._lines = 0
        self._result: Result | None = None
        self._work = Work()

    async def all_of(self, process: asyncio.subprocess.Process, silence: timedelta) -> None:
        assert process.stdout is not None
        while line := await self._next_line(process.stdout, silence):
            self._lines += 1
            for said in read_line(line):
                await self._take(said)

    async def _next_line(self, stdout: asyncio.StreamReader, silence: timedelta) -> bytes:
        """Empty at the end."""
        try:
            async with asyncio.timeout(silence.total_seconds()):
                return await stdout.readuntil(b"\n")
        except TimeoutError:
            raise ModelFaltered(f"the Claude CLI was silent for {silence}, and was ended") from None
        except asyncio.LimitOverrunError:
            raise ModelRefused(f"the Claude CLI wrote a line of more than {LINE_LIMIT:,} bytes") from None
        except asyncio.IncompleteReadError as end:
            if end.partial:
                raise ModelFaltered(f"the Claude CLI ended in the middle of a line, after {self._lines}") from None
            return b""

    async def _take(self, said: Said) -> None:
        match said:
            case Began(model, cli_session, servers):
                self._recording.model = model or self._recording.model
                self._recording.trace["cli_session"] = cli_session
                if servers.get(BRIDGE, "connected") not in {"connected", "pending"}:
                    logger.warning("the CLI has no bridge to report over", status=servers[BRIDGE])
            case Thought(text, kind):
                await report_progress(self._progress, f"💭 {text}", phase="think", details={"kind": kind})
            case UsedTool(tool) if tool in BRIDGE_TOOLS:
                pass  # it says for itself what it has to say
            case UsedTool(tool, target):
                self._work.tools += 1
                named = f"🔧 {tool} {target}".rstrip()
                await report_progress(self._progress, named, details={"tool": tool, "target": target})
            case Denied(tool, message):
                self._work.denied.append(tool)
                details = {"tool": tool, "denied": True}
                await report_progress(self._progress, f"⛔ {tool} was denied: {message}", details=details)
            case Retried(details):
                await report_progress(self._progress, "🔁 The provider failed; the CLI tries again", details=details)
            case Result():
                self._result = said

    @property
    def _progress(self) -> float:
        """It is not known how much there is to do; every tool used is some of it."""
        return round(0.9 - 0.6 * 0.9**self._work.tools, 3)

    def finished(self, returncode: int | None, stderr: str) -> Work:
        result = self._result
        if result is None:
            said = " ".join(stderr.split())[-500:] or "nothing"
            how = f"the Claude CLI ended with {returncode} and without a result, after {self._lines} line(s)"
            # It refuses at once, and would again, what it was started with; what breaks off later may pass.
            if self._lines == 0 and returncode is not None and returncode > 0:
                raise ModelRefused(f"{how}; it said: {said}")
            raise ModelFaltered(f"{how}; it said: {said}")
        self._note(result)
        if result.is_error and result.subtype not in STOPPED:
            raise _failure(result)
        work = self._work
        work.text, work.turns, work.cost, work.duration_ms = result.text, result.turns, result.cost, result.duration_ms
        work.stopped = STOPPED.get(result.subtype)
        return work

    def _note(self, result: Result) -> None:
        self._recording.response = {"result": result.text, "subtype": result.subtype, "turns": result.turns}
        self._recording.usage, self._recording.cost = result.usage, result.cost


def _failure(result: Result) -> Exception:
    status = result.status
    said = f"the Claude CLI failed ({result.terminal_reason or result.subtype}, status {status}): {result.text[:500]}"
    passes = status is None or status in PASSING or status >= 500
    return ModelFaltered(said) if passes else ModelRefused(said)
