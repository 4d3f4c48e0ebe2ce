"""Values that are written as their fields: enums, named tuples, dataclasses, attrs classes, pydantic models.

They are made of their fields again without their constructors, validators and `__post_init__`.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from langgraph.store.base import Item
from pydantic import BaseModel

from workers.graph.bases import attributes, base_of, kept


def has_fields(cls: type) -> bool:
    """Says whether instances are written as their fields; those of a base with attributes are not."""
    if issubclass(cls, Enum | BaseModel):
        return cls not in (Enum, BaseModel)
    if is_named_tuple(cls):
        return cls.__dictoffset__ == 0
    declared = dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or issubclass(cls, Item)
    return (declared and base_of(cls) is None) or _is_v1_model(cls)


def is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def taker(cls: type) -> Callable[[Any], Any]:
    """What takes the fields from instances of this class."""
    if issubclass(cls, tuple):
        return list
    if issubclass(cls, BaseModel):
        return _model_state
    if _is_v1_model(cls):
        return sys.modules["pydantic.v1.main"].BaseModel.__getstate__  # type: ignore[no-any-return]  # a module of any kind
    return _declared_state


def _model_state(value: BaseModel) -> dict[Any, Any]:
    held = BaseModel.__getstate__(value)
    held["__dict__"] = kept(type(value), held["__dict__"])
    return held


def _declared_state(value: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    return {name: getattr(value, name) for name in names if hasattr(value, name)} | attributes(value)


def made(cls: type, held: Any) -> Any:
    """An instance of exactly this class with these fields; `held` is what `taker` gave."""
    if issubclass(cls, tuple):
        return tuple.__new__(cls, held)
    instance: Any = object.__new__(cls)
    if issubclass(cls, BaseModel):
        BaseModel.__setstate__(instance, {"__pydantic_extra__": None, "__pydantic_private__": None} | held)
    elif _is_v1_model(cls):
        sys.modules["pydantic.v1.main"].BaseModel.__setstate__(instance, held)
    else:
        set_attributes(instance, held)
    return instance


def set_attributes(instance: Any, held: Mapping[str, Any]) -> None:
    for name, item in held.items():
        object.__setattr__(instance, name, item)  # a frozen dataclass, too


def _is_v1_model(cls: type) -> bool:
    """Says whether it is a model in the manner of pydantic 1, which pydantic 2 still brings."""
    v1: Any = sys.modules.get("pydantic.v1.main")
    return v1 is not None and issubclass(cls, v1.BaseModel)
