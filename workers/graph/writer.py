"""Writing a value: msgpack where it keeps it exactly, an extension of one of the kinds where it does not."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

import ormsgpack
from langgraph.types import Send

from app.errors import UnstorableValue
from workers.graph import arrays, bases, fields, kinds, leaves
from workers.graph.classes import StateClasses
from workers.graph.step_limits import Counted

MAX_DEPTH = 270
"""Of lists and dicts in each other; other values count twice. LangGraph ends at 254, Python's stack soon after."""
AROUND = 10
"""Levels that a snapshot puts around a value of the state: what an update may hold must have room in it."""
_PACKED_DEPTH = 100  # ormsgpack refuses to write more than 254 levels at once

_ATOMS = frozenset({type(None), bool, float, bytes})
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

COLLECTIONS = frozenset({set, frozenset, bytearray, deque, OrderedDict, Counter, defaultdict})
"""Containers that are written by their names; subclasses of them are written as based on them."""
FACTORIES: Mapping[str | None, Callable[[], Any] | None] = {
    None: None,
    **{kind.__name__: kind for kind in (list, dict, set, int, float, str, tuple)},
}
"""What a defaultdict may make what it lacks by."""

Form: TypeAlias = Callable[["Writer", Any], Any]


class Writer:
    """One writing of one value; `depth` is how deep it is in it, `forms` how values of the classes met are written."""

    def __init__(self, classes: StateClasses, forms: dict[type, Form], depth: int = 0) -> None:
        self.classes = classes
        self.forms = forms
        self.depth = depth
        self.full_at = _PACKED_DEPTH

    def packed(self, value: Any) -> bytes:
        before, self.full_at = self.full_at, min(self.depth + _PACKED_DEPTH, MAX_DEPTH)
        data = ormsgpack.packb(self.plain(value))
        self.full_at = before
        return data

    def plain(self, value: Any) -> Any:
        """The same value in the few types that msgpack keeps exactly, all others as extensions."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            return value if value.isascii() or _encodable(value) else _ext(kinds.TEXT, _surrogates(value))
        if kind is int:
            return value if _SMALLEST <= value <= _LARGEST else _ext(kinds.NUMBER, hex(value).encode())
        if self.depth >= self.full_at:
            return self._deep(value)
        self.depth += 1
        if kind is list:
            made: Any = [item if type(item) in _ATOMS else self.plain(item) for item in value]
        elif kind is dict:
            if _are_names(value):
                made = {key: item if type(item) in _ATOMS else self.plain(item) for key, item in value.items()}
            else:
                made = _ext(kinds.PAIRS, self.packed([[key, item] for key, item in value.items()]))
        else:
            self.depth += 1
            made = (self.forms.get(kind) or self._form(kind))(self, value)
            self.depth -= 1
        self.depth -= 1
        return made

    def _deep(self, value: Any) -> ormsgpack.Ext:
        if self.depth >= MAX_DEPTH:
            raise too_deep()
        return _ext(kinds.DEEP, self.packed(value))

    def _form(self, kind: type) -> Form:
        form = self.forms[kind] = self._new_form(kind)
        return form

    def _new_form(self, kind: type) -> Form:
        """How values of a class are written; raises UnstorableValue for one that cannot be."""
        if kind is tuple:
            return Writer._tuple
        if issubclass(kind, Counted):
            return lambda _writer, limit: int(limit)
        if kind in COLLECTIONS:
            return Writer._exact_collection
        if kind is Send:
            return Writer._send
        if kind in leaves.TYPES:
            return Writer._leaf
        if arrays.is_array(kind):
            return Writer._array
        if bases.is_base(kind):
            return partial(Writer._based, name=None)
        name = self._name(kind)
        if issubclass(kind, Enum):
            return partial(Writer._member, name=name)
        if fields.has_fields(kind):
            return partial(Writer._fields, name=name, taken=fields.taker(kind))
        return partial(Writer._based, name=name)

    def _name(self, kind: type) -> ormsgpack.Ext:
        return _ext(kinds.TUPLE, Writer(self.classes, self.forms).packed(list(self.classes.name(kind))))

    def _tuple(self, value: Any) -> ormsgpack.Ext:
        return _ext(kinds.TUPLE, self.packed(list(value)))

    def _exact_collection(self, value: Any) -> ormsgpack.Ext:
        return _ext(kinds.COLLECTION, self.packed([type(value).__name__, self._collection(value)]))

    def _send(self, value: Any) -> ormsgpack.Ext:
        return _ext(kinds.OBJECT, self.packed([kinds.SEND, [value.node, value.arg, value.timeout]]))

    def _leaf(self, value: Any) -> ormsgpack.Ext:
        return _ext(kinds.LEAF, leaves.dumps(value)) if leaves.is_leaf(value) else self._based(value, None)

    def _array(self, value: Any) -> ormsgpack.Ext:
        return _ext(kinds.ARRAY, self.packed(arrays.taken(value)))

    def _member(self, value: Any, name: ormsgpack.Ext) -> ormsgpack.Ext:
        if type(value._value_) in (int, str) or value._name_ not in type(value).__members__:
            return self._object(kinds.OBJECT, name, value._value_)
        return self._object(kinds.MEMBER, name, value._name_)

    def _fields(self, value: Any, name: ormsgpack.Ext, taken: Callable[[Any], Any]) -> ormsgpack.Ext:
        return self._object(kinds.OBJECT, name, taken(value))

    def _based(self, value: Any, name: ormsgpack.Ext | None) -> ormsgpack.Ext:
        base = bases.base_of(type(value))
        assert base is not None, "_form gives this form to no other class"
        arguments = base.take(value)
        if not base.ordered:
            arguments = [self._sorted(arguments[0])]
        held = {} if name is None else base.attributes(value)
        return self._object(kinds.BASED, name, [base.cls.__name__, list(arguments), held])

    def _object(self, kind: int, name: ormsgpack.Ext | None, content: Any) -> ormsgpack.Ext:
        before, self.full_at = self.full_at, min(self.depth + _PACKED_DEPTH, MAX_DEPTH)
        data = ormsgpack.packb([name, self.plain(content)])
        self.full_at = before
        return _ext(kind, data)

    def _collection(self, value: Any) -> Any:
        """What a set, deque … of exactly that type holds."""
        match value:
            case set() | frozenset():
                return self._sorted(list(value))
            case bytearray():
                return bytes(value)
            case deque():
                return [value.maxlen, list(value)]
            case defaultdict():
                name = getattr(value.default_factory, "__name__", None)
                if FACTORIES.get(name, ...) is not value.default_factory:
                    raise UnstorableValue("a defaultdict's factory must be list, dict, set, int, float, str or tuple")
                return [name, dict(value)]
        return [[key, item] for key, item in value.items()]

    def _sorted(self, items: list[Any]) -> list[Any]:
        return sorted(items, key=self.packed)


def too_deep() -> UnstorableValue:
    levels = MAX_DEPTH - AROUND
    return UnstorableValue(f"a value nested deeper than {levels} levels, or one that holds itself, cannot be stored")


def _ext(kind: int, payload: bytes) -> ormsgpack.Ext:
    return ormsgpack.Ext(kind, payload)


def _surrogates(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _are_names(keys: Iterable[Any]) -> bool:
    """Says whether all are text that msgpack takes. A loop, since a generator takes twice as long."""
    for key in keys:  # noqa: SIM110
        if type(key) is not str or not (key.isascii() or _encodable(key)):
            return False
    return True


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
