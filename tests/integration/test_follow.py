"""Following a stream: offsets once each, in order, byte for byte, whatever happens to Redis and Postgres."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from app.events import encoding
from app.events.append import append as append_items
from app.events.append import reopen
from app.events.cursors import Cursor, FeedCursor, FeedPlace
from app.events.epochs import bump_epoch
from app.events.follow import live, shared_reads, subscriptions
from app.events.follow.follower import Follower
from app.events.follow.updates import LAPSED, STOPPING, Away, End, Frames, Renewed, Reset
from app.events.group_commit import GroupCommit
from app.events.push import Frame, Push, channel_of, connect, encode_message
from app.events.read import Filter
from app.events.seals import SealKeys
from app.schema import migrate
from tests.following import (
    NO_SERVER,
    Reader,
    append,
    close,
    engine_of,
    new_stream,
    offsets_in,
    progress,
    quick,
    state_of,
    stored_frames,
)
from tests.roles import as_app


async def test_cut_and_resumed_under_concurrent_appends(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        push = Push(redis_url, SealKeys(engine))
        group_commit = GroupCommit(as_app(database_url), push.publish)

        async def produce(producer: int) -> None:
            for number in range(100):
                await group_commit.append(encoding.item(stream_id, progress(number, agent=f"agent-{producer}")))

        async def consume(cut_after: int) -> bytes:
            """A client whose line breaks after every few events, and which knows only its last id."""
            frames, cursor = b"", 0
            while True:
                reader = Reader(follower, await state_of(engine, stream_id), cursor)
                async with aclosing(reader.updates) as updates:
                    async for update in updates:
                        if isinstance(update, End):
                            return frames
                        assert isinstance(update, Frames)
                        offsets = offsets_in(update.frames)
                        kept = offsets[:cut_after]
                        frames += b"\n\n".join(update.frames.split(b"\n\n")[: len(kept)]) + b"\n\n"
                        cursor = kept[-1]
                        if len(offsets) >= cut_after:
                            break

        consumers = [asyncio.create_task(consume(cut_after)) for cut_after in (1, 3, 7, 1000)]
        await asyncio.gather(*(produce(producer) for producer in range(5)))
        push.publish(await close(engine, stream_id))
        received = await asyncio.gather(*consumers)
        await group_commit.close()
        await push.close()
        expected = await stored_frames(engine, stream_id)
        assert len(offsets_in(expected)) == 501
        assert all(frames == expected for frames in received)


@pytest.mark.parametrize("seed", range(3))
async def test_publishes_lost_doubled_and_out_of_order(database_url: str, redis_url: str, seed: int) -> None:
    chance = random.Random(seed)
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        reader = Reader(follower, await state_of(engine, stream_id))
        reading = asyncio.create_task(reader.read_all())
        messages = []
        for first in range(0, 300, 3):
            frames = [Frame.of(e) for e in await append(engine, stream_id, range(first, first + 3))]
            messages += [encode_message(frames, inline_bytes=chance.choice([0, 10_000]))] * chance.choice([0, 1, 2])
        for begin in range(0, len(messages), 10):
            some = messages[begin : begin + 10]
            chance.shuffle(some)
            messages[begin : begin + 10] = some
        async with connect(redis_url) as redis:
            for message in [*messages[:100], b"what is this?", *messages[100:]]:
                await redis.publish(channel_of(stream_id), message)
        await close(engine, stream_id)  # and nobody is told
        await reading
        assert reader.frames == await stored_frames(engine, stream_id)


@pytest.mark.parametrize("seed", range(3))
async def test_frames_that_are_taken_while_waiting_do_not_come_again(
    database_url: str, redis_url: str, seed: int
) -> None:
    """Some are refused, some are lost on the way and fetched from Postgres; a ring of a few holds them."""
    chance = random.Random(seed)
    frames, taken = b"", 0

    def take(new: bytes) -> bool:
        nonlocal frames, taken
        if chance.random() < 0.2:
            return False
        frames += new
        taken += 1
        return True

    settings = quick(ring_frames=5)
    async with engine_of(database_url) as engine, Follower(engine, redis_url, settings) as follower:
        stream_id = await new_stream(engine)
        push = Push(redis_url, SealKeys(engine))
        updates = follower.follow(await state_of(engine, stream_id), 0, take=take)

        async def read() -> None:
            nonlocal frames
            async for update in updates:
                if isinstance(update, End):
                    return
                assert isinstance(update, Frames)
                frames += update.frames

        reading = asyncio.create_task(read())
        for first in range(0, 300, 3):
            events = await append(engine, stream_id, range(first, first + 3))
            if chance.random() < 0.9:
                push.publish(events)
            while chance.random() < 0.5 and f"id: {events[-1].offset}\n".encode() not in frames:
                await asyncio.sleep(0.001)
        push.publish(await close(engine, stream_id))
        await reading
        await push.close()
        assert frames == await stored_frames(engine, stream_id)
        assert taken


async def test_a_gap_is_mended_without_the_head_poll(database_url: str, redis_url: str) -> None:
    settings = quick(head_poll=3600)
    async with engine_of(database_url) as engine, Follower(engine, redis_url, settings) as follower:
        stream_id = await new_stream(engine)
        push = Push(redis_url, SealKeys(engine))
        reader = Reader(follower, await state_of(engine, stream_id))
        push.publish(await append(engine, stream_id, [1]))
        await reader.read(to=1)
        await append(engine, stream_id, [2])  # its message is lost
        push.publish(await append(engine, stream_id, [3]))
        await reader.read(to=3)
        push.publish(await close(engine, stream_id))
        await reader.read_all()
        await push.close()
        assert reader.frames == await stored_frames(engine, stream_id)


async def test_without_redis_postgres_is_enough(database_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, NO_SERVER, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(50))
        reader = Reader(follower, await state_of(engine, stream_id), after=10)
        await reader.read(to=50)
        await append(engine, stream_id, range(50))
        await reader.read(to=100)
        await close(engine, stream_id)
        end = await reader.read_all()
        assert end.state.head == 101
        assert reader.frames == await stored_frames(engine, stream_id, after=10)


async def test_redis_stops_and_starts_empty(database_url: str, own_valkey: EmbeddedValkey) -> None:
    async with (
        engine_of(database_url) as engine,
        Follower(engine, own_valkey.url, quick(head_poll=0.3)) as follower,
    ):
        stream_id = await new_stream(engine)
        push = Push(own_valkey.url, SealKeys(engine))
        reader = Reader(follower, await state_of(engine, stream_id))
        push.publish(await append(engine, stream_id, range(20)))
        await reader.read(to=20)
        await asyncio.to_thread(own_valkey.stop)
        push.publish(await append(engine, stream_id, range(20)))
        await reader.read(to=40)
        await asyncio.to_thread(own_valkey.start)
        async with connect(own_valkey.url) as redis:
            while not dict(await redis.pubsub_numsub(channel_of(stream_id)))[channel_of(stream_id).encode()]:
                await asyncio.sleep(0.02)
        push.publish(await append(engine, stream_id, range(20)))
        await reader.read(to=60)
        push.publish(await close(engine, stream_id))
        await reader.read_all()
        await push.close()
        assert reader.frames == await stored_frames(engine, stream_id)


async def test_a_confirmation_catches_up(database_url: str, own_valkey: EmbeddedValkey) -> None:
    """What was published while the subscription was away comes with the confirmation, not with a poll."""
    settings = quick(head_poll=3600)
    async with engine_of(database_url) as engine, Follower(engine, own_valkey.url, settings) as follower:
        stream_id = await new_stream(engine)
        push = Push(own_valkey.url, SealKeys(engine))
        reader = Reader(follower, await state_of(engine, stream_id))
        push.publish(await append(engine, stream_id, [1]))
        await reader.read(to=1)
        await asyncio.to_thread(own_valkey.stop)
        await append(engine, stream_id, [2])
        await asyncio.to_thread(own_valkey.start)
        await reader.read(to=2)
        await push.close()


async def test_a_slow_reader_behind_the_ring(database_url: str, redis_url: str) -> None:
    settings = quick(ring_frames=4, catch_up_page=7)
    async with engine_of(database_url) as engine, Follower(engine, redis_url, settings) as follower:
        stream_id = await new_stream(engine)
        push = Push(redis_url, SealKeys(engine))
        state = await state_of(engine, stream_id)
        slow, quick_one = Reader(follower, state), Reader(follower, state)
        push.publish(await append(engine, stream_id, range(3)))
        await slow.read(to=3)
        for first in range(0, 90, 5):
            push.publish(await append(engine, stream_id, range(first, first + 5)))
        await quick_one.read(to=93)
        push.publish(await close(engine, stream_id))
        await asyncio.gather(slow.read_all(), quick_one.read_all())
        await push.close()
        expected = await stored_frames(engine, stream_id)
        assert slow.frames == quick_one.frames == expected


async def test_large_events_come_in_bounded_batches(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        for _ in range(30):
            await append(engine, stream_id, range(10), size=20_000)
        await close(engine, stream_id)
        reader = Reader(follower, await state_of(engine, stream_id))
        sizes = []
        while isinstance(update := await reader.next(), Frames):
            sizes.append(len(update.frames))
        assert max(sizes[2:]) < 2 * shared_reads.PAGE_BYTES  # the mean has to be learnt
        assert sum(sizes) == len(await stored_frames(engine, stream_id))


async def test_a_filter_moves_the_cursor(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(5), agent="architect")
        await append(engine, stream_id, range(5), agent="research")
        only = Filter(agent=frozenset({"architect"}))
        reader = Reader(follower, await state_of(engine, stream_id), only=only)
        first = await reader.next()
        assert isinstance(first, Frames) and offsets_in(first.frames) == [1, 2, 3, 4, 5]
        assert first.cursor == Cursor(1, 5)  # the id that the client has now
        assert await reader.next() == Frames(Cursor(1, 10), b"")
        push = Push(redis_url, SealKeys(engine))
        push.publish(await append(engine, stream_id, range(3), agent="research"))
        push.publish(await append(engine, stream_id, range(1), agent="architect"))
        reader.cursor = 10
        await reader.read(to=14)
        assert offsets_in(reader.frames) == [14]
        push.publish(await close(engine, stream_id))
        assert await reader.next() == Frames(Cursor(1, 15), b"")
        assert isinstance(await reader.next(), End)
        await push.close()


async def test_a_reopened_stream_goes_on(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await close(engine, stream_id, status="failed")
        first = Reader(follower, await state_of(engine, stream_id))
        assert (await first.read_all()).state.head == 1
        async with transaction(engine) as db:
            await reopen(db, stream_id)
            await append_items(db, [encoding.item(stream_id, {"t": "session_event", "status": "running"})])
        again = Reader(follower, await state_of(engine, stream_id), after=1)
        await again.read(to=2)
        await close(engine, stream_id)
        assert (await again.read_all()).state.head == 3


OTHERS_FROM = text('UPDATE events SET epoch = 2 WHERE "offset" >= :first')
"""As a restored database that went on after an older copy: from there on its events are others."""


@pytest.mark.parametrize("take", [None, lambda frames: True])
async def test_an_epoch_that_begins_meanwhile_resets_those_whose_events_are_gone(
    database_url: str, redis_url: str, take: live.Take | None
) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3))
        reader = Reader(follower, await state_of(engine, stream_id), take=take)
        await reader.read(to=3)
        async with transaction(engine) as db:
            await db.execute(OTHERS_FROM, {"first": 3})
        epoch = await bump_epoch(engine, "restored")
        reset = await reader.next()
        assert isinstance(reset, Reset) and reset.reason == "other_epoch" and reset.state.epoch == epoch
        again = await reader.next()
        assert isinstance(again, Frames) and offsets_in(again.frames) == [1, 2, 3]
        assert again.cursor == Cursor(epoch, 3)


async def test_an_epoch_that_begins_meanwhile_replays_nothing_that_survived(database_url: str, redis_url: str) -> None:
    """As for a reader that comes back: it learns of the new epoch, and goes on."""
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3))
        state = await state_of(engine, stream_id)
        reader, lagging = Reader(follower, state), Reader(follower, state, after=1)
        await reader.read(to=3)
        epoch = await bump_epoch(engine, "a failover that lost nothing")
        for one, at in ((reader, 3), (lagging, 1)):
            news = await one.next()
            assert isinstance(news, Renewed) and news.cursor == Cursor(epoch, at)
        await lagging.read(to=3)
        await append(engine, stream_id, [3])
        for one in (reader, lagging):
            update = await one.next()
            assert isinstance(update, Frames) and update.cursor == Cursor(epoch, 4)
            assert offsets_in(update.frames) == [4]
        assert offsets_in(lagging.frames) == [2, 3]


async def test_what_a_filter_dropped_before_an_epoch_began_is_looked_at_again(
    database_url: str, redis_url: str
) -> None:
    """The client's last id survived; what was dropped after it is another event now, and may be wanted."""
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick(id_every=3600)) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, [0], agent="wanted")
        await append(engine, stream_id, [1, 2], agent="other")
        only = Filter(agent=frozenset({"wanted"}))
        reader = Reader(follower, await state_of(engine, stream_id), only=only)
        await reader.read(to=1)
        coming = asyncio.create_task(reader.next())
        while not follower._streams[stream_id]._waiting:  # it has passed the others, and sleeps
            await asyncio.sleep(0.01)
        async with transaction(engine) as db:
            await db.execute(OTHERS_FROM, {"first": 2})
            await db.execute(text("UPDATE events SET agent = 'wanted' WHERE \"offset\" = 3"))
        epoch = await bump_epoch(engine, "restored")
        news = await coming
        assert isinstance(news, Renewed) and news.cursor == Cursor(epoch, 1)
        update = await reader.next()
        assert isinstance(update, Frames) and offsets_in(update.frames) == [3]


