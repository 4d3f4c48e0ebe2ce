"""Reading what the writer wrote; no constructor of a user's class runs."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import ormsgpack
from langgraph.types import Send

from app.errors import UnknownSecret, UnstorableValue
from app.known_secrets import Secrets
from workers.graph import arrays, bases, fields, kinds, leaves, sealed
from workers.graph.classes import ClassName, StateClasses
from workers.graph.writer import FACTORIES

_MAKERS: Mapping[str, Callable[[Any], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "bytearray": bytearray,
    "deque": lambda state: deque(state[1], state[0]),
    "OrderedDict": OrderedDict,
    "Counter": lambda pairs: Counter(dict(pairs)),
    "defaultdict": lambda state: defaultdict(FACTORIES[state[0]], state[1]),
}


class Reader:
    """One reading; ormsgpack drops an exception that is raised while it reads, so it is kept in `refusal`."""

    def __init__(self, classes: StateClasses, secrets: Secrets) -> None:
        self.classes = classes
        self.secrets = secrets
        self.refusal: UnstorableValue | UnknownSecret | None = None

    def unpacked(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self.revived)

    def revived(self, kind: int, payload: bytes) -> Any:
        try:
            return self._revived(kind, payload)
        except (UnstorableValue, UnknownSecret) as refusal:
            self.refusal = refusal
            raise

    def _revived(self, kind: int, payload: bytes) -> Any:
        if kind == kinds.TEXT:
            return payload.decode("utf-8", "surrogatepass")
        if kind == kinds.NUMBER:
            return int(payload, 16)
        if kind == kinds.LEAF:
            return leaves.loads(payload)
        if kind == kinds.SECRET:
            return sealed.resolved(payload, self.secrets)
        content = self.unpacked(payload)
        if kind == kinds.TUPLE:
            return tuple(content)
        if kind == kinds.PAIRS:
            return dict(content)
        if kind == kinds.COLLECTION:
            return _MAKERS[content[0]](content[1])
        if kind == kinds.DEEP:
            return content
        if kind == kinds.ARRAY:
            return arrays.made(content)
        return self._object(kind, content)

    def _object(self, kind: int, content: list[Any]) -> Any:
        if kind == kinds.OBJECT and content[0] == kinds.SEND:
            node, arg, timeout = content[1]
            return Send(node, arg, timeout=timeout)
        if kind == kinds.BASED:
            return self._instance(content[0], *content[1])
        cls = self.classes.named(content[0])
        if issubclass(cls, Enum):
            return self._member(cls, kind, content[1])
        if kind == kinds.OBJECT and fields.has_fields(cls):
            return fields.made(cls, content[1])
        raise UnstorableValue(f"{cls.__module__}:{cls.__qualname__} is no longer what it was when it was stored")

    def _member(self, cls: type[Enum], kind: int, held: Any) -> Enum:
        try:
            return cls[held] if kind == kinds.MEMBER else cls(held)
        except (KeyError, ValueError) as error:
            name = f"{cls.__module__}:{cls.__qualname__}"
            raise UnstorableValue(f"{name} has no longer the member {held!r}, which was stored") from error

    def _instance(self, name: ClassName | None, base_name: str, arguments: list[Any], held: dict[str, Any]) -> Any:
        base = bases.base_named(base_name)
        if base is None:
            raise UnstorableValue(f"{base_name} is not known to this version")
        if name is None:
            return base.make(base.cls, arguments)
        cls = self.classes.named(name)
        found = bases.base_of(cls)
        if found is None or found.cls is not base.cls:
            raise UnstorableValue(f"{cls.__module__}:{cls.__qualname__} is no longer a {base_name}")
        made = base.make(cls, arguments)
        fields.set_attributes(made, held)
        return made
