"""Who gets in, and what is said to those who do not."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from app.config import Settings
from app.errors import BadInput
from app.gateway.door.bodies import MAX_BODY_BYTES
from app.gateway.main import create_app
from tests.serving import BEARER, TOKEN, Served, another, serving


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
async def stranger(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["type"].startswith("urn:stellwerk:problem:")
    assert body["title"] and body["detail"] and body["instance"] == answer.request.url.path


async def test_only_the_probes_are_open(served: Served, stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/healthz")).json() == {"status": "ok"}
    ready = {
        "ready": True,
        "database": True,
        "redis": True,
        "workers": 1,
        "refused": 0,
        "refusals": None,
        "reason": None,
    }
    assert (await stranger.get("/readyz")).json() == ready
    session = f"/sessions/{uuid4()}"
    for path in ("/sessions", session, f"{session}/events", f"/events?session_id={uuid4()}", "/approvals"):
        assert_problem(await stranger.get(path), 401)
    for path in ("/openapi.json", f"{session}/patch", f"{session}/artifacts/{'0' * 64}", "/dashboard/app.js"):
        assert_problem(await stranger.get(path), 401)
    for path in ("/sessions", f"{session}/cancel", f"{session}/approvals/1", f"{session}/events"):
        assert_problem(await stranger.post(path, json={"task": "x", "verdict": "approved"}), 401)
    assert_problem(await stranger.get("/sessions", headers={"Authorization": "Bearer wrong"}), 401)
    assert (await stranger.get("/sessions", headers=BEARER)).status_code == 200


async def test_every_path_of_the_document_needs_a_token(served: Served, stranger: httpx.AsyncClient) -> None:
    document = (await served.client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        if path in {"/healthz", "/readyz"}:
            continue
        for method, operation in operations.items():
            ((scheme, _),) = operation["security"][0].items()
            assert scheme == "bearer", path
            address = path.format(session_id=uuid4(), step=1, digest="0" * 64, key_id=uuid4(), offset=1)
            assert (await stranger.request(method, address)).status_code in {401, 422}, (method, path)


async def test_the_page_and_its_cookie(served: Served, stranger: httpx.AsyncClient) -> None:
    locked = await stranger.get("/")
    assert locked.status_code == 401 and "stellwerk up" in locked.text
    assert_problem(await stranger.get("/", params={"token": "wrong"}), 401)
    entered = await stranger.get("/", params={"token": TOKEN})
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    page = await stranger.get("/")
    assert page.status_code == 200 and "Sessions" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    for name in ("app.js", "lines.js", "login.js", "style.css"):
        assert (await stranger.get(f"/dashboard/{name}")).status_code == 200
    assert (await stranger.get("/dashboard/locked.html")).status_code == 422
    assert (await stranger.get("/sessions")).status_code == 200

    without_origin = await stranger.post("/sessions", json={"task": "x"})
    assert_problem(without_origin, 401)
    with_origin = await stranger.post("/sessions", json={"task": "x"}, headers={"Origin": served.url})
    assert_problem(with_origin, 401)


async def test_foreign_pages_and_hosts(served: Served) -> None:
    for origin in ("https://evil.example", "http://localhost:1", "null", "http://[", f"{served.url}.evil.example"):
        assert_problem(await served.client.get("/sessions", headers={"Origin": origin}), 403)
    for host in ("evil.example", "localhost.evil.example:80", "[::1", ""):
        assert_problem(await served.client.get("/sessions", headers={"Host": host}), 421)
    for host in ("localhost", "localhost:80", "[::1]:80", "127.0.0.1"):
        assert (await served.client.get("/sessions", headers={"Host": host})).status_code == 200
    assert (await served.client.get("/healthz", headers={"Host": "10.0.0.1"})).status_code == 200


async def test_origins_are_compared_whole(served: Served) -> None:
    """By which scheme a browser came, a proxy says that is trusted."""
    proxied = {"Host": "agents.example", "X-Forwarded-Proto": "https"}
    async with another(served, allowed_hosts="agents.example", trusted_proxies="127.0.0.1") as behind_a_proxy:
        for origin in ("https://agents.example", "https://agents.example:443", "https://AGENTS.example"):
            answer = await behind_a_proxy.client.get("/sessions", headers=proxied | {"Origin": origin})
            assert answer.status_code == 200, origin
        for origin in ("http://agents.example", "https://agents.example:8443", "https://localhost", "https://"):
            assert_problem(await behind_a_proxy.client.get("/sessions", headers=proxied | {"Origin": origin}), 403)
    async with another(served, allowed_hosts="agents.example") as unaware:
        answer = await unaware.client.get("/sessions", headers=proxied | {"Origin": "https://agents.example"})
        assert_problem(answer, 403)
        assert "STELLWERK_TRUSTED_PROXIES" in answer.json()["detail"]
        answer = await unaware.client.get("/sessions", headers=proxied | {"Origin": "http://agents.example"})
        assert answer.status_code == 200


async def test_large_bodies(served: Served) -> None:
    large = b" " * (MAX_BODY_BYTES + 1)

    async def chunks() -> AsyncIterator[bytes]:
        yield large[: MAX_BODY_BYTES // 2]
        yield large[MAX_BODY_BYTES // 2 :]

    headers = {"Content-Type": "application/json"}
    assert_problem(await served.client.post("/sessions", content=large, headers=headers), 413)
    assert_problem(await served.client.post("/sessions", content=chunks(), headers=headers), 413)


async def test_unknown_addresses_and_methods(served: Served) -> None:
    assert_problem(await served.client.get("/nothing/here"), 404)
    assert_problem(await served.client.get("/sessions/"), 404)  # a redirect would be to an address of our own making
    wrong = await served.client.delete("/sessions")
    assert_problem(wrong, 405)
    assert wrong.headers["allow"] == "GET, POST"


async def test_no_token_in_the_log(
    served: Served, stranger: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await stranger.get("/", params={"token": TOKEN})
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("missing", ["token", "database_url", "redis_url"])
def test_it_does_not_start_without(missing: str) -> None:
    given = {"token": TOKEN, "database_url": "postgresql://x", "redis_url": "redis://x"} | {missing: None}
    with pytest.raises(BadInput, match=f"STELLWERK_{missing.upper()}"):
        create_app(Settings.model_validate(given))
