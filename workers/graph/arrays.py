"""Arrays and scalars of numpy, which is no requirement: it is asked for only where a value of it is met."""

import importlib
import sys
from typing import Any

from app.errors import UnstorableValue


def is_array(cls: type) -> bool:
    """Says whether it is numpy's array or one of its scalars; subclasses of arrays are not."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and (cls is numpy.ndarray or issubclass(cls, numpy.generic))


def taken(value: Any) -> list[Any]:
    """Type, shape, order and bytes; the shape of a scalar is None."""
    numpy = sys.modules["numpy"]
    name = value.dtype.str
    if value.dtype.hasobject or numpy.dtype(name) != value.dtype:
        raise UnstorableValue(
            f"an array of {value.dtype} cannot be stored; use a dtype of numbers, dates or text, or a list"
        )
    if not isinstance(value, numpy.ndarray):
        return [name, None, "C", value.tobytes()]
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return [name, list(value.shape), order, value.tobytes(order=order)]


def made(content: list[Any]) -> Any:
    """Raises UnstorableValue where numpy is not installed."""
    name, shape, order, data = content
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as error:
        raise UnstorableValue("the value is numpy's, which is not installed here") from error
    flat = numpy.frombuffer(data, dtype=numpy.dtype(name))
    if shape is None:
        return flat[0]
    return flat.reshape(shape, order=order).copy(order="K")  # the bytes of the log are read-only
