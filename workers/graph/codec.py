"""The codec of updates: any value that a node takes or returns, as JSON for an event and back.

What JSON keeps exactly stays readable JSON; what it does not (tuples, dates, enums, `Command`, NaN …) becomes
`{"$langgraph": ["msgpack", base64]}` where it stands. Decoding gives equal values of identical types.
"""

import math
from base64 import b64decode, b64encode
from typing import Any

from pydantic_core import to_jsonable_python

from app.events.encoding import printable
from workers.graph.serializer import ExactSerializer

TAG = "$langgraph"
READABLE_DEPTH = 50

# Beyond, many JSON readers lose digits, and orjson raises.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Codec:
    def __init__(self, serializer: ExactSerializer) -> None:
        self._serializer = serializer

    def encode(self, value: Any) -> Any:
        """Raises UnstorableValue for a type that is not allowed."""
        kind = type(value)
        if kind in (type(None), bool):
            return value
        if kind is str and _plain_text(value):
            return value
        if kind is int and _SMALLEST <= value <= _LARGEST:
            return value
        if kind is float and math.isfinite(value):
            return value
        if kind is list:
            return [self.encode(item) for item in value]
        # A user's dict that holds the tag itself is tagged as a whole, so the tag is never ambiguous.
        if kind is dict and TAG not in value and all(type(key) is str and _plain_text(key) for key in value):
            return {key: self.encode(item) for key, item in value.items()}
        form, data = self._serializer.dumps_typed(value)
        return {TAG: [form, b64encode(data).decode()]}

    def decode(self, value: Any) -> Any:
        """Takes what `encode` gave, after any number of trips through JSON."""
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if TAG in value:
            form, data = value[TAG]
            return self._serializer.loads_typed((form, b64decode(data)))
        return {key: self.decode(item) for key, item in value.items()}


def _plain_text(text: str) -> bool:
    """Says whether the log takes it: Postgres stores neither NUL nor lone surrogates."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(value: Any) -> Any:
    """`value` as JSON for people: dates as text, tuples as lists, objects as dicts. There is no way back.

    Takes anything: what the log would refuse (NaN, NUL, huge integers, very deep nesting) becomes text, too.
    """
    return _storable(to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64", by_alias=False), 0)


def _storable(value: Any, depth: int) -> Any:
    match value:
        case str():
            return printable(value)
        case bool():
            return value
        case int() if not _SMALLEST <= value <= _LARGEST:
            return str(value)
        case float() if not math.isfinite(value):
            return str(value)
        case dict() | list() if depth > READABLE_DEPTH:
            return printable(repr(value))
        case dict():
            return {printable(str(key)): _storable(item, depth + 1) for key, item in value.items()}
        case list():
            return [_storable(item, depth + 1) for item in value]
        case _:
            return value
