"""Where in a value stands what cannot be stored: `messages[3].artifact`."""

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, time
from typing import Any

from app.errors import UnstorableValue
from workers.graph.bases import attributes

_MAX_STEPS = 20


def located(refusal: UnstorableValue, value: Any, write: Callable[[Any], object]) -> UnstorableValue:
    """The innermost refusal with its place in front, up to so many steps; `write` raises for all that holds it."""
    place = ""
    for _ in range(_MAX_STEPS):
        for step, part in _parts(value):
            try:
                write(part)
            except UnstorableValue as inner:
                place, value, refusal = place + step, part, inner
                break
        else:
            break
    return UnstorableValue(f"at {place.removeprefix('.')}: {refusal}") if place else refusal


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            for key, item in dict.items(value):
                yield f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r:.50}]", item
        case list() | tuple() | deque():
            for index, item in enumerate(value):
                yield f"[{index}]", item
        case set() | frozenset() | str() | bytes():
            return
        case datetime() | time():
            yield ".tzinfo", value.tzinfo
        case BaseException():
            yield ".args", value.args
    for name, item in attributes(value).items():
        yield f".{name}", item
