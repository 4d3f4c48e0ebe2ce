"""What ordinary graphs return comes back equal and of the same types, in another process too, or is refused clearly."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any

import orjson
import ormsgpack
import pytest
from hypothesis import given
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, create_model

from app.errors import UnstorableValue
from tests.values import classes, samples
from tests.values.classes import Address, Box, Chain, Colour, Person, Question, Size
from tests.values.identical import identical
from tests.values.samples import SAMPLES
from tests.values.strategies import values
from workers.graph import kinds
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer

codec = Codec(ExactSerializer())
each_sample = pytest.mark.parametrize("value", SAMPLES.values(), ids=SAMPLES)


def read_elsewhere(value: Any) -> Any:
    """By a serializer that has written nothing."""
    return Codec(ExactSerializer()).decode(orjson.loads(orjson.dumps(codec.encode(value))))


@pytest.fixture(scope="module")
def other_process() -> Iterator[Callable[[Any], bytes]]:
    """Has another hash seed; takes an encoded value, and gives it as it would be encoded there."""
    seed = {"PYTHONHASHSEED": "4711" if os.environ.get("PYTHONHASHSEED") != "4711" else "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.values.echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        questions, answers = child.stdin, child.stdout
        assert questions is not None
        assert answers is not None

        def echo(encoded: Any) -> bytes:
            questions.write(orjson.dumps(encoded) + b"\n")
            questions.flush()
            return answers.readline().rstrip(b"\n")

        yield echo


@each_sample
def test_each_kind_comes_back_through_json(value: Any, other_process: Callable[[Any], bytes]) -> None:
    assert identical(read_elsewhere(value), value)
    encoded = codec.encode(value)
    assert other_process(encoded) == orjson.dumps(encoded)


@each_sample
def test_each_kind_comes_back_from_a_snapshot(value: Any) -> None:
    data = ExactSerializer().dumps(value)
    assert identical(ExactSerializer().loads(data), value)


@given(value=values)
def test_every_value_comes_back_and_is_written_alike_in_every_process(
    value: Any, other_process: Callable[[Any], bytes]
) -> None:
    encoded = codec.encode(value)
    assert identical(read_elsewhere(value), value)
    assert identical(ExactSerializer().loads(ExactSerializer().dumps(value)), value)
    assert other_process(encoded) == orjson.dumps(encoded)


def _parts(value: Any) -> list[Any]:
    return [value, *value] if isinstance(value, list) else [value]


def test_what_langgraph_keeps_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Its serializer warns of each class that it finds by name."""
    caplog.set_level(logging.ERROR)
    langgraph = JsonPlusSerializer()
    kept = 0
    for value in (part for sample in SAMPLES.values() for part in _parts(sample)):
        try:
            theirs = langgraph.loads_typed(langgraph.dumps_typed(value))
        except TypeError:  # how it says that it has no form for a type
            continue
        if identical(theirs, value):
            kept += 1
            assert identical(read_elsewhere(value), value)
    assert kept > 60


def _below(frames: int, call: Callable[[], Any]) -> Any:
    """Calls with so much of the stack in use, as there is in a worker."""
    return _below(frames - 1, call) if frames else call()


def _holding(step: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = step(value)
    return value


NESTINGS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": value},
    "tuple": lambda value: (value,),
    "pairs": lambda value: {1: value},
    "object": Chain,
}


@pytest.mark.parametrize("depth", [49, 50, 51, 99, 100, 101, 200, 260])
@pytest.mark.parametrize("nesting", ["list", "dict"])
def test_deep_values_are_json_that_is_not_deep(nesting: str, depth: int) -> None:
    value = _holding(NESTINGS[nesting], depth)
    encoded = codec.encode(value)
    assert str(encoded).count("[") + str(encoded).count("{") < 60
    assert _below(200, partial(read_elsewhere, value)) == value


@pytest.mark.parametrize("nesting", ["tuple", "pairs", "object"])
def test_deep_values_of_other_kinds(nesting: str) -> None:
    value = _holding(NESTINGS[nesting], 60)
    assert _below(200, partial(read_elsewhere, value)) == value


@pytest.mark.parametrize("depth", [262, 340, 1000, 20_000])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_what_is_too_deep_is_refused_as_that(nesting: str, depth: int) -> None:
    with pytest.raises(UnstorableValue, match="nested deeper than 260 levels"):
        codec.encode({"x": _holding(NESTINGS[nesting], depth)})


def test_what_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(UnstorableValue, match="holds itself"):
        codec.encode(ring)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (
            {"messages": ["a", "b", AIMessage("c"), ToolMessage("d", tool_call_id="c", artifact=len)]},
            "messages[3].artifact",
        ),
        ({"a b": [{"c": (1, {2: len})}]}, "['a b'][0].c[1][2]"),
        ([Question("x", [len])], "[0].choices[0]"),  # type: ignore[list-item]  # what a graph may do
        ({"x": ValueError(len)}, "x.args[0]"),
        ({"x": {len}}, "x"),
    ],
    ids=["message", "containers", "dataclass", "error", "set"],
)
def test_a_refusal_says_where(value: Any, place: str) -> None:
    with pytest.raises(UnstorableValue) as refused:
        codec.encode(value)
    assert str(refused.value).startswith(f"at {place}: a value of type builtins:builtin_function_or_method cannot be")


