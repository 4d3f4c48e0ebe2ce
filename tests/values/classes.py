"""Classes of all kinds, as modules of workflows have them; they stand in no schema."""

import dataclasses
from collections import OrderedDict, deque
from datetime import date
from enum import Enum, Flag, IntEnum, StrEnum
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pydantic.dataclasses
import pydantic.v1
from pydantic import (
    AwareDatetime,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    RootModel,
    SecretStr,
)

T = TypeVar("T")


class Colour(Enum):
    RED = ("red", 1)
    ODD = object()


class Size(IntEnum):
    SMALL = 1


class NodeName(StrEnum):
    WRITER = "writer"


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: tuple[int, ...]


class MarkedPoint(Point):
    """A named tuple that takes attributes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    parts: tuple[Any, ...]
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Question:
    text: str
    choices: list[str]
    hint: dataclasses.InitVar[str] = ""

    def __post_init__(self, hint: str) -> None:
        self.shown = self.text + hint

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()


@dataclasses.dataclass
class Chain:
    after: Any = None


@dataclasses.dataclass
class TypedError(Exception):
    """A dataclass and an exception."""

    code: int


@pydantic.dataclasses.dataclass
class Checked:
    when: date


@attrs.define(frozen=True)
class Slotted:
    x: int
    y: list[int]


@attrs.define(slots=False)
class Loose:
    x: int


class Address(BaseModel):
    street: str


class Person(BaseModel):
    """As an answer of a model: its fields' set, its private attributes and extra fields are parts of it."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(alias="fullName")
    homes: list[Address] = []
    born: date | None = None
    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

    @cached_property
    def initials(self) -> str:
        return self.name[:1]


class Box(BaseModel, Generic[T]):
    held: T


class Names(RootModel[list[str]]):
    pass


class Meeting(BaseModel):
    at: AwareDatetime
    link: HttpUrl
    key: SecretStr
    size: ByteSize


class Strict(BaseModel):
    """Its validator would refuse what was set afterwards."""

    n: int = Field(gt=0)


class Old(pydantic.v1.BaseModel):
    n: int
    names: set[str] = set()


class Special(str):
    __slots__ = ("_note",)
    _note: str


class Marked(str):
    """Text with attributes, and a constructor that takes more."""

    source: str

    def __new__(cls, text: str, source: str) -> "Marked":
        made = super().__new__(cls, text)
        made.source = source
        return made


class Metres(float):
    pass


class Count(int):
    pass


class Blob(bytes):
    pass


class Bag(dict[str, Any]):
    def __setitem__(self, key: str, item: Any) -> None:
        raise AssertionError("reading runs no code of the class")


class Rows(list[Any]):
    pass


class Pair(tuple[Any, ...]):
    __slots__ = ()


class Tags(set[str]):
    pass


class Recent(deque[int]):
    pass


class Ordered(OrderedDict[str, int]):
    pass


class Failure(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"failed with {code}")
        self.code = code


class Outer:
    class Inner(BaseModel):
        n: int
