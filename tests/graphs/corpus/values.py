"""Values of all types that LangGraph's own serializer keeps: here they come back equal and of the same type."""

import dataclasses
import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import Item
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = ("b", 1)


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Text(str):
    """A text that carries more."""

    __slots__ = ()


class Names(dict[str, Any]):
    """A dict of its own class."""


class Items(list[Any]):
    """A list of its own class."""


class Point(NamedTuple):
    x: int
    y: Any = None


@dataclasses.dataclass
class Note:
    text: str
    at: Any = None
    marks: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    key: str
    tags: frozenset[str] = frozenset()


class Plan(BaseModel):
    steps: list[str]
    due: date | None = None
    parts: dict[str, "Plan"] = Field(default_factory=dict)
    _secret: int = PrivateAttr(default=3)


class Loose(BaseModel, extra="allow"):
    name: str


class Box(BaseModel, Generic[T]):
    content: T


class Key(BaseModel):
    token: SecretStr


BERLIN = ZoneInfo("Europe/Berlin")

KEPT: dict[str, list[Any]] = {
    "text-of-a-message": [AIMessage("said").text, AIMessage([{"type": "text", "text": "in parts"}]).text],
    "document": [Document("d1", metadata={"i": 1}, id="1"), [Document("nested", metadata={"at": date(2026, 1, 2)})]],
    "pydantic-in-a-list": [
        Plan(steps=["a"], due=date(2026, 3, 4), parts={"p": Plan(steps=[])}),
        {"of": Plan(steps=[])},
    ],
    "pydantic-extra": [Loose(name="n", more=[1, (2, 3)])],
    "generics": [Box[int](content=1), Box[Plan](content=Plan(steps=["x"])), Box[list[Any]](content=[(1,)])],
    "secret": [Key(token=SecretStr("hidden"))],
    "dataclasses": [Note("n", at=datetime(2026, 1, 1, tzinfo=UTC), marks=[Frozen("f", frozenset({"b", "a"}))])],
    "named-tuples": [Point(1, Point(2)), {"p": Point(3, [4])}],
    "subclasses": [Text("text"), Items([1, Text("x")]), Names(a=1)],
    "enums": [Color.RED, Color.BLUE, Level.LOW, Word.YES, {Color.RED: [Level.LOW]}],
    "paths": [Path("/tmp/a"), PurePosixPath("b/c"), Path()],
    "numbers": [Fraction(1, 3), Decimal("1.50"), 2**80, -0.0, float("inf"), True],
    "zones": [datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)],
    "folds": [
        datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001  without a zone
        time(2, 30, fold=1),
        time(1, tzinfo=BERLIN),
    ],
    "dates": [
        date(2026, 1, 1),
        timedelta(days=-1, microseconds=5),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=3))),
    ],
    "zone-itself": [BERLIN, UTC],
    "containers": [(1, (2, [3])), {1, 2}, frozenset({"a"}), deque([1, 2], maxlen=2), OrderedDict(b=1, a=2)],
    "more-containers": [Counter("aab"), defaultdict(list, {"a": [1]}), bytearray(b"x"), {(1, 2): "tuple key", 3: 4}],
    "ids-and-addresses": [
        UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_network("fe80::/10"),
    ],
    "patterns-and-bytes": [re.compile("a+", re.IGNORECASE), b"\x00\xff", "\x00", "\ud800", "🚉"],
    "messages-as-values": [AIMessage("m", id="1", response_metadata={"at": date(2026, 1, 1)}), {"m": [AIMessage("n")]}],
    "items-of-a-store": [
        Item(
            value={"a": 1},
            key="k",
            namespace=("n",),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    ],
    "commands-as-values": [Send("nowhere", {"a": (1,)}), Command(update={"x": {1}})],
}


def kinds(value: Any) -> Any:
    match value:
        case list() | tuple() | set() | frozenset():
            return [type(value).__name__, sorted(str(kinds(item)) for item in value)]
        case dict():
            return [type(value).__name__, [[kinds(key), kinds(item)] for key, item in value.items()]]
        case _:
            return type(value).__name__


def kept(values: list[Any]) -> Graph:
    """Writes the values; tells what a later node finds; hands them to a `Send`."""

    def write(state: Any) -> Log:
        happened("paid")
        return {"log": list(values)}

    def look(state: Any) -> Log:
        return {"log": [[kinds(value) for value in state["log"]], state["log"] == values]}

    def sent(state: Any) -> Log:
        return {"log": [kinds(state["value"]), state["value"] == values]}

    graph = row(Log, write, look)
    graph.add_node("sent", sent)
    graph.add_conditional_edges("look", lambda state: [Send("sent", {"value": list(values)})], ["sent", END])
    return graph


def kept_over_a_question(values: list[Any]) -> Graph:
    def write(state: Any) -> Log:
        return {"log": list(values)}

    def ask(state: Any) -> Log:
        return {"log": [interrupt("go on?"), state["log"] == values]}

    return row(Log, write, ask)


def parsed() -> Graph:
    """A chain that ends in LangChain's parser of text."""
    model: Any = RunnableLambda(lambda state: AIMessage(f"said after {len(state['log'])}"))
    into: Any = RunnableLambda(lambda text: {"log": [text, type(text).__name__]})
    return row(Log, ("chain", model | StrOutputParser() | into), ("again", model | StrOutputParser() | into))


def question_of_a_dataclass() -> Graph:
    def ask(state: Any) -> Log:
        return {"log": [interrupt(Note("really?", at=date(2026, 1, 1)))]}

    return row(Log, ask)


def question_of_a_model() -> Graph:
    def ask(state: Any) -> Log:
        return {"log": [interrupt({"plan": Plan(steps=["s"]), "point": Point(1)})]}

    return row(Log, ask)


class Station(StrEnum):
    FIRST = "first"
    SECOND = "second"


def names_of_an_enum() -> Graph:
    graph: Graph = StateGraph(Log)
    for name in Station:
        graph.add_node(name, lambda state: {"log": [len(state["log"])]})
    graph.add_edge(START, Station.FIRST)
    graph.add_conditional_edges(Station.FIRST, lambda state: Station.SECOND, [Station.SECOND])
    return graph


def command_to_an_enum() -> Graph:
    def leave(state: Any) -> Command[Any]:
        return Command(goto=Station.SECOND, update={"log": [Word.YES]})

    graph: Graph = StateGraph(Log)
    graph.add_node(Station.FIRST, leave, destinations=(Station.SECOND,))
    graph.add_node(Station.SECOND, lambda state: {"log": [type(state["log"][0]).__name__]})
    graph.add_edge(START, Station.FIRST)
    return graph


def each(name: str, graph: Graph, answers: Any = (), **more: Any) -> Case:
    return Case(f"values-{name}", "values", graph, {"log": []}, answers=answers, **more)


CASES = [
    *(each(name, kept(values)) for name, values in KEPT.items()),
    each("over-a-question", kept_over_a_question([(1, 2), {3}, Plan(steps=[]), Text("t"), Fraction(1, 2)]), ["yes"]),
    each("parsed", parsed()),
    each("question-of-a-dataclass", question_of_a_dataclass(), ["yes"]),
    each("question-of-a-model", question_of_a_model(), [{"a": 1}]),
    each("names-of-an-enum", names_of_an_enum()),
    each("command-to-an-enum", command_to_an_enum()),
]
