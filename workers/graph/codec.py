"""The codec of updates: any value that a node takes or returns, as JSON for an event and back.

What JSON keeps exactly stays readable JSON; what it does not (tuples, dates, enums, `Command`, NaN …) becomes
`{"$langgraph": ["msgpack", base64]}` where it stands. Decoding gives equal values of identical types.
"""

import math
from base64 import b64decode, b64encode
from functools import partial
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

from app.errors import UnstorableValue
from app.events import references
from app.events.encoding import printable
from workers.graph.places import located
from workers.graph.serializer import ExactSerializer
from workers.graph.writer import AROUND

TAG = "$langgraph"
TAGS = frozenset({TAG, references.TAG})
_FORM = "msgpack"
JSON_DEPTH = READABLE_DEPTH = 50
"""What is nested deeper is tagged as a whole, or text: the log takes 100 levels, with the event around it."""

# Beyond, many JSON readers lose digits, and orjson raises.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Codec:
    def __init__(self, serializer: ExactSerializer) -> None:
        self._serializer = serializer

    def encode(self, value: Any) -> Any:
        """Raises UnstorableValue, which says where in the value stands what cannot be kept."""
        try:
            return self._encoded(value, 0)
        except UnstorableValue as refusal:
            raise located(refusal, value, partial(self._encoded, depth=0)) from None

    def stored(self, value: Any) -> bytes:
        """What `encode` gives as JSON, with names in the place of known secrets: for what goes into no event.

        Raises UnstorableValue, and what orjson raises.
        """
        encoded, secrets = self.encode(value), self._serializer.secrets
        data = orjson.dumps(encoded)
        return orjson.dumps(references.with_names(encoded, secrets)) if secrets.may_be_in(data) else data

    def _encoded(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in (type(None), bool):
            return value
        if kind is str and _plain_text(value):
            return value
        if kind is int and _SMALLEST <= value <= _LARGEST:
            return value
        if kind is float and math.isfinite(value):
            return value
        if depth < JSON_DEPTH:
            if kind is list:
                return [self._encoded(item, depth + 1) for item in value]
            # A user's dict that holds a tag itself is tagged as a whole, so tags are never ambiguous.
            if kind is dict and TAGS.isdisjoint(value) and all(type(key) is str and _plain_text(key) for key in value):
                return {key: self._encoded(item, depth + 1) for key, item in value.items()}
        return {TAG: [_FORM, b64encode(self._serializer.written(value, AROUND + depth)).decode()]}

    def decode(self, value: Any) -> Any:
        """Takes what `encode` gave, after any number of trips through JSON, with secrets by name.

        Raises UnknownSecret.
        """
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if references.TAG in value and references.is_reference(value):
            return self._of_reference(value)
        if TAG in value:
            _, data = value[TAG]
            return self._serializer.loads(b64decode(data))
        return {key: self.decode(item) for key, item in value.items()}

    def _of_reference(self, value: dict[str, Any]) -> Any:
        items = references.items_of(value)
        if items is None:
            return references.text_of(value, self._serializer.secrets)
        return {self.decode(key): self.decode(item) for key, item in items}


def _plain_text(text: str) -> bool:
    """Says whether the log takes it: Postgres stores neither NUL nor lone surrogates."""
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def readable(value: Any) -> Any:
    """`value` as JSON for people: dates as text, tuples as lists, objects as dicts. There is no way back.

    Takes anything and never raises: what the log would refuse (NaN, NUL, huge integers, very deep nesting)
    becomes text, and what cannot even be looked at (it holds itself, its own code raises) its type's name.
    """
    return _readable(value, frozenset())


def _readable(value: Any, above: frozenset[int]) -> Any:
    try:
        json = to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64", by_alias=False)
        return _storable(json, len(above))
    except Exception:  # noqa: BLE001 - properties and `__repr__` of a user's class may raise anything
        return _part_by_part(value, above)


def _part_by_part(value: Any, above: frozenset[int]) -> Any:
    kind = type(value)
    if id(value) not in above and len(above) < READABLE_DEPTH:
        inside = above | {id(value)}
        if kind in (list, tuple):
            return [_readable(item, inside) for item in value]
        if kind is dict:
            return {_readable_key(key): _readable(item, inside) for key, item in value.items()}
        if kind is int:
            return hex(value)  # Python writes no more than 4300 decimal digits
    return printable(f"<{kind.__module__}.{kind.__qualname__}>")


def _readable_key(key: Any) -> str:
    if type(key) is str:
        return printable(key)
    shown = _readable(key, frozenset())
    # What has no order of its own has another one in each process, and a key should be the same in all.
    return str(sorted(shown, key=str) if isinstance(key, frozenset) and isinstance(shown, list) else shown)


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
