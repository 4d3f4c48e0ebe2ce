"""Clients as others publish them, used as their own pages say: every event once and in order, or `reset` says why.

All clients of a scenario run at once. What each needs of its user stands in tests/stock/follow.mjs, follow.sh and
clients.py; none gets an empty message, or one that is no JSON, and each stops by itself.
"""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from app.embedded.postgres import EmbeddedPostgres
from app.events.types import StreamId
from app.gateway.streaming import frames
from tests.acceptance.test_resume import CHROMIUM_OPTIONS
from tests.conftest import fresh_database
from tests.following import append, close, engine_of, logged, new_stream
from tests.nginx import make_certificate, nginx
from tests.roles import bump_epoch
from tests.serving import BEARER, Served, another, serving
from tests.stock.clients import CLIENTS, HAVE_NO_204, NODE_CLIENTS, PATIENCE_SECONDS, Heard, Stock, following
from tests.stock.compressing import compressing_proxy
from tests.stock.lines import Cut, Line, line_to
from tests.stock.packages import install_clients
from tests.surroundings import CHROMIUM, NO_CHROMIUM, optional_program

pytestmark = pytest.mark.browser

SEED = 7
CUTS = 5
HEARTBEAT_SECONDS, HEARTBEATS = 0.5, 8
LONG_HEARTBEAT_SECONDS, LONG_HEARTBEATS = 15, 4
KINDS = {"stream", "agent", "session", "reset", "away", "cursor", "end"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages of Node's clients and what drives them."""
    directory = tmp_path_factory.mktemp("stock")
    install_clients(directory)
    return directory


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = optional_program(*CHROMIUM)
    if chromium is None:
        pytest.skip(NO_CHROMIUM)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield launched
        await launched.close()


@pytest.fixture
def stock_of(packages: Path, browser: Browser) -> Callable[[Served], Stock]:
    node, curl = optional_program("node"), optional_program("curl")
    if node is None or curl is None:
        pytest.skip("curl is not installed: Debian's package curl brings it")
    return lambda served: Stock(packages, node, curl, browser, served.url)


@pytest.fixture(autouse=True)
def back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Yaffle's takes at least a second all the same."""
    monkeypatch.setattr(frames, "RETRY_MS", (20, 60))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def path_of(stream_id: StreamId) -> str:
    return f"/events?session_id={stream_id}"


@asynccontextmanager
async def lines_to(
    served: Served, plan: Callable[[str], list[Cut]] = lambda client: []
) -> AsyncIterator[dict[str, Line]]:
    """A line for each client."""
    async with AsyncExitStack() as stack:
        port = port_of(served.url)
        yield {client: await stack.enter_async_context(line_to(port, *plan(client))) for client in CLIENTS}


def through(lines: dict[str, Line], stream_id: StreamId) -> Callable[[str], str]:
    return lambda client: f"http://127.0.0.1:{lines[client].port}{path_of(stream_id)}"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def all_have(heard: dict[str, Heard], count: int) -> None:
    await until(lambda: all(len(one.events) >= count for one in heard.values()))


def assert_well_formed(heard: dict[str, Heard]) -> None:
    for client, one in heard.items():
        for message in one.messages:
            assert message.kind in KINDS, (client, message)
            assert isinstance(json.loads(message.data), dict), (client, message)


def assert_each_once(heard: dict[str, Heard], expected: list[str]) -> None:
    assert_well_formed(heard)
    for client, one in heard.items():
        assert one.events == expected, client
        assert "reset" not in one.kinds, client


def assert_ended(heard: dict[str, Heard]) -> None:
    for client, one in heard.items():
        assert (one.kinds[-1], one.kinds.count("end")) == ("end", 1), client


def any_bytes(client: str) -> list[Cut]:
    """Also within the answer's head, a field's name, a character, and between a message and its blank line."""
    chance = random.Random(f"{SEED} {client}")
    return [Cut(chance.randrange(1, 4000), how=chance.choice(["fin", "reset"])) for _ in range(CUTS)]


async def test_lines_that_are_cut_at_any_byte(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url) as served, lines_to(served, any_bytes) as lines:
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(60))
        async with following(stock_of(served), through(lines, stream_id)) as heard:
            await all_have(heard, 20)
            await append(engine, stream_id, range(60, 70), size=3000)
            await all_have(heard, 70)
            await close(engine, stream_id)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    assert {client: line.plan for client, line in lines.items()} == {client: [] for client in CLIENTS}


