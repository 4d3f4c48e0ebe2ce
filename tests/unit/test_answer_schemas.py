"""Answers against what a question says that it wants."""

import time
from datetime import date
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from app.errors import BadAnswer
from app.sessions.answer_schemas import MAX_FAULTS, MAX_SCHEMA_BYTES, SECONDS, check_answer, storable


class Colour(StrEnum):
    RED = "red"


class Item(BaseModel):
    amount: int | None = None
    due: date
    tag: str = Field(pattern="^[a-z]+$")


class Order(BaseModel):
    items: list[Item]
    colour: Colour = Colour.RED


class Named(TypedDict):
    name: str


ORDER = Order.model_json_schema()
NESTED: dict[str, Any] = {"c": None}
for _ in range(95):
    NESTED = {"c": NESTED}


def refused(schema: Any, answer: Any) -> BadAnswer:
    with pytest.raises(BadAnswer) as caught:
        check_answer(schema, answer)
    assert caught.value.schema == schema
    return caught.value


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (ORDER, {"items": []}),
        (ORDER, {"items": [{"due": "2026-11-03", "tag": "a", "amount": None}], "colour": "red"}),
        (TypeAdapter(Named).json_schema(), {"name": "x"}),
        (TypeAdapter(bool).json_schema(), False),
        ({}, None),
        ({"uniqueItems": True}, [1, True, "1", {"a": 1}]),
        ({"additionalProperties": False, "patternProperties": {"^a": {}}}, {"ab": 1}),
        ({"multipleOf": 0.1}, 0.3),
        ({"multipleOf": 3}, 2**62 * 3),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"c": {"$ref": "#/$defs/n"}}}}}, NESTED),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": False}, 3),
    ],
)
def test_what_fits(schema: Any, answer: Any) -> None:
    check_answer(schema, answer)


@pytest.mark.parametrize(
    ("schema", "answer", "pointer", "said"),
    [
        (ORDER, "approved", "", "'approved' is not of type 'object'"),
        (ORDER, None, "", "None is not of type 'object'"),
        (ORDER, {}, "", "'items' is a required property"),
        (ORDER, {"items": [], "colour": "blue"}, "/colour", "'blue' is not one of ['red']"),
        (ORDER, {"items": [{"due": "soon", "tag": "a"}]}, "/items/0/due", "'soon' is not a 'date'"),
        (ORDER, {"items": [{"due": "2026-11-03", "tag": "A"}]}, "/items/0/tag", "'A' does not match '^[a-z]+$'"),
        ({"multipleOf": 0.1}, 0.35, "", "0.35 is not a multiple of 0.1"),
        ({"multipleOf": 3}, 2**62, "", "4611686018427387904 is not a multiple of 3"),
        ({"properties": {"a/b~": {"type": "null"}}}, {"a/b~": 1}, "/a~1b~0", "1 is not of type 'null'"),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], "", "[{'a': 1}, {'a': 1.0}] has non-unique elements"),
        ({"additionalProperties": False}, {"b": 1}, "", "Additional properties are not allowed: 'b'"),
        ({"additionalProperties": {"type": "null"}}, {"b": 1}, "/b", "1 is not of type 'null'"),
        ({"patternProperties": {"^a": {"type": "null"}}}, {"ab": 1}, "/ab", "1 is not of type 'null'"),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
            3,
            "",
            "3 is less than or equal to the minimum of 3",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(schema: Any, answer: Any, pointer: str, said: str) -> None:
    error = refused(schema, answer)
    assert error.faults == [(pointer, said)]
    assert said in str(error) and pointer in str(error)


def test_of_many_faults_some_are_told_and_each_is_short() -> None:
    error = refused({"items": {"type": "null"}}, ["x" * 10_000] * 1000)
    assert len(error.faults) == MAX_FAULTS
    assert all(len(said) < 400 for _, said in error.faults)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {"a": {"$ref": "#/required/a"}}, "required": ["a"]},
        {"properties": {"a": {"$ref": "#/required/0"}}, "required": ["a"]},
        {"properties": {"a": {"$ref": "#/properties/b/enum/0"}, "b": {"enum": [5]}}},
        {"properties": {"a": {"$id": "http://a.example/a", "$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "null"}}},
        {"unevaluatedProperties": False, "patternProperties": {"(a+)+$": {}}},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}},
        {"pattern": "(?=b)b"},
        True,
    ],
)
def test_a_schema_that_cannot_be_used_refuses_nothing(schema: Any) -> None:
    check_answer(schema, "a" * 50 + "!")
    check_answer(schema, {"a": "a" * 50 + "!"})


SLOW = 5 * SECONDS
"""Beyond that an event loop's thread would be missed; what is tested takes years."""


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50 + "!"),
        ({"additionalProperties": False, "patternProperties": {"^(a+)+$": {}}}, {"a" * 50 + "!": 1}),
        ({"items": {"anyOf": [{"items": {"const": n}} for n in range(1000)]}}, [["x"] * 1000] * 1000),
    ],
)
def test_what_would_take_for_ever_is_refused_soon(schema: Any, answer: Any) -> None:
    began = time.thread_time()
    refused(schema, answer)
    assert time.thread_time() - began < SLOW


def test_a_schema_that_would_take_for_ever_refuses_nothing() -> None:
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(50)}
    began = time.thread_time()
    check_answer({"$ref": "#/$defs/d0", "$defs": {**twice, "d50": {}}}, 1)
    assert time.thread_time() - began < SLOW


@pytest.mark.parametrize(
    "schema", [{"description": "x" * MAX_SCHEMA_BYTES}, {"default": float("nan")}, {"default": object()}, {1: "a"}]
)
def test_a_schema_that_the_log_would_not_take_is_not_kept(schema: Any) -> None:
    assert storable(schema) is None


def test_a_schema_is_kept_as_it_is() -> None:
    assert storable(ORDER) == ORDER
    assert storable(None) is None
