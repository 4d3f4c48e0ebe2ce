"""Threads in which folds run beside the worker's event loop, each on an event loop that its thread keeps.

A fold is pure computation; on the worker's event loop a large one would hold up every append of the process.
`asyncio.run` would make and end, for each fold, a loop and the thread of its executor: half of what a fold costs.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from typing import Any, TypeVar

from app.errors import FoldTimeout

T = TypeVar("T")

THREADS = 64
"""A router that never returns keeps its thread; the others must not wait for it."""
FOLDS_AT_ONCE = 2


class FoldThreads:
    def __init__(self, time_limit: timedelta) -> None:
        self._time_limit = time_limit
        self._turns = asyncio.Semaphore(FOLDS_AT_ONCE)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fold")
        self._own = threading.local()
        self._loops: list[asyncio.AbstractEventLoop] = []

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises FoldTimeout; what runs in the thread then goes on there."""
        async with self._turns:  # the limit begins with the fold, not with the wait for its turn
            done = asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)
            try:
                return await asyncio.wait_for(done, self._time_limit.total_seconds())
            except TimeoutError:
                raise FoldTimeout from None

    def close(self) -> None:
        """Waits for nothing: what still runs keeps its thread and its loop."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for loop in self._loops:
            if not loop.is_running():
                loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not hasattr(self._own, "loop"):
            self._own.loop = asyncio.new_event_loop()
            self._loops.append(self._own.loop)
        loop: asyncio.AbstractEventLoop = self._own.loop
        # A context of its own: what one fold sets, the next one in this thread must not see.
        return loop.run_until_complete(loop.create_task(_and_nothing_after(work), context=copy_context()))


async def _and_nothing_after(work: Coroutine[Any, Any, T]) -> T:
    """Tasks that a router started and left must not go on in another fold."""
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
