"""The page's form and its cookie: for a token or a key, and for nothing else; and out again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.gateway.door.bodies import MAX_BODY_BYTES
from app.principals.secrets import new_key
from tests.keyed import Keyed, control_events, make_key, revoke, showing
from tests.serving import TOKEN, Served, serving

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
async def shared(shared_database_url: str, valkey: Any) -> AsyncIterator[Served]:
    async with serving(shared_database_url, valkey.url) as served:
        yield served


@pytest.fixture
async def key(shared: Served) -> Keyed:
    return await make_key(shared, "read", "operate", project="web")


@pytest.fixture
async def browser(shared: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with showing(shared, None) as client:
        yield client


async def sign_in(browser: httpx.AsyncClient, shown: str) -> None:
    answer = await browser.post("/login", data={"key": shown})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and shown.lower() not in cookie


async def test_a_keys_cookie_reads_and_changes_nothing_not_even_from_the_gateways_own_page(
    shared: Served, key: Keyed, browser: httpx.AsyncClient
) -> None:
    await sign_in(browser, key.key)
    session_id = (await shared.create_session(project="web"))["session_id"]
    other = (await shared.create_session(project="other"))["session_id"]
    assert (await browser.get("/")).status_code == 200
    assert (await browser.get(f"/sessions/{session_id}")).status_code == 200
    assert (await browser.get(f"/sessions/{other}")).status_code == 404
    cancel, own = f"/sessions/{session_id}/cancel", {"Origin": shared.url}
    assert (await browser.post(cancel)).status_code == 401
    for origin in ("https://evil.example", "null", f"{shared.url}.evil.example"):
        assert (await browser.post(cancel, headers={"Origin": origin})).status_code == 403
    for address, body in ((cancel, {}), ("/keys", {"name": "x", "scopes": ["read"]}), ("/sessions", {"task": "x"})):
        refused = await browser.post(address, json=body, headers=own)
        assert refused.status_code == 401 and "only reads" in refused.json()["detail"], address
    assert (await browser.post(cancel, headers=own | key.headers)).status_code == 200


async def test_it_ends_with_its_key(shared: Served, key: Keyed, browser: httpx.AsyncClient) -> None:
    await sign_in(browser, key.key)
    assert (await revoke(shared, key)).status_code == 200
    async with asyncio.timeout(10):
        while (await browser.get("/approvals")).status_code == 200:
            await asyncio.sleep(0.02)
    locked = await browser.get("/")
    assert locked.status_code == 401 and "<form" in locked.text
    assert locked.headers["referrer-policy"] == "same-origin", "else browsers send the form with `Origin: null`"
    assert (await browser.get("/approvals")).json()["type"] == "urn:stellwerk:problem:unknown-key"
    assert (await browser.post("/login", data={"key": key.key})).status_code == 401


async def test_the_owners_cookie_and_the_way_out(shared: Served, browser: httpx.AsyncClient) -> None:
    await sign_in(browser, f"  {TOKEN}\n")
    assert (await browser.get("/keys")).status_code == 200
    foreign = await browser.post("/logout", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403 and (await browser.get("/keys")).status_code == 200
    out = await browser.post("/logout", headers={"Origin": shared.url})
    assert (out.status_code, out.headers["location"]) == (303, "/")
    assert (await browser.get("/keys")).status_code == 401
    assert (await browser.get("/")).status_code == 401


async def test_who_mistypes_a_key_in_a_browser_gets_the_form_again(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/login", data={"key": "wrong"}, headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert "This key is wrong" in answer.text and "<form" in answer.text
    assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("way", ["form", "address"])
@pytest.mark.parametrize(
    "shown",
    [b"", b"wrong", b"%00", b"%ED%A0%80", b"%FF%FE", b"\xff\xfe", b"stw_" + b"0" * 38, b"stwt_x", b"x" * 10_000, None],
)
async def test_what_opens_nothing(browser: httpx.AsyncClient, shown: bytes | None, way: str) -> None:
    shown = new_key().encode() if shown is None else shown
    if way == "form":
        answer = await browser.post("/login", content=b"key=" + shown, headers=FORM)
    else:
        answer = await browser.get(f"/?token={shown.decode('latin-1')}")
    assert answer.status_code == 401, answer.text
    assert "set-cookie" not in answer.headers and not browser.cookies


@pytest.mark.parametrize(
    "body", [b"", b"&" * 10_000, b"key", b"token=x", b'{"key": "x"}', b"\x00\xff", b"key=&key=x", b"=" * 1000]
)
async def test_forms_that_are_none(browser: httpx.AsyncClient, body: bytes) -> None:
    for headers in (FORM, {"Content-Type": "application/json"}, {}):
        assert (await browser.post("/login", content=body, headers=headers)).status_code == 401


async def test_a_form_from_elsewhere_or_too_large_is_refused(shared: Served, key: Keyed) -> None:
    async with showing(shared, None) as browser:
        elsewhere = await browser.post("/login", data={"key": key.key}, headers={"Origin": "https://evil.example"})
        assert elsewhere.status_code == 403 and "set-cookie" not in elsewhere.headers
        large = await browser.post("/login", content=b"key=" + b"x" * MAX_BODY_BYTES, headers=FORM)
        assert large.status_code == 413


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_link_elsewhere_signs_nobody_in_with_somebodys_key(
    shared: Served, key: Keyed, browser: httpx.AsyncClient, site: str
) -> None:
    """They would submit what its owner reads. The stack's own token is nobody else's."""
    led = await browser.get(f"/?token={key.key}", headers={"Sec-Fetch-Site": site})
    assert led.status_code == 401 and "<form" in led.text and not browser.cookies
    for headers in ({}, {"Sec-Fetch-Site": "none"}):
        assert (await browser.get(f"/?token={key.key}", headers=headers)).status_code == 303
    assert (await browser.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": site})).status_code == 303


async def test_a_cookie_that_was_made_up_opens_nothing(shared: Served, key: Keyed, browser: httpx.AsyncClient) -> None:
    await sign_in(browser, key.key)
    ((name, value),) = browser.cookies.items()
    key_id, issued, of_all, of_project, mac = value.split(".")
    other = await make_key(shared, "admin", project="web")
    said = f"{issued}.{of_all}.{of_project}"
    for forged in (
        mac, f".{mac}", f".{said}.{mac}", f"{other.key_id}.{said}.{mac}", key_id, f"{key_id}.{said}",
        f"{key_id}.{said}.{mac[:-1]}", f"{key_id}.{int(issued) + 1}.{of_all}.{of_project}.{mac}", key.key, "é", "....",
    ):  # fmt: skip
        async with showing(shared, None) as client:
            headers = [(b"Cookie", f"{name}={forged}".encode("latin-1"))]
            assert (await client.get("/approvals", headers=headers)).status_code == 401, forged
            assert (await client.get("/", headers=headers)).status_code == 401


async def test_the_pages_script_signs_in_with_a_bearer_and_keeps_it_itself(
    shared: Served, key: Keyed, browser: httpx.AsyncClient
) -> None:
    answer = await browser.post("/login", headers=key.headers)
    assert (answer.status_code, answer.content) == (204, b"") and len(browser.cookies) == 1
    assert (await browser.get("/")).status_code == 200
    wrong = await browser.post("/login", headers={"Authorization": f"Bearer {new_key()}"})
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers


async def test_no_answer_to_a_cookie_holds_the_token(shared: Served, browser: httpx.AsyncClient) -> None:
    await sign_in(browser, TOKEN)
    session_id = (await shared.create_session())["session_id"]
    for address in (
        "/", "/openapi.json", "/sessions", f"/sessions/{session_id}", f"/sessions/{session_id}/events", "/keys",
        "/approvals", "/events?limit=100", "/operators/events", "/metrics", "/dashboard/app.js", "/dashboard/login.js",
        "/nothing",
    ):  # fmt: skip
        answer = await browser.get(address, headers={"Accept": "application/json"})
        assert TOKEN not in answer.text and TOKEN not in str(answer.headers), address


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the gateway's wall clock is ahead, in seconds; a list, to be changed."""
    ahead, now = [0.0], time.time
    monkeypatch.setattr("app.gateway.access.time", SimpleNamespace(time=lambda: now() + ahead[0]))
    return ahead


