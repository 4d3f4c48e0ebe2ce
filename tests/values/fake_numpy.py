"""What the serializer asks of numpy, as far as arrays of doubles need it: numpy is no requirement of the tests."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

__all__ = ["dtype", "frombuffer", "generic", "ndarray"]


@dataclass(frozen=True)
class dtype:  # noqa: N801 - numpy's names
    str: str

    @property
    def hasobject(self) -> bool:
        return self.str == "|O"


DOUBLE = dtype("<f8")


class generic:  # noqa: N801
    pass


class float64(float, generic):  # noqa: N801
    dtype = DOUBLE

    def tobytes(self) -> bytes:
        return array("d", [self]).tobytes()


@dataclass(frozen=True)
class Flags:
    f_contiguous: bool
    c_contiguous: bool


@dataclass
class ndarray:  # noqa: N801
    data: list[Any]
    shape: tuple[int, ...]
    dtype: dtype = DOUBLE
    order: str = "C"

    @property
    def flags(self) -> Flags:
        return Flags(self.order == "F", self.order == "C")

    def tobytes(self, order: str) -> bytes:
        assert order == self.order
        return array("d", self.data).tobytes()

    def reshape(self, shape: Sequence[int], order: str) -> "ndarray":
        assert prod(shape) == len(self.data)
        return ndarray(self.data, tuple(shape), self.dtype, order)

    def copy(self, order: str) -> "ndarray":
        assert order == "K"
        return ndarray([*self.data], self.shape, self.dtype, self.order)

    def __getitem__(self, index: int) -> float64:
        return float64(self.data[index])


def frombuffer(data: bytes, dtype: dtype) -> ndarray:
    numbers = array("d")
    numbers.frombytes(data)
    return ndarray([*numbers], (len(numbers),), dtype)
