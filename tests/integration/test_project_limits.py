"""What a project may do at once: requests a second, open streams, open sessions. Others are not touched by it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import psycopg
import pytest

from app.database import libpq_url
from tests.acceptance.faults.proxy import Proxy
from tests.keyed import Keyed, make_key, showing, stream, ticket_of
from tests.populating import created
from tests.serving import Served, serving

RATE = 20
STREAMS = 3
SESSIONS = 4
TOO_MANY = "urn:stellwerk:problem:too-many"
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, project_streams=STREAMS, project_sessions=SESSIONS) as served:
        yield served


def assert_too_many(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (429, TOO_MANY), answer.text
    assert int(answer.headers["retry-after"]) >= 1


async def test_requests_a_second(database_url: str, redis_url: str) -> None:
    """The keys of a project are counted together, whatever they ask for; other projects and the owner go on."""
    async with serving(database_url, redis_url, project_rate=RATE) as served, AsyncExitStack() as stack:
        two = [await make_key(served, "read", project="web") for _ in range(2)]
        other = await make_key(served, "read", project="other")
        clients = [await stack.enter_async_context(showing(served, key)) for key in (*two, other)]
        first, second, others = clients
        sent = [client.get("/openapi.json") for client in (first, second) for _ in range(2 * RATE)]
        answers = await asyncio.gather(*sent)
        counts = Counter(answer.status_code for answer in answers)
        assert counts.keys() == {200, 429} and counts[200] >= RATE
        for answer in answers:
            if answer.status_code == 429:
                assert_too_many(answer)
        streams = await asyncio.gather(*(first.get(f"/events?session_id={uuid4()}") for _ in range(3 * RATE)))
        assert 429 in {answer.status_code for answer in streams}
        assert (await others.get("/sessions")).status_code == 200
        for answer in await asyncio.gather(*(served.client.get("/openapi.json") for _ in range(3 * RATE))):
            assert answer.status_code == 200
        async with asyncio.timeout(10):  # and after a while it may again
            while (await first.get("/openapi.json")).status_code == 429:
                await asyncio.sleep(0.05)


async def test_a_stream_that_is_not_there_is_one_request(database_url: str, redis_url: str) -> None:
    """The fast path looks for it first, then the long way, which says why not."""
    async with (
        serving(database_url, redis_url, project_rate=RATE) as served,
        showing(served, await make_key(served, "read", project="web")) as client,
    ):
        for _ in range(RATE):
            assert (await client.get(f"/events?session_id={uuid4()}")).status_code == 404


async def opened(stack: AsyncExitStack, client: httpx.AsyncClient, address: str) -> httpx.Response:
    return await stack.enter_async_context(client.stream("GET", address, headers=SSE))


async def until_one_opens(stack: AsyncExitStack, client: httpx.AsyncClient, address: str) -> None:
    async with asyncio.timeout(10):
        while (await opened(stack, client, address)).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("address", ["/events?session_id={}", "/sessions/{}/events?phase=", "/events?after=latest"])
async def test_of_streams_that_are_opened_at_once_only_so_many_get_in(served: Served, address: str) -> None:
    session_id = await created(served.gateway.backends, project="web")
    key = await make_key(served, "read", project="web")
    async with AsyncExitStack() as stack, showing(served, key) as client:
        opening = [opened(stack, client, address.format(session_id)) for _ in range(5 * STREAMS)]
        answers = await asyncio.gather(*opening)
        counts = Counter(answer.status_code for answer in answers)
        assert counts == {200: STREAMS, 429: 4 * STREAMS}
        refused = next(answer for answer in answers if answer.status_code == 429)
        await refused.aread()
        assert_too_many(refused)


async def test_a_stream_that_ends_gives_its_place_back(served: Served) -> None:
    """It was closed by the client, its client vanished, its session ended, or its ticket."""
    backends = served.gateway.backends
    session_id, brief = [await created(backends, project="web") for _ in range(2)]
    key = await make_key(served, "read", "operate", project="web")
    address = f"/events?session_id={session_id}"
    port = httpx.URL(served.url).port or 0
    async with AsyncExitStack() as stack, Proxy(port) as proxy, showing(served, key) as client:
        far = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}", headers=key.headers)
        )
        ticket = await ticket_of(served, key, session_id, expires_in=1)
        ways = [await opened(stack, far, address)]
        ways.append(await opened(stack, client, f"/events?session_id={brief}"))
        async with showing(served, None) as nothing:
            ways.append(await opened(stack, nothing, f"{address}&ticket={ticket}"))
            assert [answer.status_code for answer in ways] == [200] * STREAMS
            await until_one_opens(stack, client, address)  # instead of the ticket's
            proxy.cut()
            await until_one_opens(stack, client, address)
            assert (await client.post(f"/sessions/{brief}/cancel")).status_code == 200
            await until_one_opens(stack, client, address)
            async with AsyncExitStack() as further:
                assert (await opened(further, client, address)).status_code == 429
    async with AsyncExitStack() as stack, showing(served, key) as client:
        for _ in range(STREAMS):
            await until_one_opens(stack, client, address)


async def test_other_projects_and_the_owner_open_streams(served: Served) -> None:
    sessions = {project: await created(served.gateway.backends, project=project) for project in ("web", "other")}
    keys: dict[str, Keyed] = {project: await make_key(served, "read", project=project) for project in sessions}
    async with AsyncExitStack() as stack, showing(served, keys["web"]) as web, showing(served, keys["other"]) as other:
        for _ in range(STREAMS):
            await stack.enter_async_context(stream(web, f"/events?session_id={sessions['web']}"))
        assert (await opened(stack, web, f"/events?session_id={sessions['web']}")).status_code == 429
        assert (await web.get(f"/sessions/{sessions['web']}/events")).status_code == 200, "a page is no stream"
        for _ in range(STREAMS):
            await stack.enter_async_context(stream(other, f"/events?session_id={sessions['other']}"))
        for _ in range(2 * STREAMS):
            await stack.enter_async_context(stream(served.client, f"/events?session_id={sessions['web']}"))


async def test_open_sessions(served: Served) -> None:
    """Of many that come at once no more are taken; one that ends makes room, and a repeated key needs none."""
    key = await make_key(served, "submit", "operate", project="web")
    other = await make_key(served, "submit", project="other")
    async with showing(served, key) as client, showing(served, other) as others:
        once = {"Idempotency-Key": "once"}
        first = await client.post("/sessions", json={"task": "x"}, headers=once)
        answers = await asyncio.gather(*(client.post("/sessions", json={"task": "x"}) for _ in range(3 * SESSIONS)))
        counts = Counter(answer.status_code for answer in answers)
        assert counts == {201: SESSIONS - 1, 429: 2 * SESSIONS + 1}
        assert_too_many(next(answer for answer in answers if answer.status_code == 429))
        again = await client.post("/sessions", json={"task": "x"}, headers=once)
        assert (again.status_code, again.json()["session_id"]) == (200, first.json()["session_id"])
        assert (await others.post("/sessions", json={"task": "x"})).status_code == 201
        assert (await served.client.post("/sessions", json={"task": "x"})).status_code == 201
        assert (await client.post(f"/sessions/{first.json()['session_id']}/cancel")).status_code == 200
        assert (await client.post("/sessions", json={"task": "x"})).status_code == 201
        assert (await client.post("/sessions", json={"task": "x"})).status_code == 429


async def test_requests_that_wait_for_a_projects_lock_leave_connections_to_others(
    served: Served, database_url: str
) -> None:
    session_id = await created(served.gateway.backends, project="web")
    key, other = await make_key(served, "read", project="web"), await make_key(served, "read", project="other")
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as db:
        await db.execute(
            "SELECT pg_advisory_xact_lock(stream_lock_key(stream_id)) FROM streams"
            " WHERE kind = 'operators' AND project = 'web'"
        )
        waiting = [asyncio.create_task(ticket_of(served, key, session_id)) for _ in range(20)]
        await asyncio.sleep(0.5)
        async with showing(served, other) as client, asyncio.timeout(5):
            assert (await client.get("/sessions")).status_code == 200
        assert not [task for task in waiting if task.done()]
    await asyncio.gather(*waiting)
