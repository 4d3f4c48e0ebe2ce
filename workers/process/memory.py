"""A bound on the memory of a worker process. Agents share it, so nothing else could say stop to one that fills it."""

import threading
import time
from collections.abc import Callable

import psutil

LOOK_EVERY_SECONDS = 0.05  # a look costs 20 µs; at a few GB/s a process grows by some 100 MB in between


def watch_memory(limit_bytes: int, on_exceeded: Callable[[], None]) -> None:
    """Calls it once, from a thread of its own, when this process's resident memory is above the limit."""

    def watch() -> None:
        process = psutil.Process()
        while process.memory_info().rss <= limit_bytes:
            time.sleep(LOOK_EVERY_SECONDS)
        on_exceeded()

    threading.Thread(target=watch, name="memory", daemon=True).start()