async def test_commits_that_postgres_lost_reset(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        events = await append(engine, stream_id, range(3))
        reader = Reader(follower, await state_of(engine, stream_id))
        await reader.read(to=3)
        async with transaction(engine) as db:  # what a failover to a replica that lagged looks like
            await db.execute(text('DELETE FROM events WHERE stream_id = :id AND "offset" > 1'), {"id": stream_id})
            await db.execute(text("UPDATE streams SET head = 1 WHERE stream_id = :id"), {"id": stream_id})
        async with connect(redis_url) as redis:
            await redis.publish(channel_of(stream_id), encode_message([Frame.of(events[-1])], inline_bytes=0))
            follower._streams[stream_id].doubt()  # the connection was cut, too
        reset = await reader.next()
        assert isinstance(reset, Reset) and reset.state.head == 1
        again = await reader.next()
        assert isinstance(again, Frames) and offsets_in(again.frames) == [1]


async def test_expired_events_reset_a_reader_that_had_not_read_them(database_url: str, redis_url: str) -> None:
    settings = quick(ring_frames=1, catch_up_page=2)
    async with engine_of(database_url) as engine, Follower(engine, redis_url, settings) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(10))
        reader = Reader(follower, await state_of(engine, stream_id))
        await reader.read(to=2)
        async with transaction(engine) as db:
            await db.execute(text('DELETE FROM events WHERE stream_id = :id AND "offset" < 7'), {"id": stream_id})
            await db.execute(text("UPDATE streams SET earliest = 7 WHERE stream_id = :id"), {"id": stream_id})
        reset = await reader.next()
        if isinstance(reset, Frames):  # the page that was read ahead, before its events went
            assert offsets_in(reset.frames) == [3, 4]
            reset = await reader.next()
        assert isinstance(reset, Reset) and reset.reason == "expired" and reset.state.earliest == 7
        reader.cursor = 6
        await reader.read(to=10)
        assert offsets_in(reader.frames) == [1, 2, 7, 8, 9, 10]