class Closed:
    """Nothing can be learnt of it, not even its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_the_place_is_that_of_the_value_and_not_of_what_it_holds() -> None:
    with pytest.raises(UnstorableValue, match=r"^at x\[0\]: a value of type .*Client cannot be stored"):
        codec.encode({"x": [Client()]})
    with pytest.raises(UnstorableValue, match=r"^at x\[0\]: a value of type .*Closed cannot be stored"):
        codec.encode({"x": [Closed()]})


def test_a_private_attribute_that_cannot_be_stored_is_named() -> None:
    person = Person(fullName="x")
    person._seen["lock"] = threading.Lock()
    with pytest.raises(
        UnstorableValue, match=r"at plan\.__pydantic_private__\._seen\.lock: a value of type _thread:lock"
    ):
        codec.encode({"plan": person})


def test_what_was_computed_on_demand_is_no_part_of_a_value() -> None:
    asked, fresh = Question("why not", []), Question("why not", [])
    assert asked.words == ["why", "not"]
    assert codec.encode(asked) == codec.encode(fresh)
    person = Person(fullName="x")
    assert person.initials
    assert codec.encode(person) == codec.encode(Person(fullName="x"))


def test_a_class_of_a_function_is_refused_unless_the_schema_names_it() -> None:
    class Local(BaseModel):
        x: int = 1

    with pytest.raises(
        UnstorableValue, match=r"<locals>\.Local cannot be stored: a class that is made inside of a function"
    ):
        codec.encode(Local())
    with pytest.raises(UnstorableValue, match=r"<locals>\.Local cannot be stored"):
        codec.encode(Box[Local](held=Local()))
    named = Codec(ExactSerializer([Local]))
    for value in (Local(), Box[Local](held=Local())):
        assert identical(Codec(ExactSerializer([Local])).decode(named.encode(value)), value)


def test_a_class_whose_module_holds_another_one_is_refused() -> None:
    with pytest.raises(UnstorableValue, match="its module holds something else under this name"):
        codec.encode(create_model("Address", __module__=Address.__module__)())


def test_a_zone_that_cannot_be_found_again_is_refused() -> None:
    class Odd(samples.dateutil_tz.tzutc):  # type: ignore[misc]  # dateutil has no types
        pass

    with pytest.raises(UnstorableValue, match=r"at at\.tzinfo: a value of type .*Odd cannot be stored"):
        codec.encode({"at": datetime(2026, 1, 1, tzinfo=Odd())})


@pytest.mark.parametrize("member", [Size.SMALL, Colour.RED])
def test_a_member_that_is_gone_is_said(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ExactSerializer().dumps([member])

    class Other(Enum):
        OTHER = 7

    monkeypatch.setattr(classes, type(member).__name__, Other)
    with pytest.raises(UnstorableValue, match="has no longer the member"):
        ExactSerializer().loads(data)


@pytest.mark.parametrize(
    "name", [("subprocess", "Popen"), ("functools", "partial"), ("threading", "Thread"), ("no", "such")]
)
@pytest.mark.parametrize("kind", [kinds.OBJECT, kinds.MEMBER, kinds.BASED])
def test_reading_makes_nothing_but_values(name: tuple[str, str], kind: int) -> None:
    """Whoever writes into the log calls nothing by it."""
    content = ["ls"] if kind == kinds.OBJECT else "ls" if kind == kinds.MEMBER else ["str", ["ls"], {}]
    payload = ormsgpack.packb([ormsgpack.Ext(kinds.TUPLE, ormsgpack.packb(list(name))), content])
    with pytest.raises(UnstorableValue, match=rf"{name[1]} is not (known|among)"):
        ExactSerializer().loads(ormsgpack.packb(ormsgpack.Ext(kind, payload)))


def test_a_class_that_has_become_another_is_refused_on_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ExactSerializer().dumps([Address(street="x")])
    monkeypatch.setattr(classes, "Address", classes.Marked)
    with pytest.raises(UnstorableValue, match="no longer what it was"):
        ExactSerializer().loads(data)


@dataclass
class Late:
    x: int


def test_a_module_that_came_after_the_workflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may never have imported it."""
    monkeypatch.delitem(sys.modules, __name__)
    early = Codec(ExactSerializer())
    monkeypatch.undo()
    with pytest.raises(UnstorableValue, match="was not imported when the workflow was loaded"):
        early.encode(Late(1))
    assert identical(codec.decode(codec.encode(Late(1))), Late(1))
    assert codec.encode(Size.SMALL)
