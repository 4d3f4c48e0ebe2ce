"""Which classes the values of a state may have, and how a class is found again by another process.

A class stands in the log by its module and its name. It is looked up in the types of the state's schema, then
in the modules that this process has imported: nothing is imported by name, no attribute is computed. So a
class is kept only if its module was there when the workflow was loaded, and holds that very class.
"""

import sys
from collections.abc import Iterable
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from langchain_core import agents, documents, messages, outputs, prompt_values
from langgraph.store.base import Item
from langgraph.types import Command, Interrupt, Overwrite, TimeoutPolicy
from pydantic import BaseModel

from app.errors import UnstorableValue
from workers.graph.bases import base_of
from workers.graph.fields import has_fields

ClassName: TypeAlias = tuple[Any, ...]
"""Module and qualified name; for a parametrised pydantic model also the arguments' names."""

_ANY = "Any"
_LANGCHAIN = (agents, documents, messages, outputs, prompt_values)
LANGGRAPH_TYPES: tuple[type, ...] = (
    *(Command, Interrupt, Overwrite, TimeoutPolicy, Item),
    *(
        cls
        for module in _LANGCHAIN
        for name in dir(module)
        if isinstance(cls := getattr(module, name), type) and issubclass(cls, BaseModel)
    ),
)
"""Of these every worker has all, whichever of them the workflow's modules import."""


class StateClasses:
    """The classes that values may have: `types`, and what the modules imported so far hold."""

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._types: dict[ClassName, type] = {_key(cls): cls for cls in (*LANGGRAPH_TYPES, *types)}
        self._modules = frozenset(sys.modules) - {"__main__"}
        self._names: dict[type, ClassName] = {}

    def name(self, cls: type) -> ClassName:
        """How the class is written; raises UnstorableValue for one that could not be found again."""
        known = self._names.get(cls)
        if known is None:
            known = self._names[cls] = self._checked_name(cls)
        return known

    def named(self, name: ClassName) -> type:
        """Raises UnstorableValue for a class that is not allowed or not known here."""
        cls = self._found(name)
        if cls in self._names:
            return cls
        if cls is None:
            raise UnstorableValue(
                f"{_text(name)} is not known to this worker: import its module at the top of the workflow's module, "
                "or name the type in STELLWERK_ALLOWED_STATE_TYPES"
            )
        if not is_storable(cls):
            raise UnstorableValue(f"{_text(name)} is not among the allowed state types")
        self._names[cls] = name
        return cls

    def _checked_name(self, cls: type) -> ClassName:
        if self._types.get(_key(cls)) is cls:
            return _key(cls)
        if not is_storable(cls):
            raise not_storable(cls)
        if origin := _parametrised(cls):
            name: ClassName = (*self._checked_name(origin[0]), tuple(self._annotation(item) for item in origin[1]))
        else:
            name = _key(cls)
            self._check_findable(cls)
        if self._found(name) is not cls:
            raise _refusal(cls, "its module holds something else under this name; name the type in the state's schema")
        return name

    def _check_findable(self, cls: type) -> None:
        if "<locals>" in cls.__qualname__:
            raise _refusal(
                cls,
                "a class that is made inside of a function cannot be found again by another worker; define it at the "
                "top of its module, or name it in the state's schema",
            )
        if _key(cls) not in self._types and cls.__module__ not in self._modules:
            raise _refusal(
                cls,
                f"{cls.__module__} was not imported when the workflow was loaded, so another worker may lack it; "
                "import it at the top of the workflow's module, or name the type in the state's schema or in "
                "STELLWERK_ALLOWED_STATE_TYPES",
            )

    def _found(self, name: ClassName) -> type | None:
        if (cls := self._types.get(name[:2])) is None:
            cls = _held(*name[:2])
        if cls is None or len(name) == 2:
            return cls
        if not issubclass(cls, BaseModel) or not cls.__pydantic_generic_metadata__["parameters"]:
            return None
        generic: Any = cls
        found: type = generic[tuple(self._annotated(item) for item in name[2])]
        return found

    def _annotation(self, annotation: Any) -> Any:
        """An argument of a generic class in storable values; `_annotated` makes it of them again."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        if annotation in (None, NoneType):
            return None
        if annotation is Any:
            return _ANY
        if origin in (Union, UnionType):  # pydantic makes two classes of the two ways to write it
            return ["Union" if origin is Union else "|", [self._annotation(item) for item in arguments]]
        if origin is Literal:
            return ["Literal", list(arguments)]
        if isinstance(origin, type):
            return [_key(origin), [self._annotation(item) for item in arguments]]
        if isinstance(annotation, type):
            return self._checked_name(annotation) if is_storable(annotation) else _key(annotation)
        raise UnstorableValue(f"a generic class of {annotation!r} cannot be stored: name it in the state's schema")

    def _annotated(self, written: Any) -> Any:
        match written:
            case None:
                return None
            case str():
                return Any
            case "Union", list(items):
                return Union[tuple(self._annotated(item) for item in items)]  # noqa: UP007 - as many as there are
            case "|", list(items):
                return reduce(or_, (self._annotated(item) for item in items))
            case "Literal", list(items):
                return Literal[tuple(items)]
            case [origin, list(items)]:
                generic: Any = self._found(origin)
                return generic[tuple(self._annotated(item) for item in items)]
        return self._found(written)


def is_storable(cls: type) -> bool:
    """Says whether instances can be written as what they are made of, and made of it again."""
    return has_fields(cls) or base_of(cls) is not None


def _parametrised(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    """The generic pydantic model and its arguments."""
    if not issubclass(cls, BaseModel) or (generic := cls.__pydantic_generic_metadata__)["origin"] is None:
        return None
    return generic["origin"], generic["args"]


def _held(module: str, path: str) -> type | None:
    """The class that an imported module holds; read from dicts, since a module's __getattr__ may import."""
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found if isinstance(found, type) else None


def _key(cls: type) -> ClassName:
    return cls.__module__, cls.__qualname__


def _text(name: ClassName) -> str:
    return ":".join(map(str, name[:2]))


def not_storable(cls: type) -> UnstorableValue:
    return _refusal(cls, "use built-in types, dataclasses, enums or pydantic models")


def _refusal(cls: type, advice: str) -> UnstorableValue:
    return UnstorableValue(f"a value of type {_text(_key(cls))} cannot be stored: {advice}")
