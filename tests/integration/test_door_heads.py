"""Heads of requests are bounded in size and time, and so is what comes after them, over real connections."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.embedded.valkey import EmbeddedValkey
from app.metrics import REGISTRY
from tests.raw import Raw, connected
from tests.serving import TOKEN, Served, another, serving

HEAD_SECONDS = 0.5
ENDLESS_BYTES = 64 * 1024 * 1024
PART = 64 * 1024
LONGEST_PAUSE_SECONDS = 0.7
MOST_TAKEN = 20 * 1024 * 1024
"""What a client can get rid of after it was refused, system buffers included."""


@pytest.fixture(scope="module")
async def served(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[Served]:
    quick: dict[str, Any] = {"head_timeout": HEAD_SECONDS, "body_timeout": HEAD_SECONDS, "body_rate": 10_000}
    async with serving(shared_database_url, valkey.url, **quick) as served:
        yield served


@pytest.fixture
async def raw(served: Served) -> AsyncIterator[Raw]:
    async with connected(served) as raw:
        yield raw


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("stellwerk_refused_total", {"reason": reason}) or 0


def endless(begin: bytes, part: bytes) -> Iterator[bytes]:
    yield begin
    yield from itertools.repeat(part, ENDLESS_BYTES // len(part))


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a header": lambda: endless(b"GET / HTTP/1.1\r\nHost: x\r\nx: ", b"a" * PART),
    "an address": lambda: endless(b"GET /", b"a" * PART),
    "a name": lambda: endless(b"GET / HTTP/1.1\r\n", b"a" * PART),
    "many headers": lambda: endless(b"GET / HTTP/1.1\r\n", b"a: b\r\n" * (PART // 6)),
    "blank lines": lambda: endless(b"\r\n", b"\r\n" * (PART // 2)),
}


@pytest.mark.parametrize("what", ENDLESS.values(), ids=list(ENDLESS))
async def test_a_head_without_end_is_refused_while_others_are_served(
    served: Served, raw: Raw, what: Callable[[], Iterator[bytes]]
) -> None:
    before = refused("large_head")
    sending = asyncio.create_task(raw.send_all(what()))
    answer = await raw.rest()
    assert (await served.client.get("/healthz")).status_code == 200
    assert await sending < MOST_TAKEN
    assert answer.startswith(b"HTTP/1.1 431 ") and b"32768" in answer
    assert refused("large_head") == before + 1


async def test_what_is_just_small_enough_is_served(raw: Raw) -> None:
    for size, status in ((31_000, 200), (33_000, 431)):
        await raw.send(raw.head("GET", "/sessions", f"X: {'a' * size}"))
        assert await raw.status() == status


async def test_idle_connections_are_closed(served: Served) -> None:
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(served)) for _ in range(300)]
        assert await asyncio.gather(*(one.rest() for one in idle)) == [b""] * 300


async def test_a_connection_that_was_used_is_closed_when_nothing_more_comes(raw: Raw) -> None:
    await raw.send(raw.head("GET", "/healthz"))
    assert await raw.status() == 200
    await raw.send(b"\r\n")  # of which uvicorn makes that it is no longer idle
    assert b"408" in await raw.rest()


@pytest.mark.parametrize("used", [False, True])
async def test_a_head_that_drips_is_cut_off(raw: Raw, used: bool) -> None:
    if used:
        await raw.send(raw.head("GET", "/healthz"))
        assert await raw.status() == 200
    before = refused("slow_head")
    head = raw.head("GET", "/healthz", f"X: {'a' * 1000}")
    assert (await raw.drip(bytes([byte]) for byte in head)).startswith(b"HTTP/1.1 408 ")
    assert refused("slow_head") == before + 1


DRIPPING: dict[str, tuple[str, Iterator[bytes]]] = {
    "a body": ("Content-Length: 1000", itertools.repeat(b" ", 1000)),
    "chunks": ("Transfer-Encoding: chunked", itertools.cycle([b"1\r\n", b" \r\n"])),
    "an extension of a chunk": ("Transfer-Encoding: chunked", itertools.chain([b"1;"], itertools.repeat(b"a"))),
    "a trailer": ("Transfer-Encoding: chunked", itertools.chain([b"0\r\nx: "], itertools.repeat(b"a"))),
    "nothing": ("Content-Length: 10", itertools.repeat(b"", 1000)),
}


@pytest.mark.parametrize(("header", "parts"), DRIPPING.values(), ids=list(DRIPPING))
async def test_a_body_that_drips_is_cut_off(raw: Raw, header: str, parts: Iterator[bytes]) -> None:
    before = refused("slow_body")
    await raw.send(raw.head("POST", "/sessions", "Content-Type: application/json", header))
    assert (await raw.drip(parts)).startswith(b"HTTP/1.1 408 ")
    assert refused("slow_body") == before + 1


async def test_a_slow_body_that_is_fast_enough_is_taken(raw: Raw) -> None:
    body = b'{"task": "x"' + b" " * 100_000 + b"}"
    await raw.send(raw.head("POST", "/sessions", "Content-Type: application/json", f"Content-Length: {len(body)}"))
    began = asyncio.get_running_loop().time()
    for begin in range(0, len(body), 2500):
        await raw.send(body[begin : begin + 2500])
        await asyncio.sleep(0.02)  # a sixth of the rate that is asked for would be too slow, twelve times is not
    assert asyncio.get_running_loop().time() - began > HEAD_SECONDS
    assert await raw.status() == 201


@pytest.mark.parametrize("begin", [b"1;", b"0\r\nx: "], ids=["an extension", "a trailer"])
async def test_what_stands_around_chunks_is_bounded(raw: Raw, begin: bytes) -> None:
    before = refused("large_body")
    await raw.send(raw.head("POST", "/sessions", "Content-Type: application/json", "Transfer-Encoding: chunked"))
    assert await raw.send_all(endless(begin, b"a" * PART)) < MOST_TAKEN
    assert await raw.rest() == b""
    assert refused("large_body") == before + 1


async def test_a_trailer_is_no_header(raw: Raw) -> None:
    body = b'{"task": "x"}'
    head = raw.head("POST", "/sessions", "Content-Type: application/json", "Transfer-Encoding: chunked", token=None)
    await raw.send(head + b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (len(body), body, TOKEN.encode()))
    assert await raw.status() == 401


async def test_requests_one_behind_the_other_are_all_answered_in_their_order(raw: Raw) -> None:
    """Also many more than are parsed at a time, bodies between them."""
    number = 300
    ways = [raw.head("GET", "/healthz"), raw.head("GET", "/sessions", token=None)]
    ways.append(raw.head("POST", "/sessions", "Content-Type: application/json", "Content-Length: 2") + b"{}")
    sending = asyncio.create_task(raw.send(b"".join(ways) * number))
    for _ in range(number):
        assert [await raw.status() for _ in ways] == [200, 401, 422]
    await sending
    await raw.send(raw.head("GET", "/healthz", "Connection: close"))
    assert (await raw.rest()).startswith(b"HTTP/1.1 200 ")


async def test_who_takes_no_answers_is_cut_off(served: Served) -> None:
    async with another(served, send_timeout=0.3) as impatient, connected(impatient) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of its socket
        asked = asyncio.create_task(raw.send_all(endless(b"", raw.head("GET", "/openapi.json") * 500)))
        async with asyncio.timeout(20):
            assert await asked < ENDLESS_BYTES
        assert refused("takes_nothing") >= 1


async def test_http_1_0(raw: Raw) -> None:
    await raw.send(raw.head("GET", "/healthz", version="1.0"))
    answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'{"status":"ok"}')


SMUGGLED = {
    "two lengths": ["Content-Length: 0", "Content-Length: 40"],
    "both": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "not chunked last": ["Transfer-Encoding: chunked, identity"],
    "a length with a sign": ["Content-Length: +4"],
    "a name with a space": ["Transfer-Encoding : chunked"],
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=list(SMUGGLED))
async def test_a_request_within_a_request_is_none(raw: Raw, lines: list[str]) -> None:
    within = raw.head("GET", "/healthz")
    await raw.send(raw.head("POST", "/sessions", *lines) + b"0\r\n\r\n" + within)
    answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


UPGRADES = {
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
    "anything": ["upgrade: foo", "connection: keep-alive, UPGRADE"],
    "websocket": ["Connection: upgrade", "Upgrade: websocket"],
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=list(UPGRADES))
@pytest.mark.parametrize("parted", [False, True])
async def test_an_upgrade_is_ignored_and_its_body_is_a_body(raw: Raw, lines: list[str], parted: bool) -> None:
    """The parser would take the body for the next request, or drop it."""
    body = raw.head("GET", "/sessions?limit=7")
    head = raw.head("POST", "/sessions", "Content-Type: application/json", f"Content-Length: {len(body)}", *lines)
    for part in (head[:60], head[60:], body[:9], body[9:]) if parted else (head + body,):
        await raw.send(part)
        await asyncio.sleep(0.01 if parted else 0)  # so that each comes by itself
    assert await raw.status() == 422  # it is no JSON
    chunked = raw.head("POST", "/sessions", "Content-Type: application/json", "Transfer-Encoding: chunked", *lines)
    await raw.send(
        chunked + b"2\r\n{}\r\n0\r\n\r\n" + raw.head("GET", "/healthz", *lines) + raw.head("GET", "/healthz")
    )
    assert [await raw.status() for _ in range(3)] == [422, 200, 200]


COOKIES = {"quoted": '"%s"' % ("\\\\" * 15_000), "one": "a" * 31_000, "many": "a=b; " * 6_000, "equals": "=" * 31_000}


@pytest.mark.parametrize("cookie", COOKIES.values(), ids=list(COOKIES))
async def test_a_strangers_cookie_holds_nobody_up(raw: Raw, cookie: str) -> None:
    """Python's own parser of cookies took 8 s for such a head, and all others waited."""
    longest, asked = 0.0, asyncio.get_running_loop().time()
    await raw.send(raw.head("GET", "/sessions", f"Cookie: a={cookie}", token=None))
    answering = asyncio.create_task(raw.status())
    while not answering.done():
        await asyncio.sleep(0.01)
        longest, asked = max(longest, asyncio.get_running_loop().time() - asked), asyncio.get_running_loop().time()
    assert await answering == 401
    assert longest < LONGEST_PAUSE_SECONDS


async def test_many_upgrades_one_behind_the_other(raw: Raw) -> None:
    number = 2_000
    asked = raw.head("GET", "/healthz", "Connection: upgrade", "Upgrade: x")
    sending = asyncio.create_task(raw.send(asked * number))
    for _ in range(number):
        assert await raw.status() == 200
    await sending
