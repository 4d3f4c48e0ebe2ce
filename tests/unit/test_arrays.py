"""Arrays and scalars of numpy, with a stand-in that has its names."""

import sys

import pytest

from app.errors import UnstorableValue
from tests.values import fake_numpy
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Codec:
    monkeypatch.setitem(sys.modules, "numpy", fake_numpy)
    return Codec(ExactSerializer())


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_comes_back_with_type_shape_and_order(codec: Codec, order: str) -> None:
    value = fake_numpy.ndarray([1.0, 2.0, 3.0, 4.0, 5.0, float("inf")], (2, 3), order=order)
    assert codec.decode(codec.encode({"x": [value]})) == {"x": [value]}


def test_a_scalar_comes_back_as_one(codec: Codec) -> None:
    back = codec.decode(codec.encode(fake_numpy.float64(2.5)))
    assert type(back) is fake_numpy.float64
    assert back == 2.5


def test_an_array_of_objects_is_refused(codec: Codec) -> None:
    value = fake_numpy.ndarray([None], (1,), fake_numpy.dtype("|O"))
    with pytest.raises(UnstorableValue, match=r"at x: an array of .* cannot be stored; use a dtype of numbers"):
        codec.encode({"x": value})


def test_without_numpy_an_array_is_not_read(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = codec.encode(fake_numpy.float64(1))
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(UnstorableValue, match="numpy's, which is not installed here"):
        codec.decode(encoded)
