"""A value of each kind that ordinary graphs return, by name."""

import importlib
import ipaddress
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal
from zoneinfo import ZoneInfo

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langgraph.store.base import Item
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy
from pydantic import (
    AnyUrl,
    HttpUrl,
    SecretBytes,
    SecretStr,
)

from tests.values.classes import (
    Address,
    Bag,
    Blob,
    Box,
    Chain,
    Checked,
    Colour,
    Count,
    Failure,
    Frozen,
    Loose,
    Marked,
    MarkedPoint,
    Meeting,
    Metres,
    Names,
    NodeName,
    Old,
    Ordered,
    Outer,
    Pair,
    Person,
    Point,
    Question,
    Recent,
    Right,
    Rows,
    Size,
    Slotted,
    Special,
    Strict,
    Tags,
    TypedError,
)

dateutil_tz: Any = importlib.import_module("dateutil.tz")  # celery brings it, without types


def _with_note(error: Exception) -> Exception:
    error.add_note("seen twice")
    return error


def _person() -> Person:
    person = Person.model_validate({"fullName": "Ada", "homes": [{"street": "x"}], "age": 36})
    person._seen["at"] = (1, 2)
    return person


def _special() -> Special:
    made = Special("x")
    made._note = "n"
    return made


def _marked_point() -> MarkedPoint:
    made = MarkedPoint(1, (2,))
    made.note = "n"  # type: ignore[attr-defined]  # what a class without slots takes
    return made


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _chain(length: int) -> Any:
    value: Any = None
    for _ in range(length):
        value = Chain(value)
    return value


_AUTUMN = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

