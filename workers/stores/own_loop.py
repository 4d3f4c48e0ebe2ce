"""The worker's event loop, as it is reached from wherever a node may call a store or a cache."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.database import DriverPool
from app.errors import Unavailable

T = TypeVar("T")
Work = Callable[[DriverPool], Coroutine[Any, Any, T]]

WAIT_SECONDS = 300.0
"""A thread waits no longer: the loop may have ended. Each statement has a shorter limit; embeddings may take longer."""


@dataclass(frozen=True)
class OwnLoop:
    """Make one on the event loop to which the connections of `pool` belong."""

    pool: DriverPool
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def run(self, work: Work[T]) -> T:
        """From this loop, or from another one that a node made in its thread."""
        if asyncio.get_running_loop() is self._loop:
            return await work(self.pool)
        return await asyncio.wrap_future(self._submit(work))

    def call(self, work: Work[T]) -> T:
        """From a thread; raises Unavailable when the loop does not do it in time."""
        if _running_loop() is self._loop:
            return self._aside(work)
        future = self._submit(work)
        if not wait([future], WAIT_SECONDS).done:
            future.cancel()
            raise Unavailable(f"the worker's event loop did not answer within {WAIT_SECONDS:g} s")
        return future.result()

    def _submit(self, work: Work[T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work(self.pool), self._loop)

    def _aside(self, work: Work[T]) -> T:
        """From an `async` node that did not await: the loop stands still meanwhile, so another one does it."""

        async def with_a_pool_of_its_own() -> T:
            pool = self.pool.another()
            try:
                return await work(pool)
            finally:
                await pool.close()

        with ThreadPoolExecutor(1, thread_name_prefix="store") as thread:
            return thread.submit(copy_context().run, asyncio.run, with_a_pool_of_its_own()).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