async def test_postgres_restarts(home: Path, redis_url: str) -> None:
    server = EmbeddedPostgres(home)
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(migrate, server.superuser_url)
        settings = quick(ring_frames=1)
        async with engine_of(server.url) as engine, Follower(engine, redis_url, settings) as follower:
            stream_id = await new_stream(engine)
            push = Push(redis_url, SealKeys(engine))
            group_commit = GroupCommit(server.url, push.publish)
            state = await state_of(engine, stream_id)
            reader = Reader(follower, state)
            await group_commit.append(encoding.item(stream_id, progress(1)))
            await reader.read(to=1)
            await asyncio.to_thread(server.stop)
            appending = asyncio.create_task(group_commit.append(encoding.item(stream_id, progress(2))))
            late = asyncio.create_task(Reader(follower, state).read(to=2))  # has to read a page
            await asyncio.to_thread(server.start)
            await appending
            await asyncio.gather(reader.read(to=2), late)
            await group_commit.close()
            await push.close()
            assert reader.frames == await stored_frames(engine, stream_id)
    finally:
        await asyncio.to_thread(server.stop)


async def test_hanging_up_ends_readers_without_end(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, [1])
        reader = Reader(follower, await state_of(engine, stream_id))
        await reader.read(to=1)
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        follower.hang_up()
        assert await waiting == Away(STOPPING, Cursor(1, 1))
        with pytest.raises(StopAsyncIteration):
            await reader.next()


