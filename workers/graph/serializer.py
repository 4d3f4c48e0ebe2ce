"""The serializer of states and updates: what comes back equals what went in, in value and in type.

LangGraph's own serializer turns tuples into lists and unknown types into plain dicts, in silence. A fold
that is repeated from the log must not do that, so containers, enums, dataclasses and pydantic models are
written here, LangGraph's serializer is asked for single values only (dates, paths, arrays …), and its answer
is checked. What cannot be kept is refused when it is written, with the setting that allows it. Nothing is
imported or called by name on reading: classes come from the table, and their constructors do not run.
"""

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import ormsgpack
from langchain_core import messages
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy
from pydantic import BaseModel

from app.errors import UnstorableValue

_ATOMS = frozenset({type(None), bool, float, bytes})
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

# Kinds of msgpack extensions. A snapshot of another version is rebuilt, so they may change with the version.
_TEXT, _NUMBER, _TUPLE, _PAIRS, _COLLECTION, _OBJECT, _LEAF = range(1, 8)

# Subclasses of containers whose content is a list of items, by name.
_COLLECTIONS: Mapping[str, Callable[[Any], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "bytearray": bytearray,
    "deque": lambda state: deque(state[1], state[0]),
    "OrderedDict": OrderedDict,
    "Counter": lambda pairs: Counter(dict(pairs)),
    "defaultdict": lambda state: defaultdict(_FACTORIES[state[0]], state[1]),
}
_FACTORIES: Mapping[str | None, Callable[[], Any] | None] = {
    None: None,
    **{kind.__name__: kind for kind in (list, dict, set, int, float, str, tuple)},
}

_MESSAGE_TYPES = tuple(
    cls
    for name in messages.__all__
    if isinstance(cls := getattr(messages, name), type) and issubclass(cls, messages.BaseMessage)
)
LANGGRAPH_TYPES: tuple[type, ...] = (Command, Interrupt, Overwrite, TimeoutPolicy, *_MESSAGE_TYPES)

_leaves = JsonPlusSerializer(allowed_msgpack_modules=None)


class ExactSerializer(SerializerProtocol):
    """Writes values of the built-in types, of LangGraph's and of `types`; refuses all others."""

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._types = {_key(cls): cls for cls in (*LANGGRAPH_TYPES, *types)}

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "msgpack", self.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.loads(data[1])

    def dumps(self, value: Any) -> bytes:
        """Raises UnstorableValue for a type that is not allowed."""
        return ormsgpack.packb(self._plain(value))

    def loads(self, data: bytes) -> Any:
        """Raises UnstorableValue for a type that is not allowed, ValueError for damaged bytes."""
        refusals: list[UnstorableValue] = []

        def revive(kind: int, payload: bytes) -> Any:
            try:
                return self._revive(kind, payload)
            except UnstorableValue as refusal:
                refusals.append(refusal)  # ormsgpack drops an exception raised in here
                raise

        try:
            return ormsgpack.unpackb(data, ext_hook=revive)
        except ValueError:
            if refusals:
                raise refusals[0] from None
            raise

    def _plain(self, value: Any) -> Any:
        """The same value in the few types that msgpack keeps exactly, all others as extensions."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            return value if value.isascii() or _encodable(value) else _ext(_TEXT, _surrogates(value))
        if kind is int:
            return value if _SMALLEST <= value <= _LARGEST else _ext(_NUMBER, hex(value).encode())
        if kind is list:
            return [self._plain(item) for item in value]
        if kind is dict:
            if all(type(key) is str and (key.isascii() or _encodable(key)) for key in value):
                return {key: self._plain(item) for key, item in value.items()}
            return _ext(_PAIRS, self.dumps([[key, item] for key, item in value.items()]))
        if kind is tuple:
            return _ext(_TUPLE, self.dumps(list(value)))
        return self._extension(value)

    def _extension(self, value: Any) -> ormsgpack.Ext:
        if (content := _collection(value)) is not None:
            if isinstance(value, set | frozenset):
                content.sort(key=self.dumps)  # their own order is another one in each process, and after each copy
            return _ext(_COLLECTION, self.dumps([type(value).__name__, content]))
        if isinstance(value, Send):
            return _ext(_OBJECT, self.dumps([_key(Send), [value.node, value.arg, value.timeout]]))
        if _has_state(type(value)):
            if _key(type(value)) not in self._types:
                raise _not_allowed(type(value))
            return _ext(_OBJECT, self.dumps([_key(type(value)), _state(value)]))
        return _ext(_LEAF, _leaf(value))

    def _revive(self, kind: int, payload: bytes) -> Any:
        if kind == _TEXT:
            return payload.decode("utf-8", "surrogatepass")
        if kind == _NUMBER:
            return int(payload, 16)
        if kind == _LEAF:
            return _leaves.loads_typed(("msgpack", payload))
        content = self.loads(payload)
        if kind == _TUPLE:
            return tuple(content)
        if kind == _PAIRS:
            return dict(content)
        if kind == _COLLECTION:
            return _COLLECTIONS[content[0]](content[1])
        return self._revive_object(*content)

    def _revive_object(self, key: tuple[str, str], state: Any) -> Any:
        if key == _key(Send):
            node, arg, timeout = state
            return Send(node, arg, timeout=timeout)
        if (cls := self._types.get(key)) is None:
            raise UnstorableValue(f"{':'.join(key)} is not among the allowed state types")
        if issubclass(cls, Enum):
            return cls(state)
        if issubclass(cls, tuple):
            return tuple.__new__(cls, state)
        made: Any = object.__new__(cls)
        if issubclass(cls, BaseModel):
            made.__setstate__(state)
        else:
            for name, item in state.items():
                object.__setattr__(made, name, item)  # a frozen dataclass too
        return made


def _key(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _ext(kind: int, payload: bytes) -> ormsgpack.Ext:
    return ormsgpack.Ext(kind, payload)


def _surrogates(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _collection(value: Any) -> Any:
    """The content of a set, deque … of exactly that type, or None."""
    kind = type(value)
    if kind in (set, frozenset):
        return list(value)
    if kind is bytearray:
        return bytes(value)
    if kind is deque:
        return [value.maxlen, list(value)]
    if kind in (OrderedDict, Counter):
        return [[key, item] for key, item in value.items()]
    if kind is defaultdict:
        name = getattr(value.default_factory, "__name__", None)
        if _FACTORIES.get(name, ...) is not value.default_factory:
            raise UnstorableValue("a defaultdict's factory must be list, dict, set, int, float, str or tuple")
        return [name, dict(value)]
    return None


def _has_state(cls: type) -> bool:
    """Says whether instances are written as their fields."""
    return (
        issubclass(cls, Enum | BaseModel)
        or dataclasses.is_dataclass(cls)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _state(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel):
        return value.__getstate__()
    if isinstance(value, tuple):
        return list(value)
    fields = (field.name for field in dataclasses.fields(value))
    return {name: getattr(value, name) for name in fields if hasattr(value, name)} | getattr(value, "__dict__", {})


def _leaf(value: Any) -> bytes:
    """A single value as LangGraph's serializer writes it, if it reads the same from it."""
    try:
        packed = _leaves.dumps_typed(value)[1]
        read = _leaves.loads_typed(("msgpack", packed))
        again = _leaves.dumps_typed(read)[1]
    except TypeError as error:  # how ormsgpack says that it has no form for a type
        raise _not_allowed(type(value)) from error
    if type(read) is not type(value) or again != packed:
        raise _not_allowed(type(value))
    return packed


def _not_allowed(cls: type) -> UnstorableValue:
    name = f"{cls.__module__}:{cls.__qualname__}"
    if _has_state(cls):
        return UnstorableValue(
            f"a value of type {name} cannot be stored: name the type in the state's schema, "
            "or in STELLWERK_ALLOWED_STATE_TYPES"
        )
    return UnstorableValue(
        f"a value of type {name} cannot be stored; use built-in types, dataclasses, enums or pydantic models"
    )
