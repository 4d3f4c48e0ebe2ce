"""The threads of folds: loops are kept, what a fold leaves behind is not."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from contextvars import ContextVar
from datetime import timedelta

import pytest

from workers.steps.fold_threads import FoldThreads

mark: ContextVar[str] = ContextVar("mark", default="clean")


@pytest.fixture
def threads() -> Iterator[FoldThreads]:
    with closing(FoldThreads(timedelta(seconds=30))) as made:
        yield made


async def place_and_mark() -> tuple[int, asyncio.AbstractEventLoop, str]:
    found = threading.get_ident(), asyncio.get_running_loop(), mark.get()
    mark.set("left behind")
    return found


async def test_a_thread_keeps_its_loop_but_not_the_context(threads: FoldThreads) -> None:
    found = [await threads.run(place_and_mark()) for _ in range(10)]
    assert len({(thread, loop) for thread, loop, _ in found}) == len({thread for thread, _, _ in found}) < 10
    assert {left for _, _, left in found} == {"clean"}


async def test_a_task_that_was_left_ends_with_its_fold(threads: FoldThreads) -> None:
    async def leaves_a_task() -> "asyncio.Task[bool]":
        return asyncio.create_task(asyncio.Event().wait())

    left = await threads.run(leaves_a_task())
    assert left.cancelled()


async def test_what_a_fold_raises_comes_out(threads: FoldThreads) -> None:
    async def fails() -> None:
        raise ValueError("from a router")

    with pytest.raises(ValueError, match="from a router"):
        await threads.run(fails())
    assert (await threads.run(place_and_mark()))[2] == "clean"
