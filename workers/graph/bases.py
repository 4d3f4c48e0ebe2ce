"""Values that are made by a class of Python's own or of pydantic's, and those of its subclasses.

`take` gives the arguments of which `make` makes an equal value. `make` runs the constructor of the base, never
one of a subclass: what a subclass adds are attributes, which are set afterwards.
"""

import builtins
import ipaddress
import pathlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

from pydantic import AnyUrl, SecretBytes, SecretStr
from pydantic_core import TzInfo

_NOTHING = object()
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class of Python code; others hide state in C, such as numpy's


@dataclass(frozen=True, slots=True)
class Base:
    cls: type
    take: Callable[[Any], Sequence[Any]]
    make: Callable[[type, Sequence[Any]], Any]
    ordered: bool = True
    own: frozenset[str] = frozenset()
    """What the base itself keeps in `__dict__`."""

    def attributes(self, value: Any) -> dict[str, Any]:
        """What the instance holds beyond its base."""
        return {name: item for name, item in attributes(value, self.cls).items() if name not in self.own}


def constructed(base: Any) -> Callable[[type, Sequence[Any]], Any]:
    """Makes an instance of a subclass by the constructor of `base`."""

    def make(cls: type, arguments: Sequence[Any]) -> Any:
        made: Any = base.__new__(cls, *arguments)
        if base.__init__ is not object.__init__:
            base.__init__(made, *arguments)
        return made

    return make


def _filled(cls: type, arguments: Sequence[Any]) -> Any:
    """A dict of a subclass whose own `__setitem__` and `update` do not run."""
    made: Any = dict.__new__(cls)
    for key, item in arguments[0]:
        dict.__setitem__(made, key, item)
    return made


def _ordered(cls: type, arguments: Sequence[Any]) -> Any:
    made: Any = OrderedDict.__new__(cls)
    for key, item in arguments[0]:
        OrderedDict.__setitem__(made, key, item)
    return made


def _datetime(cls: type, arguments: Sequence[Any]) -> Any:
    *parts, fold = arguments
    return datetime.__new__(cls, *parts, fold=fold)


def _time(cls: type, arguments: Sequence[Any]) -> Any:
    *parts, fold = arguments
    return time.__new__(cls, *parts, fold=fold)


def _pairs(value: Any) -> list[Any]:
    return [[key, item] for key, item in dict.items(value)]


def _base(
    cls: type,
    take: Callable[[Any], Sequence[Any]],
    make: Callable[[type, Sequence[Any]], Any] | None = None,
    *,
    ordered: bool = True,
    own: str = "",
) -> Base:
    return Base(cls, take, make or constructed(cls), ordered, frozenset({own}))


_CLOCK = ("hour", "minute", "second", "microsecond", "tzinfo", "fold")
_ADDRESSES = ("IPv4Address", "IPv4Interface", "IPv4Network", "IPv6Address", "IPv6Interface", "IPv6Network")

