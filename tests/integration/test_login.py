"""The page's form and its cookie: for a token or a key, and for nothing else; and out again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.gateway.door.bodies import MAX_BODY_BYTES
from app.principals.secrets import new_key
from tests.keyed import Keyed, make_key, revoke, showing
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


async def test_a_keys_cookie_reads_and_changes_only_from_the_gateways_own_page(
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
    assert (await browser.post("/keys", json={"name": "x", "scopes": ["admin"]}, headers=own)).status_code == 403
    assert (await browser.post(cancel, headers=own)).status_code == 200
    assert (await browser.post("/sessions", json={"task": "x"}, headers=own)).status_code == 403


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
    key_id, _, mac = value.partition(".")
    other = await make_key(shared, "admin", project="web")
    for forged in (mac, f".{mac}", f"{other.key_id}.{mac}", key_id, f"{key_id}.", f"{key_id}.{mac[:-1]}", key.key, "é"):
        async with showing(shared, None) as client:
            headers = [(b"Cookie", f"{name}={forged}".encode("latin-1"))]
            assert (await client.get("/approvals", headers=headers)).status_code == 401, forged
            assert (await client.get("/", headers=headers)).status_code == 401
