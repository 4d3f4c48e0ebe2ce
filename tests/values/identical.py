"""Says whether two values are equal and of exactly the same types, all the way down."""

from collections import deque
from datetime import datetime, time
from typing import Any

# Their instances keep what was computed of them.
_CACHING = frozenset({"ipaddress", "pathlib"})


def identical(a: Any, b: Any) -> bool:
    """NaN is identical to NaN, and 0.0 is not to -0.0; exceptions are compared by what they hold."""
    if a is b:
        return True
    if type(a) is not type(b) or not _same_content(a, b):
        return False
    mine, other = _state(a), _state(b)
    return mine is None or identical(mine, other)


def _same_content(a: Any, b: Any) -> bool:
    match a:
        case float() | complex():
            return repr(a) == repr(b)
        case dict():
            return identical([*dict.items(a)], [*dict.items(b)]) and _factory(a) is _factory(b)
        case list() | tuple() | deque():
            return len(a) == len(b) and all(map(identical, a, b)) and _length(a) == _length(b)
        case set() | frozenset():
            return len(a) == len(b) and all(map(identical, sorted(a, key=repr), sorted(b, key=repr)))
        case datetime() | time():
            return a == b and a.fold == b.fold and identical(a.tzinfo, b.tzinfo)
        case BaseException():
            return identical(a.args, b.args) and str(a) == str(b)
    # Compared by their states, since their own equality may be by identity, or take other types for the same.
    return _state(a) is not None or bool(a == b)


def _state(value: Any) -> Any:
    """What pickle would take: `__dict__` and slots."""
    if type(value).__module__ in _CACHING:
        return None
    try:
        reduced = object.__reduce_ex__(value, 2)
    except TypeError:
        return None
    return reduced[2] if len(reduced) > 2 else None


def _factory(value: Any) -> Any:
    return getattr(value, "default_factory", None)


def _length(value: Any) -> Any:
    return getattr(value, "maxlen", None)
