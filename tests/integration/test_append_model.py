"""The append function against a model in a few lines of Python: any sequence of calls gets the model's answers."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine, transaction
from app.events import append, arrays, encoding, read
from app.events.proof import entries
from app.events.types import StreamId
from app.sessions.model import new_session_id
from tests.following import set_closed
from tests.roles import as_app, tampering

STREAMS = 3
UNKNOWN = STREAMS
"""The number of a stream that is not there."""


@dataclass(frozen=True)
class Append:
    """One item of a call."""

    stream: int
    message: int
    key: str | None = None
    lease: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class Call:
    items: tuple[Append, ...]


@dataclass(frozen=True)
class SetClosed:
    stream: int
    closed: bool


@dataclass(frozen=True)
class EndLease:
    """The attempt loses its step."""


@dataclass(frozen=True)
class Repeat:
    """The last call again, as after a lost answer."""


appends = st.builds(
    Append,
    stream=st.integers(0, UNKNOWN),
    message=st.integers(0, 2),
    key=st.none() | st.sampled_from("ab"),
    lease=st.none() | st.sampled_from(["held", "other"]),
    broken=st.sampled_from([False, False, False, True]),
)
operations = st.one_of(
    st.builds(Call, st.lists(appends, min_size=1, max_size=6).map(tuple)),
    st.builds(SetClosed, st.integers(0, STREAMS - 1), st.booleans()),
    st.just(EndLease()),
    st.just(Repeat()),
)


@dataclass
class Model:
    """What the log should hold. The lease holds step 1 of stream 0."""

    streams: list[list[str]] = field(default_factory=lambda: [[] for _ in range(STREAMS)])
    closed: list[bool] = field(default_factory=lambda: [False] * STREAMS)
    keys: dict[tuple[int, str], int] = field(default_factory=dict)
    lease_is_held: bool = True

    def append(self, item: Append) -> tuple[str, int | None]:
        if item.stream == UNKNOWN:
            return "invalid", None
        stored = self.streams[item.stream]
        if item.key and (offset := self.keys.get((item.stream, item.key))):
            return ("duplicate", offset) if stored[offset - 1] == data_of(item) else ("invalid", None)
        if self.closed[item.stream]:
            return "closed", None
        if item.lease and not (item.lease == "held" and self.lease_is_held and item.stream == 0):
            return "fenced", None
        if item.broken:
            return "invalid", None
        stored.append(data_of(item))
        if item.key:
            self.keys[item.stream, item.key] = len(stored)
        return "appended", len(stored)


def data_of(item: Append) -> str:
    separator = "\n" if item.broken else ""
    return f'{{"t":"agent_event",{separator}"step":1,"attempt":1,"msg":"{item.message}"}}'


class Real:
    """The same operations on the database."""

    def __init__(self, engine: AsyncEngine, streams: list[StreamId], lease: UUID) -> None:
        self.engine, self.streams, self.lease = engine, streams, lease
        self.writer, self.call_no = uuid4(), 0
        self.items: list[encoding.Item] = []

    async def call(self, items: Sequence[Append]) -> list[tuple[str, int | None]]:
        self.items = [self._item(item) for item in items]
        self.call_no += 1
        return await self.repeat()

    async def repeat(self) -> list[tuple[str, int | None]]:
        return await self._append(self.items, writer=self.writer, call_no=self.call_no)

    async def append_alone(self, item: Append) -> tuple[int, str, int | None]:
        (answer,) = await self._append([self._item(item)])
        return item.stream, *answer

    async def _append(self, items: list[encoding.Item], **numbered: Any) -> list[tuple[str, int | None]]:
        async with transaction(self.engine) as db:
            raw = await db.get_raw_connection()
            connection = cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
            answers = await arrays.call_append(connection, items, **numbered)
        return [(answer.status, answer.offset) for answer in answers]

    def _item(self, item: Append) -> encoding.Item:
        leases = {None: None, "held": self.lease, "other": uuid4()}
        return encoding.Item(
            self.streams[item.stream],
            "session",
            data_of(item),
            "agent_event",
            step=1,
            attempt=1,
            lease=leases[item.lease],
            dedupe_key=item.key,
        )

    async def set_closed(self, stream: int, closed: bool) -> None:
        async with tampering(self.engine) as db:
            await set_closed(db, self.streams[stream], closed)

    async def end_lease(self) -> None:
        async with tampering(self.engine) as db:
            await db.execute(
                text("UPDATE steps SET status = 'succeeded', lease_token = NULL WHERE session_id = :id"),
                {"id": self.streams[0]},
            )

    async def stored(self) -> list[list[str]]:
        """Of streams that are whole."""
        found = []
        for stream_id in self.streams[:STREAMS]:
            async with transaction(self.engine) as db:
                state = await read.stream_state(db, stream_id)
                page = await read.read_page(db, state, after=0, limit=1000)
            faults = [fault async for fault in entries.verify_stream(self.engine, stream_id)]
            assert [fault for fault in faults if fault.where != "kind"] == []  # any type goes to any stream here
            found.append([event.data for event in page])
        return found


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    created = create_engine(as_app(database_url))
    yield created
    await created.dispose()


async def begin(engine: AsyncEngine) -> tuple[list[StreamId], UUID]:
    streams, lease = [StreamId(new_session_id()) for _ in range(STREAMS)], uuid4()
    async with tampering(engine) as db:
        for stream_id in streams:
            await append.create_stream(db, stream_id, "batch")  # which no session_event must close
        await db.execute(
            text(
                "INSERT INTO sessions (session_id, status, task, input, principal, workflow, workflow_version,"
                " langgraph_version) VALUES (:id, 'running', 'x', '{}', 'x', 'x', '1', '1')"
            ),
            {"id": streams[0]},
        )
        await db.execute(
            text(
                "INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, lease_token,"
                " max_attempts, time_limit_ms) VALUES (:id, 1, 1, 'p', 'a', 'default', 'running', :lease, 3, 1)"
            ),
            {"id": streams[0], "lease": lease},
        )
    return [*streams, StreamId(uuid4())], lease


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations, min_size=1, max_size=12))
async def test_any_sequence_of_calls(engine: AsyncEngine, sequence: list[Any]) -> None:
    real, model = Real(engine, *await begin(engine)), Model()
    expected = list[tuple[str, int | None]]()
    for operation in sequence:
        match operation:
            case Call(items):
                expected = [model.append(item) for item in items]
                assert await real.call(items) == expected
            case Repeat() if expected:
                assert await real.repeat() == expected
            case SetClosed(stream, closed):
                model.closed[stream] = closed
                await real.set_closed(stream, closed)
            case EndLease():
                model.lease_is_held = False
                await real.end_lease()
    assert await real.stored() == model.streams


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(appends, min_size=1, max_size=8), st.randoms(use_true_random=False))
async def test_concurrent_calls_give_each_stream_one_order(
    engine: AsyncEngine, items: list[Append], choice: Random
) -> None:
    """Which call comes first is Postgres' choice; that the outcome is one of a sequence is not."""
    real = Real(engine, *await begin(engine))
    answers = await asyncio.gather(*(real.append_alone(item) for item in choice.sample(items, len(items))))
    offsets = defaultdict[int, list[int]](list)
    for stream, status, offset in answers:
        if status == "appended" and offset is not None:
            offsets[stream].append(offset)
    assert [sorted(offsets[stream]) for stream in range(STREAMS)] == [
        list(range(1, len(stored) + 1)) for stored in await real.stored()
    ]
