"""Reading the states of streams together."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import event

from app.errors import NotFound
from app.events.follow.states import StateReads
from app.events.types import StreamId
from tests.following import append, engine_of, new_stream


async def test_who_asks_at_the_same_time_shares_a_query(database_url: str) -> None:
    async with engine_of(database_url) as engine:
        streams = [await new_stream(engine) for _ in range(3)]
        states = StateReads(engine)
        queries = list[str]()
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *call: queries.append(call[2]))
        answers = await asyncio.gather(*(states.read(stream_id) for stream_id in streams * 100))
        assert [answer.stream_id for answer in answers] == streams * 100
        assert len(queries) <= 2


async def test_an_answer_is_never_older_than_its_question(database_url: str) -> None:
    async with engine_of(database_url) as engine:
        stream_id = await new_stream(engine)
        states = StateReads(engine)

        async def append_and_ask(number: int) -> None:
            (recorded,) = await append(engine, stream_id, [number])
            assert (await states.read(stream_id)).head >= recorded.offset

        await asyncio.gather(*(append_and_ask(number) for number in range(50)))


async def test_unknown_streams_and_readers_that_leave_do_not_disturb_the_others(database_url: str) -> None:
    async with engine_of(database_url) as engine:
        stream_id = await new_stream(engine)
        states = StateReads(engine)
        unknown = asyncio.create_task(states.read(StreamId(uuid4())))
        leaving, staying = (asyncio.create_task(states.read(stream_id)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).stream_id == stream_id
        with pytest.raises(NotFound):
            await unknown
        with pytest.raises(asyncio.CancelledError):
            await leaving
