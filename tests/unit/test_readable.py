"""`readable` takes any value whatever, and what it gives the log takes."""

import dataclasses
import threading
from typing import Any

import orjson
import pytest
from hypothesis import given
from pydantic import BaseModel, computed_field

from app.events.encoding import check_json
from tests.values.samples import SAMPLES
from tests.values.strategies import values
from workers.graph.codec import readable


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("it has none")


class NoAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class NoItems(dict[str, Any]):
    def items(self) -> Any:
        raise OSError("gone")


class Failing(BaseModel):
    x: int = 1

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def y(self) -> int:
        return 1 // 0


@dataclasses.dataclass
class FailingField:
    x: int

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise KeyError(name)
        return object.__getattribute__(self, name)


def _ring() -> list[Any]:
    ring: list[Any] = [1]
    ring += [ring, {"again": ring}]
    return ring


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "no repr": NoRepr(),
    "no attributes": NoAttributes(),
    "no items": NoItems(a=1),
    "no key's repr": {NoRepr(): 1},
    "failing property": Failing(),
    "failing field": FailingField(1),
    "ring": _ring(),
    "deep": _deep(300),
    "very deep": _deep(5000),
    "huge number": 10**5000,
    "huge key": {10**5000: 1},
    "odd keys": {frozenset([1]): 1, (1, 2): 2, None: 3},
    "lock": threading.Lock(),
    "class": NoRepr,
    "function": len,
    "not JSON": [float("nan"), "\0", "\ud800", 2**70, b"\xff"],
    "wide": [{"x": NoRepr()}] * 10_000,
}


@pytest.mark.parametrize("name", [*ODD, *SAMPLES])
def test_whatever_it_is_the_log_takes_its_readable_form(name: str) -> None:
    value = (ODD | {**SAMPLES})[name]  # not a parameter: pytest would look at it
    for asked in (value, {"kept": 1, "odd": [value]}):
        check_json(readable(asked))
        assert orjson.dumps(readable(asked))


@given(values)
def test_what_can_be_stored_is_readable(value: Any) -> None:
    check_json(readable(value))


def test_what_is_beside_an_odd_part_stays_readable() -> None:
    assert readable({"a": [1, (2, "x")], "b": Failing()}) == {
        "a": [1, [2, "x"]],
        "b": "<tests.unit.test_readable.Failing>",
    }
    assert readable(_ring()) == [1, "<builtins.list>", {"again": "<builtins.list>"}]