async def test_a_cookie_lives_twelve_hours_and_is_renewed_while_it_is_used(
    shared: Served, key: Keyed, browser: httpx.AsyncClient, clock: list[float]
) -> None:
    await sign_in(browser, key.key)
    first = dict(browser.cookies)
    assert "set-cookie" not in (await browser.get("/approvals")).headers and dict(browser.cookies) == first
    for hours in (6, 17, 28):  # each within twelve of the last
        clock[0] = hours * 3600
        answer = await browser.get("/approvals")
        assert answer.status_code == 200
        renewed = answer.headers["set-cookie"].lower()
        assert "httponly" in renewed and "samesite=strict" in renewed and "max-age=43200" in renewed
    async with showing(shared, None) as old:
        old.cookies.update(first)
        refused = await old.get("/approvals")
        assert refused.status_code == 401 and "sign in again" in refused.json()["detail"]
    clock[0] = 40.1 * 3600
    assert (await browser.get("/approvals")).status_code == 401


async def test_a_stream_renews_the_cookie_with_which_it_was_opened(
    shared: Served, key: Keyed, browser: httpx.AsyncClient, clock: list[float]
) -> None:
    await sign_in(browser, key.key)
    session_id = (await shared.create_session(project="web"))["session_id"]
    for address in (f"/events?session_id={session_id}", f"/events?session_id={session_id}&t=agent"):
        clock[0] += 2 * 3600
        async with browser.stream("GET", address, headers={"Accept": "text/event-stream"}) as stream:
            assert stream.status_code == 200 and stream.headers["set-cookie"].startswith("stellwerk_")