def after_the_id(client: str) -> list[Cut]:
    """Where `id:` has come and its event has not, the whole event but its blank line, and just before `end`."""
    return [
        Cut(before=b'event: agent\ndata: {"offset":3,'),
        Cut(before=b"\n\nid: 7\n", how="reset"),
        Cut(before=b"id: 11\nevent: end\n"),
    ]


async def test_a_line_that_is_cut_behind_an_id_and_just_before_the_end(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str
) -> None:
    """204 then says that it is over, and the clients stop without having seen `end`; others ask for it."""
    async with serving(database_url, redis_url) as served, lines_to(served, after_the_id) as lines:
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(10))
        await close(engine, stream_id)
        async with following(stock_of(served), through(lines, stream_id)) as heard:
            await all_have(heard, 11)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    for client, line in lines.items():
        status, ends = (b"200", 1) if client in HAVE_NO_204 else (b"204", 0)
        assert line.plan == [] and heard[client].kinds.count("end") == ends, client
        assert line.carried[-1].startswith(b"HTTP/1.1 " + status), client


async def test_a_gateway_that_is_restarted(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url) as second, AsyncExitStack() as first_life:
        first = await first_life.enter_async_context(another(second))
        engine = second.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(10))
        async with lines_to(first) as lines, following(stock_of(second), through(lines, stream_id)) as heard:
            await all_have(heard, 10)
            for line in lines.values():
                line.target_port = port_of(second.url)
            await first_life.aclose()  # as SIGTERM does
            await append(engine, stream_id, range(10, 20))
            await all_have(heard, 20)
            await close(engine, stream_id)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    assert_ended(heard)
    for client, one in heard.items():
        assert one.kinds.count("away") == 1 and one.kinds.count("stream") == 2, client


async def test_silence(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str, request: pytest.FixtureRequest
) -> None:
    """With --long it lasts a minute. Nobody hears of it, and nobody takes the line for dead."""
    is_long = request.config.getoption("long")
    every, count = (LONG_HEARTBEAT_SECONDS, LONG_HEARTBEATS) if is_long else (HEARTBEAT_SECONDS, HEARTBEATS)
    async with serving(database_url, redis_url, heartbeat=every) as served, lines_to(served) as lines:
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3))
        async with following(stock_of(served), through(lines, stream_id)) as heard:
            await all_have(heard, 3)
            async with asyncio.timeout(2 * every * count + PATIENCE_SECONDS):
                while any(line.carried[-1].count(b": heartbeat\n") < count for line in lines.values()):
                    await asyncio.sleep(0.05)
            assert {tuple(one.kinds) for one in heard.values()} == {("stream", "agent", "agent", "agent")}
            await append(engine, stream_id, range(3, 5))
            await close(engine, stream_id)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    assert_ended(heard)
    assert {client: len(line.carried) for client, line in lines.items()} == dict.fromkeys(CLIENTS, 1)


@pytest.fixture
async def surviving(database_url: str) -> StreamId:
    """A stream of which five events are in the backup."""
    async with engine_of(database_url) as engine:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(5))
    return stream_id


@pytest.fixture
def restored_url(postgres: EmbeddedPostgres, database_url: str, surviving: StreamId) -> Iterator[str]:
    """The backup, restored."""
    with fresh_database(postgres, database_url.rpartition("/")[2]) as url:
        yield url


