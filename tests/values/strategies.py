"""Nested values of all kinds that a state may hold, for hypothesis."""

import pathlib
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, timedelta, timezone
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Command, Interrupt, Overwrite, Send

from tests.values.classes import (
    Address,
    Blob,
    Box,
    Chain,
    Colour,
    Count,
    Failure,
    Frozen,
    Loose,
    Marked,
    Metres,
    NodeName,
    Old,
    Pair,
    Point,
    Right,
    Rows,
    Size,
    Slotted,
    Tags,
)

_ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=2), "X"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")])
_TEXT = st.text(max_size=5) | st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=5)

leaves: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**80), max_value=2**80)
    | st.integers().map(Count)
    | st.floats()
    | st.floats().map(Metres)
    | st.complex_numbers()
    | st.fractions()
    | _TEXT
    | st.builds(Marked, _TEXT, _TEXT)
    | _TEXT.map(lambda text: AIMessage(text).text)
    | st.binary(max_size=5)
    | st.binary(max_size=5).map(Blob)
    | st.binary(max_size=5).map(bytearray)
    | st.dates()
    | st.datetimes(timezones=_ZONES, allow_imaginary=True)
    | st.times(timezones=_ZONES)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.ip_addresses()
    | st.builds(range, st.integers(), st.integers(), st.integers(min_value=1))
    | st.sampled_from([*Colour, *Size, *NodeName, Right.READ | Right.WRITE, pathlib.Path("a/b"), ZoneInfo("UTC")])
)
_HASHABLE = st.integers() | st.text(max_size=3) | st.dates() | st.sampled_from([*Colour, *NodeName, Fraction(1, 2)])
_KEYS = st.sampled_from(["$langgraph", "a", "\0", "\ud800", 1, 1.5, None, True, (1, "x"), Colour.RED, b"k"]) | _HASHABLE
_NAMES = st.sampled_from(["a", "b", "c"])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(inner, max_size=3)
    pairs = st.dictionaries(_KEYS, inner, max_size=3)
    named = st.dictionaries(_NAMES, inner, max_size=3)
    return (
        items
        | items.map(tuple)
        | items.map(Rows)
        | items.map(Pair)
        | items.map(lambda made: deque(made, maxlen=5))
        | pairs
        | pairs.map(OrderedDict)
        | named.map(lambda made: defaultdict(list, made))
        | st.lists(_HASHABLE, max_size=4).map(Counter)
        | st.frozensets(_HASHABLE | st.frozensets(st.text(max_size=2), max_size=3), max_size=4)
        | st.sets(_HASHABLE | st.tuples(st.text(max_size=2)), max_size=4)
        | st.sets(st.text(max_size=2), max_size=4).map(Tags)
        | st.builds(Point, st.integers(), items.map(tuple))
        | st.builds(Frozen, st.text(max_size=3), items.map(tuple))
        | st.builds(Chain, inner)
        | st.builds(Slotted, st.integers(), items)
        | st.builds(Loose, inner)
        | st.builds(Failure, inner)
        | inner.map(lambda held: Address.model_construct({"street", "more"}, street=held))
        | inner.map(lambda held: Box[Any](held=held))
        | st.builds(Old, n=st.integers(), names=st.sets(st.text(max_size=2), max_size=3))
        | st.builds(Document, st.text(max_size=3), metadata=named)
        | named.map(lambda args: AIMessage("", tool_calls=[{"name": "t", "args": args, "id": "c"}]))
        | st.builds(ToolMessage, st.text(max_size=3), tool_call_id=st.just("c"), artifact=inner)
        | st.builds(Command, update=inner, goto=st.builds(Send, st.text(max_size=3), inner))
        | st.builds(Interrupt, inner, id=st.just("1"))
        | st.builds(Overwrite, inner)
    )


values = st.recursive(leaves, _containers, max_leaves=12)
