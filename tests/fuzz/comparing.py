"""Runs a random graph both ways; what differs is an error."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from traceback import format_exception
from typing import Final

from tests.fuzz.building import built
from tests.fuzz.description import Case
from tests.fuzz.ending import differences
from tests.fuzz.running import driven, plain, rebuilt
from tests.fuzz.schemas import Dataclass, Pydantic
from tests.fuzz.world import World
from tests.graphs.driving import loaded

EXPECTED_ERRORS: Final = {
    "NodeBroke",
    "RouterBroke",
    "InvalidUpdateError",  # two write one channel
    "ValueError",  # two remove one message
    "ParentCommand",  # LangGraph does not find the parent from the second graph that a node calls
}


async def compared(case: Case) -> Counter[str]:
    """The features that occurred. Raises AssertionError with all that differs, and the case as Python."""
    world = World()
    workflow = loaded(built(case.graph, world), version="1", types=(Dataclass, Pydantic))
    with own_threads():
        ours = await driven(workflow, world, case.order)
    shape = {name: world.features[name] for name in ("parallel nodes", "loop")}
    world.clear()
    with own_threads():
        theirs = await plain(workflow, world, ours.script)
    different = differences(ours.ending, theirs)
    with own_threads():
        again = None if ours.ending.errors else await rebuilt(workflow, ours)
    if again not in (None, ours.states):
        different.append("a fold of the same log gives another state")
    if unexpected := theirs.errors - EXPECTED_ERRORS:
        different.append(f"no graph should raise {unexpected}:")
        different += ["".join(format_exception(error)) for error in theirs.raised]
    assert not different, "\n".join([*different, f"case = {case!r}"])
    features = world.features + Counter(shape)
    for error in theirs.errors:
        features[error] += 1
    return features


@contextmanager
def own_threads() -> Iterator[None]:
    """Ends with the last sync node, also with those beside one that raised: they must not run on into the next run."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        yield
