"""Where in a value stands what cannot be stored: `messages[3].artifact`."""

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, time
from typing import Any

from app.errors import UnstorableValue
from workers.graph.bases import attributes

_MAX_STEPS = 20


def located(refusal: UnstorableValue, value: Any, write: Callable[[Any], object]) -> UnstorableValue:
    """The refusal with its place in front, up to so many steps; `write` refuses all that holds it."""
    place = ""
    for _ in range(_MAX_STEPS):
        for step, part in _parts(value):
            if _refused(part, write) == str(refusal):
                place, value = place + step, part
                break
        else:
            break
    return UnstorableValue(f"at {place.removeprefix('.')}: {refusal}") if place else refusal


def _refused(part: Any, write: Callable[[Any], object]) -> str | None:
    try:
        write(part)
    except UnstorableValue as refusal:
        return str(refusal)
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """By the value's type alone: it may be anything, and what it says of itself may raise."""
    kind = type(value)
    if issubclass(kind, dict):
        for key, item in dict.items(value):
            yield f".{key}" if type(key) is str and key.isidentifier() else f"[{_text(key)}]", item
    elif issubclass(kind, list | tuple | deque):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif issubclass(kind, datetime | time):
        yield ".tzinfo", value.tzinfo
    elif issubclass(kind, BaseException):
        yield ".args", value.args
    if not issubclass(kind, type):
        for name, item in attributes(value).items():
            yield f".{name}", item


def _text(key: Any) -> str:
    return repr(key)[:50] if type(key) in (str, int, float, bool, bytes, type(None)) else type(key).__name__
