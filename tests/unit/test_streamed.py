"""What a node streams goes into the log in its order, without waiting for itself, and never silently not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from app.errors import LeaseLost
from app.events import encoding
from app.events.encoding import Item
from app.events.secrecy import NOTHING_KNOWN
from app.progress import CurrentStep, SessionId, running_step
from workers.steps.surroundings import STREAMED_AHEAD, AttemptReporter

BACKENDS = cast("Any", SimpleNamespace(item=encoding.item, secrecy=NOTHING_KNOWN))
SESSION = SessionId(UUID(int=1))


@dataclass
class FakeLog:
    """A group commit that takes what waits when `commit` is called."""

    written: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[tuple[Item, asyncio.Future[Any]]] = field(default_factory=list)
    most_waiting: int = 0

    async def append(self, item: Item) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((item, done))
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        return await done

    def commit(self, error: Exception | None = None) -> None:
        taken, self.waiting = self.waiting, []
        for item, done in taken:
            if done.cancelled():
                continue
            if error is not None:
                done.set_exception(error)
                continue
            self.written.append(orjson.loads(item.data))
            done.set_result(SimpleNamespace(offset=len(self.written)))

    async def commit_forever(self) -> None:
        """Each commit takes some turns of the loop."""
        while True:
            self.commit()
            for _ in range(20):
                await asyncio.sleep(0)


@asynccontextmanager
async def reporting() -> AsyncIterator[tuple[AttemptReporter, FakeLog]]:
    log, claim = FakeLog(), cast("Any", SimpleNamespace(lease=UUID(int=2)))
    reporter = AttemptReporter(claim, BACKENDS, cast("Any", log), asyncio.get_running_loop())
    with running_step(CurrentStep(SESSION, 1, 1, "emit", reporter)):
        yield reporter, log


async def test_in_order_and_together() -> None:
    count = 3 * STREAMED_AHEAD
    async with reporting() as (reporter, log):
        committing = asyncio.create_task(log.commit_forever())
        async with reporter.streaming():
            for number in range(count):
                await reporter.stream({"number": number})
        committing.cancel()
    assert [event["details"]["number"] for event in log.written] == list(range(count))
    assert 1 < log.most_waiting <= STREAMED_AHEAD


async def test_what_was_streamed_is_written_before_a_failure_goes_on() -> None:
    async with reporting() as (reporter, log):
        committing = asyncio.create_task(log.commit_forever())
        with pytest.raises(ZeroDivisionError):
            async with reporter.streaming():
                await reporter.stream("one")
                await reporter.stream("two")
                raise ZeroDivisionError
        committing.cancel()
    assert [event["msg"] for event in log.written] == ["one", "two"]


async def test_what_the_log_does_not_take_ends_the_attempt() -> None:
    async with reporting() as (reporter, log):
        with pytest.raises(LeaseLost):
            async with reporter.streaming():
                await reporter.stream("one")
                while not log.waiting:
                    await asyncio.sleep(0)
                log.commit(LeaseLost())
                for _ in range(10):
                    await asyncio.sleep(0)
                await reporter.stream("two")
                raise AssertionError("the second knows of the first")


async def test_a_node_that_is_cancelled_does_not_wait_for_the_log() -> None:
    async with reporting() as (reporter, log):
        with pytest.raises(asyncio.CancelledError):
            async with reporter.streaming():
                await reporter.stream("one")
                while not log.waiting:
                    await asyncio.sleep(0)
                raise asyncio.CancelledError
        log.commit()
        await reporter.drain()
    assert [event["msg"] for event in log.written] == ["one"]


async def test_a_large_one_is_overtaken_by_none() -> None:
    async with reporting() as (reporter, log):
        committing = asyncio.create_task(log.commit_forever())
        async with reporter.streaming():
            for number in range(6):
                await reporter.stream({"number": number, "text": "a word, " * (20_000 if number % 2 else 1)})
        committing.cancel()
    assert [event["details"]["number"] for event in log.written] == list(range(6))