SAMPLES: Mapping[str, Any] = {
    "text of a message": AIMessage("hello").text,
    "result of StrOutputParser": StrOutputParser().invoke(AIMessage("hello")),
    "str with a slot": _special(),
    "str with attributes": Marked("x", "y"),
    "int": Count(3),
    "float": Metres(2.5),
    "bytes": Blob(b"x"),
    "dict": Bag(a=(1,)),
    "list": Rows([1, (2,)]),
    "tuple": Pair((1, [2])),
    "set": Tags({"b", "a", "c"}),
    "deque": Recent([1, 2], maxlen=3),
    "OrderedDict": Ordered(b=1, a=2),
    "document": Document("text", metadata={"page": 1, "at": date(2026, 1, 1)}, id="d"),
    "documents": {"docs": [Document("a"), Document("b")]},
    "messages": [
        HumanMessage("a", id="1"),
        SystemMessage([{"type": "text", "text": "b"}]),
        AIMessage("c", tool_calls=[ToolCall(name="t", args={"x": 1}, id="c", type="tool_call")]),
        AIMessageChunk(content="d", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        ToolMessage("e", tool_call_id="c", artifact={"kept": (1, 2)}),
        RemoveMessage(id="1"),
    ],
    "prompt values": [StringPromptValue(text="x"), ChatPromptValue(messages=[HumanMessage("x")])],
    "prompt": ChatPromptTemplate.from_messages([("user", "hi")]).invoke({}),
    "agents' steps": [AgentAction("t", {"x": 1}, "log"), AgentFinish({"output": 1}, "log")],
    "outputs": [
        ChatGeneration(message=AIMessage("x")),
        ChatResult(generations=[]),
        LLMResult(generations=[[ChatGeneration(message=AIMessage("x"))]]),
    ],
    "model": _person(),
    "model in a list": [Address(street="x")],
    "model that nobody validated": Strict.model_construct(n=-1),
    "nested class": Outer.Inner(n=1),
    "generic": Box[Address](held=Address(street="x")),
    "generics of all kinds": [
        Box[int](held=1),
        Box[list[Address]](held=[Address(street="x")]),
        Box[int | None](held=None),
        Box[Literal["a", "b"]](held="a"),
        Box[dict[str, Any]](held={"x": (1,)}),
        Box[Box[Address]](held=Box[Address](held=Address(street="x"))),
        Box(held=1),
    ],
    "root model": Names(["a"]),
    "model of pydantic's types": Meeting.model_validate_json(
        '{"at": "2026-01-01T00:00:00+01:00", "link": "https://a.example/x?y=1", "key": "secret", "size": "3KiB"}'
    ),
    "model of pydantic 1": Old(n=1, names={"b", "a"}),
    "secrets": [SecretStr("x"), SecretBytes(b"x")],
    "url": [AnyUrl("ftp://a/b"), HttpUrl("https://a.example")],
    "dataclass": Question("why not", ["a"], "?"),
    "frozen dataclass with slots": Frozen("x", (1, [2])),
    "pydantic dataclass": Checked(date(2026, 1, 1)),
    "attrs": [Slotted(1, [2]), Loose(1)],
    "named tuple": Point(1, (2,)),
    "named tuple with attributes": _marked_point(),
    "members": [*Colour, *Size, *NodeName, Right.READ, Right.READ | Right.WRITE],
    "dict of members": {NodeName.WRITER: 1, Size.SMALL: 2},
    "goto of a member": Command(goto=[NodeName.WRITER, Send(NodeName.WRITER, {"x": Point(1, ())})]),
    "paths": [
        pathlib.Path("a/b"),
        pathlib.Path("/"),
        pathlib.Path(),
        pathlib.PurePosixPath("a/../b"),
        pathlib.PureWindowsPath("c:\\x\\y"),
        pathlib.PureWindowsPath("\\\\host\\share\\x"),
    ],
    "fraction": Fraction(1, 3),
    "complex": complex(1, -0.0),
    "range": range(1, 10, 2),
    "slice": slice(1, None, (2,)),
    "decimals": [Decimal("1.10"), Decimal("-0"), Decimal("Infinity")],
    "uuid": uuid.UUID(int=7),
    "zone": _AUTUMN,
    "second hour": _AUTUMN.replace(fold=1),
    "times of zones": [
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=1))),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(2026, 1, 1, tzinfo=dateutil_tz.tzutc()),
        datetime(2026, 1, 1, tzinfo=dateutil_tz.tzoffset("X", 3600)),
        datetime(2026, 1, 1, fold=1),  # noqa: DTZ001 - without a zone is a kind, too
        time(1, 2, 3, 4, tzinfo=UTC),
        time(1, tzinfo=ZoneInfo("Asia/Tokyo"), fold=1),
        ZoneInfo("Asia/Tokyo"),
        timedelta(days=-1, microseconds=3),
    ],
    "addresses": [
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_interface("10.0.0.1/8"),
        ipaddress.ip_network("fe80::/64"),
        ipaddress.IPv6Address("fe80::1%eth0"),
    ],
    "patterns": [re.compile("a+", re.IGNORECASE), re.compile(b"\xff")],
    "errors": [ValueError("x", (1,)), KeyError("k"), Failure(3), TypedError(3), _with_note(OSError("x"))],
    "errors that Python makes": [
        FileNotFoundError(2, "No such file", "/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
        ExceptionGroup("many", [ValueError(1), KeyError("x")]),
    ],
    "langgraph": [
        Interrupt("why", id="1"),
        Interrupt(Question("why", []), id="2"),
        Send("node", {"x": (1,)}, timeout=timedelta(seconds=3)),
        Command(update={"x": Address(street="y")}, resume={"a": 1}, graph=Command.PARENT),
        Overwrite([1]),
        TimeoutPolicy(run_timeout=3),
    ],
    "item of a store": Item(
        value={"a": 1},
        key="k",
        namespace=("a", "b"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    "sets": [{"b", "a", "c"}, frozenset({(1, "x"), (2, "y")}), {frozenset({"x", "y"}): 1}, {date(2026, 1, 1), 3, "a"}],
    "containers": [deque([1], maxlen=2), OrderedDict(b=1), Counter("abca"), defaultdict(list, a=[1]), bytearray(b"x")],
    "numbers": [2**64, -(2**70), 2**63, 1e300, float("inf"), float("nan"), -0.0, True],
    "texts": ["a\0b", "\udc80", "ü", "$langgraph"],
    "tag": {"$langgraph": ["msgpack", "AAAA"]},
    "deep list": _nested(254),
    "deep objects": _chain(60),
}
