"""Logs are for ever: what the first release wrote is read as it was meant, and is written in the same way."""

import re
from base64 import b64decode
from collections import deque
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PosixPath
from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage
from langgraph.types import Command, Send

from tests import values
from tests.values.classes import Address, Colour, Frozen, NodeName, Point, Question
from tests.values.identical import identical
from workers.graph.serializer import ExactSerializer

_VALUES: dict[str, Any] = {
    "text": ["\ud800"],
    "number": [2**70],
    "tuple": [(1, (2,))],
    "pairs": [{1: {"a"}}],
    "collections": [deque([1], maxlen=2), bytearray(b"x"), frozenset({3})],
    "objects": [
        Point(1, (2,)),
        Frozen("x", (1,)),
        NodeName.WRITER,
        Colour.RED,
        Address(street="x"),
        Question("why", ["a"]),
    ],
    "langgraph": [AIMessage("c", id="1"), Send("n", {"x": (1,)}), Command(goto="a")],
    "leaves": [
        datetime(2026, 1, 1, tzinfo=UTC),
        date(2026, 1, 1),
        PosixPath("a/b"),
        re.compile("a"),
        Decimal("1.10"),
    ],
}
_WRITTEN = orjson.loads((Path(values.__file__).parent / "of_before.json").read_bytes())
_CASES = [
    pytest.param(value, b64decode(written), id=f"{name} {index}")
    for name, held in _VALUES.items()
    for index, (value, written) in enumerate(zip(held, _WRITTEN[name], strict=True))
]


@pytest.mark.parametrize(("value", "written"), _CASES)
def test_what_was_written_before_is_read(value: Any, written: bytes) -> None:
    assert identical(ExactSerializer().loads(written), value)


@pytest.mark.parametrize(("value", "written"), _CASES)
def test_it_is_still_written_alike(value: Any, written: bytes) -> None:
    """So a worker of the release before reads it, and a rebuilt state is the same."""
    if value is not Colour.RED:  # by its name today, since a value need not be one that can be stored
        assert ExactSerializer().dumps(value) == written
