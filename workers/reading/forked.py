"""Looking at many files, of which any one may be what a parser hangs in, dies of or fills the memory with."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

MAX_DEATHS = 20


class Died(str):
    """What an item died of, in the place of its result."""


def each(items: Sequence[Item], look: Callable[[Item], Any], *, seconds: float) -> Iterator[tuple[Item, Any]]:
    """What `look`, which answers what JSON can hold, says to each, or how it died of it.

    It runs in a fork, which ends when one item takes more CPU time than `seconds`: nothing else ends what C code
    does. A further fork then goes on with the next item.
    """
    done = deaths = 0
    while done < len(items):
        if deaths > MAX_DEATHS:
            yield items[done], Died(f"not read after {deaths} others that could not be")
            done += 1
            continue
        child, lines = _fork(items[done:], look, seconds)
        with os.fdopen(lines, "rb") as answers:
            for line in answers:
                if line.endswith(b"\n"):
                    yield items[done], json.loads(line)
                    done += 1
        _, status = os.waitpid(child, 0)
        if done < len(items):
            yield items[done], Died(_what_of(status, seconds))
            done += 1
            deaths += 1


def _fork(items: Sequence[Item], look: Callable[[Item], Any], seconds: float) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as answers:
            for item in items:
                signal.setitimer(signal.ITIMER_PROF, seconds)  # whose signal ends a process that does not wait for it
                answers.write(json.dumps(look(item)).encode() + b"\n")
        os._exit(0)
    finally:
        os._exit(1)  # whatever was raised, the fork must not go on as its parent


def _what_of(status: int, seconds: float) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in {signal.SIGPROF, signal.SIGXCPU}:
        return f"it takes longer than {seconds:g} s to read"
    return "it cannot be read: the parser fails on it"
