"""A key that ends is refused within ten seconds at every gateway, and the streams that are open with it end."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from httpx_sse import ServerSentEvent
from sqlalchemy.ext.asyncio import AsyncConnection

from app.embedded.postgres import EmbeddedPostgres
from app.events.types import StreamId
from app.gateway.streaming.uvicorn_response import UvicornStreams
from app.principals import repository
from app.principals.model import Key
from app.principals.secrets import new_key
from tests.acceptance.faults.proxy import Proxy
from tests.conftest import fresh_database
from tests.following import NO_SERVER, append
from tests.in_use import BOUND_SECONDS, PATIENCE_SECONDS, in_use
from tests.keyed import Keyed, cookie_of, make_key, revoke, showing, stream, ticket_of
from tests.populating import created, report, running
from tests.serving import BEARER, Served, another, serving
from tests.wire import until_cut

SECONDS = 3


@pytest.mark.parametrize("redis", ["there", "away"])
async def test_a_key_that_ends_is_refused_at_every_gateway(redis_url: str, database_url: str, redis: str) -> None:
    """Revoked, expired, or the old half of a rotated one; a storm of requests and all kinds of streams go on."""
    url = redis_url if redis == "there" else NO_SERVER
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(database_url, url, project_rate=100_000))
        second = await stack.enter_async_context(another(first))
        session_id = await created(first.gateway.backends, project="web")
        gateways = [first, second]
        lost = await make_key(first, "read", "audit", "admin", name="lost")
        old = await make_key(first, "read", "audit", name="old")
        used = {key.name: await stack.enter_async_context(in_use(gateways, key, session_id)) for key in (lost, old)}
        owners = await stack.enter_async_context(stream(first.client, f"/events?session_id={session_id}&after=latest"))
        watching = asyncio.create_task(next_of(owners))
        begun = clock()
        short = await make_key(first, "read", "audit", name="short", expires_in=SECONDS)
        used["short"] = await stack.enter_async_context(in_use(gateways, short, session_id))
        assert clock() - begun < SECONDS, "this machine is too slow for this test"
        assert (await revoke(first, lost)).status_code == 200
        revoked = clock()
        asked = clock()
        rotated = await first.client.post(f"/keys/{old.key_id}/rotate", json={"valid_for": SECONDS})
        assert rotated.status_code == 201
        new = Keyed(rotated.json()["key"], rotated.json()["record"]["key_id"], "old", "web")
        await asyncio.gather(
            used["lost"].ended(revoked),
            used["short"].ended(begun + SECONDS, let_in_until=begun + SECONDS - 0.5),
            used["old"].ended(asked + SECONDS, let_in_until=asked + SECONDS - 0.5),
        )
        for served in gateways:
            async with showing(served, new) as client:
                assert (await client.get("/approvals")).status_code == 200
            for key in (lost, old, short):
                async with showing(served, key) as client:
                    answer = await client.get("/approvals")
                    assert answer.status_code == 401
                    assert answer.json()["type"] == "urn:stellwerk:problem:unknown-key"
        assert not watching.done()
        watching.cancel()


async def next_of(events: AsyncIterator[object]) -> object:
    return await anext(events)


async def test_an_old_half_holds_until_its_time_is_over(served: Served) -> None:
    old = await make_key(served, "read")
    await served.client.post(f"/keys/{old.key_id}/rotate", json={"valid_for": 3600})
    async with showing(served, old) as client:
        assert (await client.get("/approvals")).status_code == 200


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def test_a_ticket_that_ends_ends_its_stream(served: Served) -> None:
    """Nothing else happens that would wake the stream: its heartbeat comes later than it must have ended."""
    assert served.gateway.settings.heartbeat.total_seconds() > BOUND_SECONDS
    session_id = await created(served.gateway.backends, project="web")
    key = await make_key(served, "read")
    ticket = await ticket_of(served, key, session_id, expires_in=2)
    async with showing(served, None) as client, asyncio.timeout(BOUND_SECONDS):
        async with stream(client, f"/events?session_id={session_id}&ticket={ticket}") as events:
            assert [event.event for event in await until_cut(events)] == ["session", "away"]
        assert (await client.get(f"/events?session_id={session_id}&ticket={ticket}")).status_code == 401


async def test_a_reader_that_takes_nothing_is_cut_when_its_key_ends(served: Served) -> None:
    """Long before it would be for taking nothing; what it has not taken by then it does not get."""
    session_id = await created(served.gateway.backends, project="web")
    await append(served.gateway.engine, StreamId(session_id), range(300), size=60_000)
    key = await make_key(served, "read")
    url = httpx.URL(served.url)
    with socket.create_connection((url.host, url.port or 0)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /events?session_id={session_id} HTTP/1.1\r\nHost: {url.host}\r\n"
        client.sendall(f"{request}Authorization: Bearer {key.key}\r\n\r\n".encode())
        follower = served.gateway.follower
        async with asyncio.timeout(BOUND_SECONDS):
            while not is_stuck(served):
                await asyncio.sleep(0.01)
        await revoke(served, key)
        async with asyncio.timeout(BOUND_SECONDS):
            while follower.readers:
                await asyncio.sleep(0.01)


def is_stuck(served: Served) -> bool:
    """Says whether a stream has been waiting for its client for a while."""
    streams = served.gateway.streams
    assert isinstance(streams, UvicornStreams)
    waits = [streams.clock() - stream._sending_since for stream in streams._open if stream._sending_since is not None]
    return any(seconds > 0.3 for seconds in waits)


async def test_what_another_gateway_made_a_moment_ago_is_known_here(database_url: str) -> None:
    """Redis is away, so nothing tells: keys are read when one is shown that is not known, in whatever way."""
    async with serving(database_url, NO_SERVER) as first, another(first) as second:
        session_id = await created(first.gateway.backends, project="web")
        for way in ("bearer", "ticket", "cookie", "page", "login"):
            key = await make_key(first, "read", "submit")
            ticket, cookie = await ticket_of(first, key, session_id), await cookie_of(first, key)
            port = httpx.URL(second.url).port
            carried = {"Cookie": f"stellwerk_{port}={cookie['Cookie'].partition('=')[2]}"}
            async with showing(second, None) as client:
                match way:
                    case "bearer":
                        answer = await client.get("/approvals", headers=key.headers)
                    case "ticket":
                        answer = await client.get(f"/sessions/{session_id}/events?ticket={ticket}")
                    case "cookie":
                        answer = await client.get("/approvals", headers=carried)
                    case "page":
                        answer = await client.get("/", headers=carried)
                    case "login":
                        answer = await client.post("/login", data={"key": key.key})
                assert answer.status_code == (303 if way == "login" else 200), (way, answer.text)


async def test_a_gateway_knows_the_keys_before_its_first_request(database_url: str) -> None:
    async with serving(database_url, NO_SERVER) as first:
        key = await make_key(first, "read")
        for _ in range(3):
            async with another(first) as second, showing(second, key) as client:
                assert (await client.get("/approvals")).status_code == 200


@dataclass(frozen=True, slots=True)
class Blind:
    """A gateway that is about to lose sight of the keys, and its streams."""

    served: Served
    key: Keyed
    streams: dict[str, "asyncio.Task[float]"]
    owners: "asyncio.Task[float]"

    async def check(self, since: float) -> None:
        """Its keys' streams are cut and its keys get 503, all in time; the owner's stream stays."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            ends = await asyncio.gather(*self.streams.values())
        late = {name: end - since for name, end in zip(self.streams, ends, strict=True) if end - since > BOUND_SECONDS}
        assert not late
        async with showing(self.served, self.key) as client:
            answer = await client.get("/approvals")
            assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
        assert not self.owners.done()
        assert (await self.served.client.get("/openapi.json")).status_code == 200

    async def check_again(self) -> None:
        """When it sees the keys again, it takes them."""
        async with showing(self.served, self.key) as client, asyncio.timeout(PATIENCE_SECONDS):
            while (await client.get("/approvals")).status_code != 200:
                await asyncio.sleep(0.05)


