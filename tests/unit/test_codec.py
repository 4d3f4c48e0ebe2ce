"""Values come back from events equal and of identical types, or are refused."""

import dataclasses
import ipaddress
import math
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Command, Overwrite, Send
from pydantic import BaseModel

from app.errors import UnstorableValue
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer


class Colour(Enum):
    RED = ("red", 1)


class Size(IntEnum):
    SMALL = 1


class Kind(StrEnum):
    PLAIN = "plain"


class Point(NamedTuple):
    x: int
    y: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    parts: tuple[Any, ...]
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Open:
    items: list[Any]

    def __post_init__(self) -> None:
        self.size = len(self.items)


class Model(BaseModel):
    anything: Any
    when: date | None = None


TYPES = (Colour, Size, Kind, Point, Frozen, Open, Model)
codec = Codec(ExactSerializer(TYPES))


def round_trip(value: Any) -> Any:
    """Decoded by another codec, as in another process."""
    return Codec(ExactSerializer(TYPES)).decode(orjson.loads(orjson.dumps(codec.encode(value))))


def identical(a: Any, b: Any) -> bool:
    """Equal, of the same type, all the way down; NaN is identical to NaN."""
    if type(a) is not type(b):
        return False
    match a:
        case float():
            return repr(a) == repr(b)
        case dict():
            return len(a) == len(b) and all(
                identical(*keys) and identical(a[keys[0]], b[keys[1]]) for keys in zip(a, b, strict=True)
            )
        case list() | tuple() | deque():
            return len(a) == len(b) and all(map(identical, a, b))
        case set() | frozenset():
            return bool(a == b) and sorted(map(repr, a)) == sorted(map(repr, b))
        case Command():
            return identical(dataclasses.astuple(a), dataclasses.astuple(b))
        case Send():
            return a.node == b.node and identical(a.arg, b.arg) and a.timeout == b.timeout
        case Frozen() | Open():
            names = [field.name for field in dataclasses.fields(a)]
            return all(identical(getattr(a, name), getattr(b, name)) for name in names)
        case Model():
            return identical(a.__dict__, b.__dict__) and a.model_fields_set == b.model_fields_set
    return bool(a == b)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**80), max_value=2**80)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "L"]))
    | st.binary()
    | st.binary().map(bytearray)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.ip_addresses()
    | st.sampled_from([*Colour, *Size, *Kind, pathlib.Path("a/b"), re.compile("a+", re.IGNORECASE)])
)
keys = st.sampled_from(["$langgraph", "a", "\0", "\ud800", 1, 1.5, None, True, (1, "x"), Colour.RED, b"k"])


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(inner, max_size=3)
    return (
        items
        | items.map(tuple)
        | items.map(lambda made: deque(made, maxlen=5))
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text() | st.dates(), max_size=3)
        | st.sets(st.integers() | st.tuples(st.text()), max_size=3)
        | st.builds(Point, st.integers(), items.map(tuple))
        | st.builds(Frozen, st.text(), items.map(tuple))
        | st.builds(Open, items)
        | st.builds(Model, anything=inner)
        | st.builds(Command, update=inner, goto=st.builds(Send, st.text(), inner))
    )


@given(st.recursive(leaves, containers, max_leaves=12))
def test_every_value_comes_back_identical(value: Any) -> None:
    assert identical(round_trip(value), value)


@pytest.mark.parametrize(
    "value",
    [
        {"$langgraph": ["msgpack", "AAAA"]},
        [{"deep": {"$langgraph": None, "other": (1,)}}],
        {"messages": [AIMessage("hi", id="1", tool_calls=[{"name": "t", "args": {"x": 1}, "id": "c"}])]},
        ToolMessage("done", tool_call_id="c", artifact=(1, 2)),
        [Command(goto=["a", Send("b", {"n": (1,)})]), Command(update=[("x", 1)]), {"plain": 1}, None],
        Send("node", None, timeout=timedelta(seconds=3)),
        Overwrite([1]),
        OrderedDict(b=(1,), a=2),
        Counter("abca"),
        {"at": time(1, 2, 3), "took": timedelta(days=1), "by": uuid.UUID(int=7), "of": Decimal("1.10")},
        ipaddress.ip_network("10.0.0.0/8"),
        pathlib.Path("a/b"),
        re.compile("x+"),
        2**64 - 1,
        -0.0,
    ],
    ids=repr,
)
def test_values_that_need_care(value: Any) -> None:
    back = round_trip(value)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


def test_a_defaultdict_keeps_its_factory() -> None:
    back = round_trip(defaultdict(list, {"a": [1]}))
    assert back == {"a": [1]}
    assert back.default_factory is list
    with pytest.raises(UnstorableValue):
        codec.encode(defaultdict(lambda: 3))


def test_equal_sets_are_written_alike_whatever_order_they_are_in() -> None:
    """A rebuilt state is compared as it is written; pydantic keeps a set in every model."""
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    assert codec.encode(one) == codec.encode(other)
    assert codec.encode(frozenset(one)) == codec.encode(frozenset(other))


def test_what_json_keeps_stays_readable_and_only_the_rest_is_tagged() -> None:
    encoded = codec.encode({"a": [1, 2.5, "x", None, True], "b": {"c": (1, 2)}})
    assert encoded["a"] == [1, 2.5, "x", None, True]
    assert list(encoded["b"]["c"]) == ["$langgraph"]


def test_nothing_that_the_log_refuses_is_left_in_the_json() -> None:
    data = orjson.dumps(codec.encode(["a\0b", "\udc80", math.nan, {"\0": 1}])).decode()
    assert "\\u0000" not in data
    assert "NaN" not in data


class Texts(UserDict[str, str]):
    pass


class Special:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize("value", [Texts(), Special(), object(), len, iter([]), memoryview(b"x"), Special])
def test_other_types_are_refused_by_name_not_degraded(value: Any) -> None:
    with pytest.raises(UnstorableValue, match=type(value).__qualname__):
        codec.encode({"x": [value]})


def test_reading_runs_no_constructor() -> None:
    value = Open([1, 2])
    value.items.append(3)
    assert round_trip(value).size == 2
    model = Model.model_construct(anything=1, when="not a date")  # type: ignore[arg-type]  # a model that nobody validated
    assert round_trip(model).when == "not a date"


def test_datetimes_of_zones() -> None:
    value = datetime(2026, 1, 1, tzinfo=UTC)
    assert round_trip(value) == value
