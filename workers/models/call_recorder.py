"""What an attempt's models say, and the calls that it made, on their way into the log.

Calls begin, speak and end in any thread. One task on the worker's loop writes: what a call said before the call, and
calls in the order in which they ended. A call that speaks faster than the log takes it waits for nothing: its words
are gathered, and there are never more of them than the answer has.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol
from uuid import UUID

from app.events.encoding import printable
from app.progress import CurrentStep, ModelCall, Report, ToolCall
from app.redaction import Redactor
from workers.models.prices import list_price
from workers.models.thinking import EVERY_SECONDS, MAX_CHARACTERS

AHEAD = 100
"""Calls that wait for the log before a thread that makes more has to wait, too."""
AHEAD_SECONDS = 10.0
"""It waits no longer: perhaps the loop waits for it."""
UNFINISHED = "cancelled, or not at its end when the step was"


class Words:
    """What a call said, in any thread, and has not been written yet; `details` tell whose words they are."""

    def __init__(self, details: Mapping[str, str]) -> None:
        self.details = details
        self._said: deque[tuple[str, str]] = deque()
        self._waiting: list[tuple[str, str]] = []

    def say(self, kind: str, text: str) -> None:
        self._said.append((kind, text))

    def take(self, settled: Callable[[str], int], *, are_all: bool) -> list[tuple[str, str]]:
        """What can be shown by now, by kind, in order; the loop alone takes."""
        self._gather()
        taken, self._waiting = self._waiting, []
        if taken and not are_all:
            kind, text = taken.pop()
            end = settled(text)
            taken.append((kind, text[:end]))
            self._waiting = [(kind, text[end:])]
        return [(kind, text) for kind, text in taken if text]

    def _gather(self) -> None:
        while self._said:
            kind, text = self._said.popleft()
            if self._waiting and self._waiting[-1][0] == kind:
                text = self._waiting.pop()[1] + text
            self._waiting.append((kind, text))


class OpenCall(Protocol):
    """A call that has begun."""

    @property
    def words(self) -> Words | None:
        """None: it says nothing while it goes on."""
        ...

    def unfinished(self, error: str) -> ModelCall | ToolCall:
        """The call as far as it is known."""
        ...


class _Ended(NamedTuple):
    words: Words | None
    call: ModelCall | ToolCall
    is_written: asyncio.Event


@dataclass
class CallRecorder:
    """Belongs to the event loop in which it is made, as does `step.reporter`."""

    step: CurrentStep
    redactor: Redactor
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _thread: int = field(default_factory=threading.get_ident)
    _open: dict[UUID, OpenCall] = field(default_factory=dict)
    _ended: deque[_Ended] = field(default_factory=deque)
    _has_news: asyncio.Event = field(default_factory=asyncio.Event)
    _has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _is_rung: bool = False
    _is_over: bool = False
    _task: "asyncio.Task[None] | None" = None

    def begin(self, run_id: UUID, call: OpenCall) -> None:
        if not self._is_over:
            self._wait_for_room()
            self._open[run_id] = call

    def _wait_for_room(self) -> None:
        if len(self._ended) < AHEAD or threading.get_ident() == self._thread:
            return
        waiting = asyncio.run_coroutine_threadsafe(self._newest_written(), self.loop)
        with suppress(TimeoutError):
            waiting.result(AHEAD_SECONDS)

    async def _newest_written(self) -> None:
        if self._ended:
            await self._ended[-1].is_written.wait()

    def begun(self, run_id: UUID) -> OpenCall | None:
        """None: this call is not recorded, or has ended."""
        return self._open.get(run_id)

    def say(self, run_id: UUID, kind: str, text: str) -> None:
        call = self._open.get(run_id)
        if call is None or call.words is None or not text:
            return
        call.words.say(kind, text)
        if not self._is_rung:  # one ring for all that is said until the task looks
            self._is_rung = True
            self.loop.call_soon_threadsafe(self._wake)

    def forget(self, run_id: UUID) -> None:
        """It has not ended: it will be made again."""
        self._open.pop(run_id, None)

    async def end(self, run_id: UUID, call: ModelCall | ToolCall) -> None:
        """On the worker's loop it returns when the call is in the log; elsewhere at once, as the loop may wait there.

        What the log does not take is raised where the attempt ends, not in the middle of an agent.
        """
        written = self._end(run_id, call)
        if written is not None and asyncio.get_running_loop() is self.loop:
            await written.wait()

    def _end(self, run_id: UUID, call: ModelCall | ToolCall) -> asyncio.Event | None:
        begun = self._open.pop(run_id, None)
        if begun is None or (self._task is not None and self._task.done()):
            return None
        ended = _Ended(begun.words, call, asyncio.Event())
        self._ended.append(ended)
        self.loop.call_soon_threadsafe(self._ring)
        return ended.is_written

    def _ring(self) -> None:
        self._has_ended.set()
        self._wake()

    def _wake(self) -> None:
        """Most nodes call no model: the first call starts the task."""
        self._has_news.set()
        if self._task is None and (self._ended or not self._is_over):
            self._task = asyncio.create_task(self._write_on(), name="calls of models and tools")

    async def close(self) -> None:
        """Writes what waits, and calls that have not ended as such; then nothing more. Raises what the log raised."""
        for run_id, begun in list(self._open.items()):
            self._end(run_id, begun.unfinished(UNFINISHED))
        self._is_over = True
        self._ring()
        if self._task is not None:
            await self._task

    def abandon(self) -> None:
        """The attempt was cancelled: what is on its way comes into the log if its lease still stands."""
        self._is_over = True
        self._open.clear()
        self._let_go()
        if self._task is not None and not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # it is looked at, so asyncio does not complain

    async def _write_on(self) -> None:
        try:
            while not self._is_over or self._ended:
                await self._has_news.wait()
                self._has_news.clear()
                self._has_ended.clear()
                self._is_rung = False
                await self._write()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._has_ended.wait(), 0 if self._is_over else EVERY_SECONDS)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """No call may wait for a task that does not write any more."""
        while self._ended:
            self._ended.popleft().is_written.set()

    async def _write(self) -> None:
        while self._ended:
            words, call, is_written = self._ended[0]
            await self._say(words, are_all=True)
            await self._record(call)
            self._ended.popleft()
            is_written.set()
        for begun in list(self._open.values()):
            await self._say(begun.words, are_all=False)

    async def _say(self, words: Words | None, *, are_all: bool) -> None:
        if words is None:
            return
        for kind, text in words.take(self.redactor.settled, are_all=are_all):
            shown = printable(self.redactor.text(text))
            for start in range(0, len(shown), MAX_CHARACTERS):
                message = f"💭 {shown[start : start + MAX_CHARACTERS]}"
                report = Report(self.step.agent, message, 0.0, None, "think", {"kind": kind, **words.details})
                await self.step.reporter.report(self.step, report)

    async def _record(self, call: ModelCall | ToolCall) -> None:
        match call:
            case ToolCall():
                await self.step.reporter.record_tool_call(self.step, call)
            case ModelCall():
                if call.cost is None and call.usage:  # in a thread, as the first price reads large tables
                    price = await asyncio.to_thread(list_price, call.provider, call.model, call.usage)
                    call = replace(call, cost=price)
                await self.step.reporter.record_model_call(self.step, call)


def since(started: float) -> float:
    """Milliseconds since a moment of the monotonic clock."""
    return round((time.monotonic() - started) * 1000, 1)