@asynccontextmanager
async def freezable(port: int) -> AsyncIterator["Proxy"]:
    """A TCP proxy whose present connections can be frozen: they stay open and say nothing more."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.own_port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)


class Proxy:
    def __init__(self, port: int) -> None:
        self.port = port
        self.own_port = 0
        self.frozen: set[int] = set()
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        self.frozen = set(range(self.connections))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        for source, sink in ((reader, upstream_writer), (upstream_reader, writer)):
            self.tasks.add(asyncio.create_task(self._copy(number, source, sink)))

    async def _copy(self, number: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if number not in self.frozen:
                sink.write(data)
        sink.close()


async def test_a_half_open_connection_is_noticed(
    database_url: str, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(subscriptions, "SILENCE_SECONDS", 0.2)
    port = int(own_valkey.url.rpartition(":")[2].partition("/")[0])
    settings = quick(head_poll=3600)
    async with (
        freezable(port) as proxy,
        engine_of(database_url) as engine,
        Follower(engine, own_valkey.url.replace(f":{port}/", f":{proxy.own_port}/"), settings) as follower,
    ):
        stream_id = await new_stream(engine)
        push = Push(own_valkey.url, SealKeys(engine))
        reader = Reader(follower, await state_of(engine, stream_id))
        push.publish(await append(engine, stream_id, [1]))
        await reader.read(to=1)
        proxy.freeze()
        push.publish(await append(engine, stream_id, [2]))
        await reader.read(to=2)  # over a new connection: neither an error nor a poll told
        await push.close()


class OnlyOnce:
    """A reader whose key ends while it waits for the database."""

    def __init__(self) -> None:
        self.asked = 0

    def may_go_on(self) -> bool:
        self.asked += 1
        return self.asked == 1

    def came(self) -> None: ...

    def left(self) -> None: ...


async def test_a_reader_whose_key_ended_while_it_waited_gets_nothing_more(database_url: str, redis_url: str) -> None:
    async with engine_of(database_url) as engine, Follower(engine, redis_url, quick()) as follower:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(5))
        state = await state_of(engine, stream_id)
        assert [update async for update in follower.follow(state, 0, reader=OnlyOnce())] == [Away(LAPSED, Cursor(1, 0))]
        feed = follower.feed.follow(FeedPlace(), epoch=state.epoch, reader=OnlyOnce())
        assert [update async for update in feed] == [Away(LAPSED, FeedCursor(1, FeedPlace()))]
        async with aclosing(follower.follow(state, 0)) as updates:
            assert isinstance(await anext(updates), Frames)
