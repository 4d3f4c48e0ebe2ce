"""How long a reader held up what else goes on in its process: other threads, and what waits in its event loop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

EVERY_SECONDS = 0.01
STANDSTILL_SECONDS = 10.0


@dataclass
class Watch:
    longest: float = 0.0

    def take(self, gap: float, computed: float) -> None:
        """A gap in which this process computed nothing was the machine's, which others use too, unless it was very
        long: then something waited."""
        if computed > gap / 2 or gap > STANDSTILL_SECONDS:
            self.longest = max(self.longest, gap)


@asynccontextmanager
async def watched() -> AsyncIterator[Watch]:
    """Others are one more thread, and one more task of the loop."""
    watch, ending = Watch(), threading.Event()
    thread = threading.Thread(target=_watch_interpreter, args=(watch, ending), daemon=True)
    thread.start()
    task = asyncio.create_task(_watch_loop(watch))
    try:
        yield watch
    finally:
        task.cancel()
        ending.set()
        thread.join()


def _watch_interpreter(watch: Watch, ending: threading.Event) -> None:
    before, computed = time.monotonic(), time.process_time()
    while not ending.wait(EVERY_SECONDS):
        now, used = time.monotonic(), time.process_time()
        watch.take(now - before - EVERY_SECONDS, used - computed)
        before, computed = now, used


async def _watch_loop(watch: Watch) -> None:
    before, computed = time.monotonic(), time.process_time()
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        now, used = time.monotonic(), time.process_time()
        watch.take(now - before - EVERY_SECONDS, used - computed)
        before, computed = now, used
