"""Bodies: a stranger's is not read, a client's is bounded in size and in what it holds, and neither holds others up."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from app.embedded.valkey import EmbeddedValkey
from app.gateway.door.bodies import MAX_BODY_BYTES, MAX_VALUES
from app.principals.secrets import new_key
from app.progress import SessionId
from app.sessions.model import StepToken
from tests.keyed import make_key, revoke, showing
from tests.raw import Raw, connected
from tests.serving import TOKEN, Served, serving

JSON = "Content-Type: application/json"
HOLLOW = b"[" + b"[]," * (MAX_BODY_BYTES // 3 - 2) + b"[]]"
LENGTH = f"Content-Length: {MAX_BODY_BYTES}"
SESSION = f"/sessions/{uuid4()}"
LONGEST_PAUSE_SECONDS = 0.7
"""All clients wait so long at most for one request; what was parsed as it came took 1.3 s and more."""


@pytest.fixture(scope="module")
async def served(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[Served]:
    async with serving(shared_database_url, valkey.url) as served:
        yield served


@pytest.fixture
async def raw(served: Served) -> AsyncIterator[Raw]:
    async with connected(served) as raw:
        yield raw


PATHS = ["/sessions", f"{SESSION}/events", f"{SESSION}/approvals/1", f"{SESSION}/cancel", f"{SESSION}/tickets", "/keys"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", [LENGTH, "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("token", [None, "wrong", new_key(), f"step.{uuid4()}.1.1"])
async def test_a_stranger_is_answered_before_a_byte_of_the_body_is_sent(
    raw: Raw, path: str, length: str, token: str | None
) -> None:
    await raw.send(raw.head("POST", path, JSON, length, token=token))
    answer = await raw.rest()  # the gateway ends it: there is nothing to wait for
    assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].startswith("urn:stellwerk:problem:")


@pytest.mark.parametrize("length", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
async def test_a_made_up_step_token_is_a_strangers(raw: Raw, length: str) -> None:
    session_id = uuid4()
    token = StepToken(SessionId(session_id), 1, 1, "agent", uuid4())
    await raw.send(raw.head("POST", f"/sessions/{session_id}/events", JSON, length, token=str(token)))
    answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 409 ") and b"connection: close" in answer
    assert b"urn:stellwerk:problem:lease-lost" in answer


async def test_a_key_that_was_revoked_is_a_strangers(served: Served, raw: Raw) -> None:
    key = await make_key(served, "submit")
    await raw.send(raw.head("POST", "/sessions", JSON, "Content-Length: 13", token=key.key) + b'{"task": "x"}')
    assert await raw.status() == 201
    await revoke(served, key)
    async with asyncio.timeout(10), showing(served, key) as client:
        while (await client.get("/sessions")).status_code != 401:
            await asyncio.sleep(0.02)
    await raw.send(raw.head("POST", "/sessions", JSON, LENGTH, token=key.key))
    assert (await raw.rest()).startswith(b"HTTP/1.1 401 ")


async def test_who_waits_to_be_asked_for_the_body_is_not(raw: Raw) -> None:
    await raw.send(raw.head("POST", "/sessions", JSON, "Content-Length: 100", "Expect: 100-continue", token="wrong"))
    answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" in answer


async def test_who_sends_it_all_the_same_can_read_the_answer(served: Served) -> None:
    """It is thrown away; ended at once, the connection would be reset, and the answer with it."""
    async with showing(served, None) as stranger:
        answers = await asyncio.gather(
            *(
                stranger.post("/sessions", content=HOLLOW, headers={"Content-Type": "application/json"})
                for _ in range(8)
            )
        )
    assert [answer.status_code for answer in answers] == [401] * 8


async def test_a_small_one_leaves_the_connection_open(raw: Raw) -> None:
    for _ in range(3):
        await raw.send(raw.head("POST", "/sessions", JSON, "Content-Length: 13", token="wrong") + b'{"task": "x"}')
        assert await raw.status() == 401
    await raw.send(raw.head("POST", "/sessions", JSON, "Content-Length: 13") + b'{"task": "x"}')
    assert await raw.status() == 201


async def longest_pause(work: asyncio.Task[httpx.Response]) -> float:
    """How long the gateway, which shares the test's loop, did nothing else while it answered."""
    clock, longest = asyncio.get_running_loop().time, 0.0
    gc.collect()
    gc.freeze()  # as the gateway does
    try:
        before = clock()
        while not work.done():
            await asyncio.sleep(0.001)
            longest, before = max(longest, clock() - before), clock()
    finally:
        gc.unfreeze()
    return longest