_BASES: Mapping[type, Base] = {
    base.cls: base
    for base in (
        _base(str, lambda value: [str.__str__(value)]),
        _base(int, lambda value: [int.__int__(value)]),
        _base(float, lambda value: [float.__float__(value)]),
        _base(bytes, lambda value: [bytes(memoryview(value))]),
        _base(bytearray, lambda value: [bytes(memoryview(value))]),
        _base(complex, lambda value: [value.real, value.imag]),
        _base(list, lambda value: [list(list.__iter__(value))]),
        _base(tuple, lambda value: [list(tuple.__iter__(value))]),
        _base(set, lambda value: [list(set.__iter__(value))], ordered=False),
        _base(frozenset, lambda value: [list(frozenset.__iter__(value))], ordered=False),
        _base(deque, lambda value: [list(deque.__iter__(value)), value.maxlen]),
        _base(dict, lambda value: [_pairs(value)], _filled),
        _base(Counter, lambda value: [_pairs(value)], _filled),
        _base(OrderedDict, lambda value: [[[key, item] for key, item in OrderedDict.items(value)]], _ordered),
        _base(range, lambda value: [value.start, value.stop, value.step]),
        _base(slice, lambda value: [value.start, value.stop, value.step]),
        _base(Decimal, lambda value: [Decimal.__str__(value)]),
        _base(Fraction, lambda value: [value.numerator, value.denominator]),
        _base(UUID, lambda value: [value.hex]),
        _base(date, lambda value: [value.year, value.month, value.day]),
        _base(timedelta, lambda value: [value.days, value.seconds, value.microseconds]),
        _base(
            datetime,
            lambda value: [value.year, value.month, value.day, *(getattr(value, name) for name in _CLOCK)],
            _datetime,
        ),
        _base(time, lambda value: [getattr(value, name) for name in _CLOCK], _time),
        _base(TzInfo, lambda value: [int(value.utcoffset(None).total_seconds())]),
        _base(tzinfo, lambda _: []),
        *(
            _base(getattr(pathlib, name), lambda value: value.parts)
            for name in ("PurePosixPath", "PureWindowsPath", type(pathlib.Path()).__name__)
        ),
        *(_base(getattr(ipaddress, name), lambda value: [str(value)]) for name in _ADDRESSES),
        _base(SecretStr, lambda value: [value.get_secret_value()], own="_secret_value"),
        _base(SecretBytes, lambda value: [value.get_secret_value()], own="_secret_value"),
        _base(AnyUrl, lambda value: [str(value)], own="_url"),
    )
}
_BY_NAME: Mapping[str, Base] = {cls.__name__: base for cls, base in _BASES.items()}


def base_of(cls: type) -> Base | None:
    """The nearest base of a class, if all classes below it are Python code."""
    for candidate in cls.__mro__:
        if (base := _BASES.get(candidate) or _exception(candidate)) is not None:
            return base
        if not candidate.__flags__ & _HEAP_TYPE:
            return None
    return None


def is_base(cls: type) -> bool:
    return cls in _BASES or _exception(cls) is not None


def base_named(name: str) -> Base | None:
    return _BY_NAME.get(name) or _exception(getattr(builtins, name, object))


def attributes(value: Any, base: type = object) -> dict[str, Any]:
    """What the instance holds beyond its base: slots and `__dict__`, without what is computed when it is asked for."""
    cls = type(value)
    found: dict[str, Any] = {}
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        slots = vars(owner).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{owner.__name__.lstrip('_')}{name}" if name[:2] == "__" != name[-2:] else name
            if name not in ("__dict__", "__weakref__") and (item := _held(value, mangled)) is not _NOTHING:
                found[mangled] = item
    held = _held(value, "__dict__")
    return found if held is _NOTHING else found | kept(cls, held)


def _held(value: Any, name: str) -> Any:
    """An attribute without the class's own `__getattribute__` and `__getattr__`."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return _NOTHING


def kept(cls: type, held: dict[str, Any]) -> dict[str, Any]:
    """An instance's `__dict__` without its cached properties: whether one was asked for says nothing about it."""
    computed = _computed(cls)
    return {name: item for name, item in held.items() if name not in computed} if computed else held


@lru_cache(maxsize=4096)
def _computed(cls: type) -> frozenset[str]:
    return frozenset(
        name for owner in cls.__mro__ for name, item in vars(owner).items() if isinstance(item, cached_property)
    )


def has_plain_zone(value: datetime | time) -> bool:
    """Says whether ISO 8601 says all about it: no zone or a fixed offset without a name, and no second hour."""
    zone = value.tzinfo
    return not value.fold and (zone is None or (type(zone) is timezone and len(zone.__getinitargs__()) == 1))  # type: ignore[attr-defined]  # typeshed lacks it


def _exception(cls: type) -> Base | None:
    """An exception of Python's own: its text, number and file, without traceback and cause."""
    if not (issubclass(cls, BaseException) and cls.__module__ == "builtins"):
        return None
    return Base(cls, lambda value: list(cls.__reduce__(value)[1]), constructed(cls))
