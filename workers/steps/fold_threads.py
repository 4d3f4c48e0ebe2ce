"""Threads in which coroutines run beside the worker's event loop, each on an event loop that its thread keeps.

`asyncio.run` would make and end, for each fold, a loop and the thread of its executor: half of what a fold costs.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 64
"""A router that never returns keeps its thread; the others must not wait for it."""


class FoldThreads:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fold")
        self._own = threading.local()
        self._loops: list[asyncio.AbstractEventLoop] = []

    def submit(self, work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Belongs to the running loop. Cancelling it does not end what runs in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

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
    """Tasks that a router started and left must not go on in somebody else's fold."""
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
