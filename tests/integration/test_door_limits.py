"""What one address, one key, and all of them together may take up, and what is refused then."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.gateway import health
from app.gateway.door import connections
from app.gateway.door.connections import open_files
from tests.keyed import cookie_of, make_key, showing, stream, ticket_of
from tests.raw import Raw, connected
from tests.scraping import scrape
from tests.serving import BEARER, TOKEN, Served, another, serving

TOO_MANY = "urn:stellwerk:problem:too-many"
SSE = {"Accept": "text/event-stream"}
PROXIED = {"trusted_proxies": "127.0.0.1"}
MOST = 3


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


def by(address: str, **more: str) -> dict[str, str]:
    return {"X-Forwarded-For": address, **more}


async def is_served(raw: Raw) -> bool:
    await raw.send(raw.head("GET", "/healthz"))
    return await raw.status() == 200


async def test_connections_of_one_address(served: Served) -> None:
    """One that ends makes room; a proxy that is trusted has as many as it likes."""
    alone = {"unlimited_addresses": "", "address_connections": MOST}
    async with another(served, **alone) as gateway, AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(connected(gateway)) for _ in range(MOST)]
        assert [await is_served(one) for one in ways] == [True] * MOST
        async with connected(gateway) as one_more:
            assert (await one_more.rest()).startswith(b"HTTP/1.1 429 ")
        ways[0].writer.close()
        async with asyncio.timeout(10):
            while True:
                async with connected(gateway) as instead:
                    await instead.send(instead.head("GET", "/healthz"))
                    if await instead.status() == 200:
                        break
    async with another(served, **alone | PROXIED) as gateway, AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(connected(gateway)) for _ in range(2 * MOST)]
        assert [await is_served(one) for one in ways] == [True] * 2 * MOST


async def test_requests_of_one_address_through_a_trusted_proxy(served: Served) -> None:
    """Wherever it says that it came from before, and whichever of an IPv6 network's addresses it takes."""
    session_id = (await served.create_session())["session_id"]
    address = f"/sessions/{session_id}/events"
    async with another(served, address_connections=MOST, **PROXIED) as gateway, AsyncExitStack() as stack:
        client = gateway.client
        for client_address, other in (("203.0.113.7", "9.9.9.9, 203.0.113.7"), ("2001:db8::7", "2001:db8::8")):
            async with AsyncExitStack() as open_now:
                for _ in range(MOST):
                    await open_now.enter_async_context(stream(client, address, by(client_address)))
                for named in (client_address, other):
                    refused = await client.get(address, headers=SSE | by(named))
                    assert (refused.status_code, refused.json()["type"]) == (429, TOO_MANY), refused.text
                    assert refused.headers["retry-after"]
                assert (await client.get("/sessions", headers=by("203.0.113.8"))).status_code == 200
            async with asyncio.timeout(10):
                while (await client.get("/sessions", headers=by(client_address))).status_code == 429:
                    await asyncio.sleep(0.02)
        for n in range(MOST + 1):  # it is on this machine, where many are one
            await stack.enter_async_context(stream(client, address, by(f"127.0.0.{n}")))
    async with another(served, address_connections=MOST) as gateway, AsyncExitStack() as stack:
        for _ in range(MOST + 1):
            await stack.enter_async_context(stream(gateway.client, address, by("203.0.113.7")))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nothing/here", {}, 404),
        ("PUT", "/sessions", {}, 405),
        ("GET", "/sessions", {"Host": "evil.example"}, 421),
        ("GET", "/sessions", {"Origin": "https://evil.example"}, 403),
        ("GET", "/?token=wrong", {}, 401),
    ],
)
async def test_all_that_strangers_ask_counts(
    served: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with another(served, address_failures=5, **PROXIED) as gateway, showing(gateway, None) as nothing:
        stranger = by("203.0.113.9")
        assert (await nothing.get("/sessions", headers=stranger)).status_code == 401
        statuses = {(await nothing.request(method, path, headers=stranger | headers)).status_code for _ in range(20)}
        assert statuses <= {status, 429}
        assert (await nothing.get("/sessions", headers=stranger)).status_code == 429
        allowed = await gateway.client.get("/sessions", headers=BEARER | by("203.0.113.9"))
        assert allowed.status_code == 200


async def test_wrong_tokens_of_one_address(served: Served) -> None:
    """Whoever shows one that holds is served all the same, and so is every other address."""
    key, session_id = await make_key(served, "read"), (await served.create_session(project="web"))["session_id"]
    ticket = await ticket_of(served, key, session_id)
    async with (
        another(served, address_failures=5, **PROXIED) as gateway,
        showing(gateway, None) as nothing,
        showing(gateway, key) as keyed,
    ):
        cookie = await cookie_of(gateway, key)
        stranger = by("203.0.113.7", Authorization="Bearer wrong")
        before = (await scrape(gateway.client)).value("stellwerk_refused_total", reason="unauthenticated") or 0
        asked = [nothing.post("/sessions", headers=stranger, json={"task": "x"}) for _ in range(40)]
        answers = await asyncio.gather(*asked)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {401, 429} and statuses.count(401) < 20
        refused = answers[statuses.index(429)]
        assert refused.json()["type"] == TOO_MANY and refused.headers["retry-after"] == "1"
        assert (await nothing.post("/login", data={"key": TOKEN}, headers=by("203.0.113.7"))).status_code == 429
        for client, headers in ((gateway.client, BEARER), (keyed, key.headers), (nothing, cookie)):
            assert (await client.get("/sessions", headers=headers | by("203.0.113.7"))).status_code == 200
        page = await nothing.get(f"/sessions/{session_id}/events?ticket={ticket}", headers=by("203.0.113.7"))
        assert page.status_code == 200
        assert (await nothing.get("/healthz", headers=by("203.0.113.7"))).status_code == 200
        for other in ("203.0.113.8", "127.0.0.1"):
            assert (await nothing.get("/sessions", headers=stranger | by(other))).status_code == 401
        after = (await scrape(gateway.client)).value("stellwerk_refused_total", reason="unauthenticated") or 0
        assert after - before >= statuses.count(429)
        async with asyncio.timeout(10):
            while (await nothing.get("/sessions", headers=stranger)).status_code != 401:
                await asyncio.sleep(0.05)


async def test_those_who_say_nothing_make_room_for_those_who_do(served: Served) -> None:
    async with another(served, max_connections=MOST) as gateway, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(gateway)) for _ in range(MOST)]
        async with connected(gateway) as late:
            assert await is_served(late)
            assert await silent[0].rest() == b""
        assert await is_served(silent[1]) and await is_served(silent[2])


