"""The states of random graphs: the same channels as a TypedDict, a dataclass and a pydantic model."""

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langgraph.channels import UntrackedValue
from langgraph.graph.message import add_messages
from langgraph.managed import IsLastStep, RemainingSteps
from pydantic import BaseModel

from tests.fuzz.description import Reads, Schema


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {**left, **{name: (left.get(name), value) for name, value in right.items()}}


def larger(left: int, right: int) -> int:
    return max(left, right)


def last_messages(left: list[Any], right: Any) -> list[Any]:
    """Wraps add_messages, as people do who keep a window of messages."""
    added = add_messages(left, right)
    assert isinstance(added, list)
    return added[-6:]


class Typed(TypedDict, total=False):
    turns: Annotated[int, operator.add]
    seen: Annotated[list[Any], operator.add]
    items: Annotated[list[Any], operator.add]
    messages: Annotated[list[Any], add_messages]
    window: Annotated[list[Any], last_messages]
    merged: Annotated[dict[str, Any], merged]
    best: Annotated[int, larger]
    last: Any
    scratch: Annotated[int, UntrackedValue]


@dataclass
class Dataclass:
    turns: Annotated[int, operator.add] = 0
    seen: Annotated[list[Any], operator.add] = field(default_factory=list)
    items: Annotated[list[Any], operator.add] = field(default_factory=list)
    messages: Annotated[list[Any], add_messages] = field(default_factory=list)
    window: Annotated[list[Any], last_messages] = field(default_factory=list)
    merged: Annotated[dict[str, Any], merged] = field(default_factory=dict)
    best: Annotated[int, larger] = 0
    last: Any = None
    scratch: Annotated[int, UntrackedValue] = 0


class Pydantic(BaseModel):
    turns: Annotated[int, operator.add] = 0
    seen: Annotated[list[Any], operator.add] = []
    items: Annotated[list[Any], operator.add] = []
    messages: Annotated[list[Any], add_messages] = []
    window: Annotated[list[Any], last_messages] = []
    merged: Annotated[dict[str, Any], merged] = {}
    best: Annotated[int, larger] = 0
    last: Any = None
    scratch: Annotated[int, UntrackedValue] = 0


class Private(TypedDict, total=False):
    """What only the nodes see that ask for it."""

    turns: Annotated[int, operator.add]
    secret: Any


class Managed(TypedDict, total=False):
    turns: Annotated[int, operator.add]
    items: Annotated[list[Any], operator.add]
    scratch: Annotated[int, UntrackedValue]
    remaining: RemainingSteps
    is_last: IsLastStep


class SubgraphInput(TypedDict, total=False):
    turns: Annotated[int, operator.add]
    messages: Annotated[list[Any], add_messages]


class SubgraphOutput(TypedDict, total=False):
    turns: Annotated[int, operator.add]
    seen: Annotated[list[Any], operator.add]
    items: Annotated[list[Any], operator.add]
    messages: Annotated[list[Any], add_messages]


STATES: dict[Schema, Any] = {"typed": Typed, "dataclass": Dataclass, "pydantic": Pydantic}
INPUTS: dict[Reads, Any] = {"state": None, "private": Private, "managed": Managed}