async def test_all_browsers_are_signed_out_at_once_and_their_streams_end(shared: Served) -> None:
    """Those of the project, by its administrator; keys and other projects go on."""
    admin, other = (
        await make_key(shared, "read", "admin", project="web"),
        await make_key(shared, "read", project="other"),
    )
    session_id = (await shared.create_session(project="web"))["session_id"]
    async with showing(shared, None) as browser, showing(shared, None) as elsewhere, showing(shared, admin) as bearer:
        await sign_in(browser, admin.key)
        await sign_in(elsewhere, other.key)
        async with browser.stream("GET", f"/events?session_id={session_id}") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines)
            answer = await bearer.post("/logins/revoke", json={"reason": "a lost laptop"})
            assert (answer.status_code, answer.json()) == (200, {"project": "web"})
            async with asyncio.timeout(10):
                with suppress(httpx.RemoteProtocolError):  # an incomplete body says that it is not over
                    async for _ in lines:
                        pass
        assert (await browser.get("/approvals")).status_code == 401
        assert (await browser.get("/")).status_code == 401
        assert (await elsewhere.get("/approvals")).status_code == 200
        assert (await bearer.get("/approvals")).status_code == 200
        await sign_in(browser, admin.key)
        assert (await browser.get("/approvals")).status_code == 200
        assert (await shared.client.post("/logins/revoke")).json() == {"project": None}
        async with asyncio.timeout(10):
            while (await elsewhere.get("/approvals")).status_code == 200:
                await asyncio.sleep(0.02)
        assert (await browser.get("/approvals")).status_code == 401
    actions = [event["action"] for event in await control_events(shared, "web")]
    assert "login.revoke" in actions
    refused = await shared.client.post("/logins/revoke", headers=other.headers)
    assert refused.status_code == 403
