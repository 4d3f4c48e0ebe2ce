"""The call of append_events: its arguments as Postgres' binary arrays, and what it answers.

psycopg's own dumper looks at every value in Python, which cost 6 µs for one event's ten columns; this takes 2. Each
array is written with a cast that names its type: `%b::uuid[]`.
"""

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from app.errors import InvalidEvent, LeaseLost, StellwerkError, StreamClosed
from app.events.encoding import Item, Recorded

T = TypeVar("T")

SALT_BYTES = 16


_INT32 = struct.Struct("!i")
_HEADER = struct.Struct("!iiIii")
"""Dimensions, whether there may be nulls, the elements' type; then of the one dimension its length and first index."""
_NULL = _INT32.pack(-1)


class Array(bytes):
    """A parameter that goes out as it is."""


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Array:
        return obj


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def uuids(values: Sequence[UUID | None]) -> Array:
    return _array("uuid", len(values), _repeating(values, lambda value: value.bytes))


def texts(values: Sequence[str | None]) -> Array:
    """Encodes values most of which are alike."""
    return _array("text", len(values), _repeating(values, str.encode))


def various_texts(values: Sequence[str]) -> Array:
    return _array("text", len(values), [_element(value.encode()) for value in values])


def integers(values: Sequence[int | None]) -> Array:
    return _array("int4", len(values), _repeating(values, _integer))


def byteas(values: Sequence[bytes]) -> Array:
    return _array("bytea", len(values), [_element(value) for value in values])


def _array(element_type: str, length: int, elements: Iterable[bytes]) -> Array:
    oid = psycopg.adapters.types[element_type].oid
    return Array(_HEADER.pack(1, 1, oid, length, 1) + b"".join(elements))


def _element(content: bytes) -> bytes:
    return _INT32.pack(len(content)) + content


def _integer(value: int) -> bytes:
    try:
        return _INT32.pack(value)
    except struct.error as error:
        raise psycopg.DataError(f"{value} does not fit into a column: {error}") from None


def _repeating(values: Iterable[T | None], content: Callable[[T], bytes]) -> Iterable[bytes]:
    return map(_Elements(content).__getitem__, values)


class _Elements(dict[T | None, bytes]):
    """The element of each value, made once."""

    def __init__(self, content: Callable[[T], bytes]) -> None:
        super().__init__({None: _NULL})
        self._content = content

    def __missing__(self, value: T) -> bytes:
        element = self[value] = _element(self._content(value))
        return element


class Answer(NamedTuple):
    """What append_events said of one item."""

    status: Literal["appended", "duplicate", "fenced", "closed", "invalid"]
    offset: int | None
    ts: datetime | None
    detail: str | None

    def error(self) -> StellwerkError | None:
        match self.status:
            case "appended" | "duplicate":
                return None
            case "fenced":
                return LeaseLost()
            case "closed":
                return StreamClosed()
            case "invalid":
                return InvalidEvent(self.detail)


APPEND = (
    "SELECT * FROM append_events(%b::uuid, %b::bigint, %b::uuid[], %b::text[], %b::text[], %b::text[],"
    " %b::text[], %b::integer[], %b::integer[], %b::uuid[], %b::text[], %b::bytea[])"
)


async def call_append(
    connection: psycopg.AsyncConnection[Any],
    items: Sequence[Item],
    *,
    writer: UUID | None = None,
    call_no: int | None = None,
) -> list[Answer]:
    """One round trip. A call repeated with the same `writer` and `call_no` gets the first one's answer."""
    cursor = await connection.execute(APPEND, arguments(items, writer, call_no), binary=True)
    return [Answer(*row) for row in await cursor.fetchall()]


def columns(items: Sequence[Item]) -> tuple[Array, ...]:
    """What append_all takes of events for one stream: data, t, agents, phases, steps, attempts and salts."""
    return (
        various_texts([i.data for i in items]),
        texts([i.t for i in items]),
        texts([i.agent for i in items]),
        texts([i.phase for i in items]),
        integers([i.step for i in items]),
        integers([i.attempt for i in items]),
        byteas(salts(len(items))),
    )


def salts(count: int) -> list[bytes]:
    """One for each event."""
    drawn = os.urandom(SALT_BYTES * count)
    return [drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)]


def arguments(items: Sequence[Item], writer: UUID | None, call_no: int | None) -> tuple[Any, ...]:
    data, *columns_beside, salts_of_items = columns(items)
    return (
        writer,
        call_no,
        uuids([i.stream_id for i in items]),
        data,
        *columns_beside,
        uuids([i.lease for i in items]),
        texts([i.dedupe_key for i in items]),
        salts_of_items,
    )


def recorded(entry: Item, answer: Answer) -> Recorded:
    assert answer.offset is not None and answer.ts is not None
    return Recorded(
        entry.stream_id, entry.kind, answer.offset, answer.ts, entry.t, entry.agent, entry.phase, entry.data
    )


def numbered(items: Sequence[Item], first_offset: int, ts: datetime) -> list[Recorded]:
    """What was appended in one go from `first_offset` on, as append_all answers it."""
    return [recorded(entry, Answer("appended", offset, ts, None)) for offset, entry in enumerate(items, first_offset)]