DEEP = b'{"task": "x", "input": {"v": ' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}}"
HOLDS_TOO_MUCH = {
    "empty lists": HOLLOW,
    "empty lists within": b'{"task": "x", "input": {"v": ' + HOLLOW[: 3 * 2_700_000] + b"[]]}}",
    "numbers": b'{"task": "x", "input": {"v": [' + b"1," * 4_000_000 + b"1]}}",
    "texts": b'{"task": "x", "input": {"v": [' + b'"",' * 2_700_000 + b'""]}}',
    "unknown names": b"{" + b",".join(b'"%x":0' % n for n in range(700_000)) + b"}",
    "depth": DEEP,
}


@pytest.mark.parametrize("body", HOLDS_TOO_MUCH.values(), ids=list(HOLDS_TOO_MUCH))
async def test_what_holds_too_much_is_refused_and_holds_nobody_up(served: Served, body: bytes) -> None:
    assert len(body) <= MAX_BODY_BYTES
    posting = asyncio.create_task(
        served.client.post("/sessions", content=body, headers={"Content-Type": "application/json"})
    )
    assert await longest_pause(posting) < LONGEST_PAUSE_SECONDS
    answer = await posting
    assert answer.status_code == 413 and f"{MAX_VALUES} values" in answer.json()["detail"]


AS_MUCH_AS_MAY_BE = {
    "lists": b'{"task": "x", "input": {"v": [' + b"[]," * (MAX_VALUES // 2 - 10) + b"[]]}}",
    "numbers": b'{"task": "x", "input": {"v": [' + b"1," * (MAX_VALUES - 10) + b"1]}}",
    "unknown names": b"{" + b",".join(b'"%x":0' % n for n in range(MAX_VALUES - 10)) + b"}",
}


@pytest.mark.parametrize("body", AS_MUCH_AS_MAY_BE.values(), ids=list(AS_MUCH_AS_MAY_BE))
async def test_what_holds_as_much_as_may_be_holds_nobody_up(served: Served, body: bytes) -> None:
    posting = asyncio.create_task(
        served.client.post("/sessions", content=body, headers={"Content-Type": "application/json"})
    )
    assert await longest_pause(posting) < LONGEST_PAUSE_SECONDS
    assert (await posting).status_code in {201, 422}


@pytest.mark.parametrize("text", ["a, [b] {c} ", 'He said "no", ', "\\", "📡,"])
async def test_a_large_text_is_not_many_values(served: Served, text: str) -> None:
    task = {"task": "x", "input": {"task": text * (5_000_000 // len(json.dumps(text)))}}
    answer = await served.client.post("/sessions", json=task)
    assert answer.status_code == 201, answer.text


SIZES = {"/sessions": 8 * 1024 * 1024, f"{SESSION}/cancel": 256 * 1024, "/keys": 256 * 1024, "/login": 16 * 1024}


@pytest.mark.parametrize(("path", "size"), SIZES.items(), ids=list(SIZES))
async def test_each_endpoint_takes_what_it_may_need(served: Served, path: str, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // 8192):
            yield b" " * 8192
        yield b" "

    for body in (b" " * (size + 1), chunks()):
        # A bearer signs in by itself, whatever the body is.
        shown = {"Authorization": ""} if path == "/login" else {}
        answer = await served.client.post(path, content=body, headers={"Content-Type": "application/json", **shown})
        assert answer.status_code == 413 and str(size) in answer.json()["detail"]


async def test_a_report_may_be_as_large_as_an_event(raw: Raw) -> None:
    token = f"step.{uuid4()}.1.1.{uuid4()}.codesmith"
    await raw.send(raw.head("POST", f"{SESSION}/events", JSON, f"Content-Length: {600 * 1024}", token=token))
    assert (await raw.rest()).startswith(b"HTTP/1.1 413 ")
    assert TOKEN not in token