async def test_where_all_are_busy_one_more_is_refused(served: Served) -> None:
    session_id = (await served.create_session())["session_id"]
    async with another(served, max_connections=MOST) as gateway, AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(stream(gateway.client, f"/sessions/{session_id}/events"))
        async with connected(gateway) as late:
            assert (await late.rest()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("files", [256, 1024, 20_000, 1_048_576, resource.RLIM_INFINITY])
def test_connections_are_fewer_than_files(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (min(files, 1024), files))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: raised.append(limits))
    most, backlog = open_files(20_000)
    assert backlog >= 1 and most >= 1
    if files != resource.RLIM_INFINITY:
        assert most + 3 * backlog < files
        assert raised == ([(files, files)] if files > 1024 else [])
    assert most == 20_000 or files <= 20_000


@pytest.mark.parametrize("who", ["key", "owner"])
async def test_streams_of_one_key(served: Served, who: str) -> None:
    """Its cookies and tickets are counted with it, and other keys of its project are not."""
    created = await served.create_session(project="web")
    address = f"/events?session_id={created['session_id']}"
    limits = {"key_streams": MOST, "owner_streams": MOST}
    async with another(served, **limits) as gateway, AsyncExitStack() as stack:
        key = await make_key(served, "read")
        other = await make_key(served, "read")
        headers = key.headers if who == "key" else BEARER
        ways = await stack.enter_async_context(showing(gateway, key if who == "key" else None))
        ways.headers.update(headers)
        for _ in range(MOST):
            await stack.enter_async_context(stream(ways, address))
        refused = await ways.get(address, headers=SSE)
        assert (refused.status_code, refused.json()["type"]) == (429, TOO_MANY)
        assert f"STELLWERK_{who.upper()}_STREAMS" in refused.json()["detail"]
        if who == "key":
            ticket = await ticket_of(served, key, created["session_id"])
            async with showing(gateway, None) as nothing:
                assert (await nothing.get(f"{address}&ticket={ticket}")).status_code == 429
        client = await stack.enter_async_context(showing(gateway, other))
        await stack.enter_async_context(stream(client, address))
        assert (await ways.get("/sessions")).status_code == 200


async def test_readiness_is_looked_up_once_for_all_who_ask(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    found = health._workers

    async def look(gateway: object) -> object:
        nonlocal looked
        looked += 1
        return await found(gateway)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr(health, "_workers", look)
    async with another(served) as gateway, showing(gateway, None) as nothing:
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(nothing.get("/readyz") for _ in range(100)))
        answers.append(await nothing.get("/readyz"))
        took = asyncio.get_running_loop().time() - began
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= looked <= 1 + took / health.KEPT_SECONDS


@pytest.mark.parametrize(
    ("trusted", "proto", "is_secure"), [(True, "https", True), (True, "http", False), (False, "https", False)]
)
async def test_the_cookie_is_secure_where_the_browser_came_by_tls(
    served: Served, trusted: bool, proto: str, is_secure: bool
) -> None:
    async with another(served, **PROXIED if trusted else {}) as gateway, showing(gateway, None) as browser:
        headers = {"X-Forwarded-Proto": proto}
        for answer in (
            await browser.post("/login", data={"key": TOKEN}, headers=headers),
            await browser.get("/", params={"token": TOKEN}, headers=headers),
        ):
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            assert ("secure" in answer.headers["set-cookie"].lower()) == is_secure


async def test_all_that_the_door_refuses_is_told_apart(served: Served) -> None:
    found = await scrape(served.client)
    reasons = {s.labels["reason"] for s in found.samples if s.name == "stellwerk_refused_total"}
    assert reasons == set(connections.REASONS)


async def test_h11_has_bounds_of_its_own(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, http="h11") as served:
        async with connected(served) as raw:
            head = raw.head("GET", "/healthz", f"X: {'a' * 1_000_000}")
            await raw.send_all([head])
            assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        async with showing(served, None) as stranger:
            large = await stranger.post(
                "/sessions", content=b"[" * 100_000, headers={"Content-Type": "application/json"}
            )
            assert large.status_code == 401