@pytest.mark.parametrize("seen", [5, 8])
async def test_a_database_that_is_restored(
    stock_of: Callable[[Served], Stock],
    seen: int,
    surviving: StreamId,
    database_url: str,
    restored_url: str,
    redis_url: str,
) -> None:
    """Clients that saw no more than the backup has go on; the others hear why everything comes again."""
    async with AsyncExitStack() as first_life, serving(restored_url, redis_url) as after:
        before = await first_life.enter_async_context(serving(database_url, redis_url))
        await append(before.gateway.engine, surviving, range(5, seen))
        first = await logged(before.gateway.engine, surviving)
        engine = after.gateway.engine
        await bump_epoch(engine, "restored")
        await append(engine, surviving, range(100, 106))
        async with lines_to(before) as lines, following(stock_of(after), through(lines, surviving)) as heard:
            await all_have(heard, seen)
            for line in lines.values():
                line.target_port = port_of(after.url)
            await first_life.aclose()
            await all_have(heard, seen + 1)
            await append(engine, surviving, range(106, 109))
            await close(engine, surviving)
        second = await logged(engine, surviving)
    assert_well_formed(heard)
    assert_ended(heard)
    for client, one in heard.items():
        if seen == 5:
            assert (one.events, one.kinds.count("reset")) == (second, 0), client
            continue
        resets = [number for number, message in enumerate(one.messages) if message.kind == "reset"]
        assert len(resets) == 1 and json.loads(one.messages[resets[0]].data)["reason"], client
        assert one.events == first + second, client
        assert [m.data for m in one.messages[resets[0] :] if m.is_event] == second, client


async def test_behind_nginx_over_tls_and_http_2(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """One of its two gateways stops. Node's `fetch` and httpx speak HTTP/1.1, the others HTTP/2."""
    if optional_program("nginx") is None:
        pytest.skip("nginx is not installed: Debian's package nginx-light brings it")
    make_certificate(tmp_path)
    authority = tmp_path / "fullchain.pem"
    async with serving(database_url, redis_url) as second, AsyncExitStack() as stack:
        first_life = await stack.enter_async_context(AsyncExitStack())
        first = await first_life.enter_async_context(another(second))
        gateways = [served.url.removeprefix("http://") for served in (first, second)]
        server = nginx(tmp_path, gateways, certificates=tmp_path)
        address = await asyncio.to_thread(server.__enter__)
        try:
            assert await negotiated(address, authority) == "h2"
            engine = second.gateway.engine
            stream_id = await new_stream(engine)
            await append(engine, stream_id, range(10))
            url = f"https://{address}{path_of(stream_id)}"
            async with following(stock_of(second), lambda client: url, authority) as heard:
                await all_have(heard, 10)
                await first_life.aclose()
                await append(engine, stream_id, range(10, 20))
                await all_have(heard, 20)
                await close(engine, stream_id)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    assert_ended(heard)
    assert any("away" in one.kinds for one in heard.values())


async def negotiated(address: str, authority: Path) -> str | None:
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    spoken: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.transport.abort()  # its settings may be on the way: a polite end would wait for silence
    return spoken


async def test_behind_a_compressing_proxy(
    stock_of: Callable[[Served], Stock], database_url: str, redis_url: str
) -> None:
    """It would hold back to its end whatever may be transformed, as it does with pages."""
    async with serving(database_url, redis_url) as served, compressing_proxy(served.url) as proxy:
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(10))
        async with httpx.AsyncClient(headers=BEARER) as client:
            page = await client.get(f"{proxy}{path_of(stream_id)}".replace("/events?session_id=", "/sessions/"))
        assert page.headers["content-encoding"] == "gzip"
        async with following(stock_of(served), lambda client: f"{proxy}{path_of(stream_id)}") as heard:
            await all_have(heard, 10)
            await append(engine, stream_id, range(10, 15))
            await all_have(heard, 15)  # while the stream is open
            await close(engine, stream_id)
        expected = await logged(engine, stream_id)
    assert_each_once(heard, expected)
    assert_ended(heard)


def test_no_address_of_a_registry_stands_in_the_lock() -> None:
    lock = json.loads((Path(__file__).parents[1] / "stock" / "package-lock.json").read_text())
    assert {f"node_modules/{client}" for client in NODE_CLIENTS} < lock["packages"].keys()
    assert all("resolved" not in package for package in lock["packages"].values())