async def cancel(*tasks: "asyncio.Task[float]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def about_to_be_blind(served: Served, stack: AsyncExitStack) -> Blind:
    session_id = await created(served.gateway.backends, project="web")
    key = await make_key(served, "read", "audit")
    ticket, cookie = await ticket_of(served, key, session_id), await cookie_of(served, key)
    address = f"/events?session_id={session_id}"
    nothing = await stack.enter_async_context(showing(served, None))
    opened = {
        "bearer": await stack.enter_async_context(stream(nothing, address, key.headers)),
        "ticket": await stack.enter_async_context(stream(nothing, f"{address}&ticket={ticket}")),
        "cookie": await stack.enter_async_context(stream(nothing, address, cookie)),
        "owner": await stack.enter_async_context(stream(nothing, address, BEARER)),
    }

    async def until_the_end(events: AsyncIterator[ServerSentEvent]) -> float:
        assert (await until_cut(events))[-1].event == "away"
        return asyncio.get_running_loop().time()

    streams = {name: asyncio.create_task(until_the_end(events)) for name, events in opened.items()}
    stack.push_async_callback(cancel, *streams.values())
    return Blind(served, key, streams, streams.pop("owner"))


async def test_a_gateway_that_cannot_read_the_keys_lets_no_key_in(
    database_url: str, postgres: EmbeddedPostgres, migrated_template: str
) -> None:
    """Its database is swallowed, or refuses, or holds the table: three gateways at once, for each takes ten seconds."""
    clock = asyncio.get_running_loop().time
    port = httpx.URL(postgres.url).port or 5432
    async with AsyncExitStack() as stack:
        swallowing, refusing = [await stack.enter_async_context(Proxy(port)) for _ in range(2)]
        locked_url = stack.enter_context(fresh_database(postgres, migrated_template))
        locked = await stack.enter_async_context(serving(locked_url, NO_SERVER))
        urls = [database_url.replace(f":{port}/", f":{proxy.port}/") for proxy in (swallowing, refusing)]
        first = await stack.enter_async_context(serving(urls[0], NO_SERVER))
        second = await stack.enter_async_context(another(first, database_url=urls[1]))
        blinds = [await about_to_be_blind(served, stack) for served in (locked, first, second)]
        with psycopg.connect(locked_url) as lock:
            lock.execute("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE")
            swallowing.swallow(True)
            refusing.refuses = True
            refusing.cut()
            since = clock()
            for served in (locked, first, second):
                unseen = {"Authorization": f"Bearer {new_key()}"}
                answer = await served.client.get("/openapi.json", headers=unseen)
                assert answer.status_code == 503, "whether it was made a moment ago cannot be told"
            await asyncio.gather(*(blind.check(since) for blind in blinds))
        swallowing.swallow(False)
        refusing.refuses = False
        await asyncio.gather(*(blind.check_again() for blind in blinds))


async def test_an_export_ends_with_its_key(served: Served) -> None:
    """However slowly its reader takes it. It has no seal then, so nobody takes it for the whole."""
    claim = await running(served.gateway.backends, project="web")
    for _ in range(150):
        await report(served.gateway.backends, claim, 0.5, "x" * 60_000)
    key = await make_key(served, "read")
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(served.url).port, limit=1024)
    head = f"GET /sessions/{claim.session.session_id}/export HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: Bearer {key.key}\r\n\r\n".encode())
    assert b"200 OK" in await reader.readline()
    assert (await revoke(served, key)).status_code == 200
    await asyncio.sleep(1)  # the reader pauses
    rest = b""
    while taken := await reader.read(1 << 16):
        rest += taken
    writer.close()
    assert b"stellwerk-export" in rest and b'"seal"' not in rest and len(rest) < 9_000_000


async def test_unknown_keys_do_not_take_the_connections(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many keys one read takes long: then there are fewer, and never two at once."""
    read, under_way, most, number = repository.keys_in_force, 0, 0, 0

    async def slow_read(db: AsyncConnection) -> list[tuple[Key, bytes, float]]:
        nonlocal under_way, most, number
        under_way, number = under_way + 1, number + 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.2)
            return await read(db)
        finally:
            under_way -= 1

    monkeypatch.setattr(repository, "keys_in_force", slow_read)
    ends = asyncio.get_running_loop().time() + 3

    async def ask() -> None:
        while asyncio.get_running_loop().time() < ends:
            answer = await served.client.get("/approvals", headers={"Authorization": f"Bearer {new_key()}"})
            assert answer.status_code == 401
            await asyncio.sleep(random.random() / 10)

    await asyncio.gather(*(ask() for _ in range(20)))
    assert most == 1 and number <= 6
