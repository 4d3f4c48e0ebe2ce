"""What is denied is gathered: a flood leaves a handful of events, and their counts are right."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.requests import HTTPConnection

from app.gateway import denials
from app.gateway.access import PRINCIPAL
from app.principals.control import record_denials
from app.principals.model import DEPLOYMENT
from app.principals.secrets import new_key
from tests.acceptance.faults.proxy import Proxy
from tests.following import NO_SERVER
from tests.keyed import control_events, make_key, showing
from tests.populating import created
from tests.serving import Served, another, serving

FLOOD = 10_000
AT_ONCE = 20


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, NO_SERVER, project_rate=100_000) as served:
        yield served


async def denied(served: Served, project: str) -> list[dict[str, Any]]:
    await served.gateway.denials.flush()
    return [event for event in await control_events(served, project) if event["outcome"] == "denied"]


def counted(events: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Over the minutes, how often who was denied what."""
    counts = Counter[tuple[Any, ...]]()
    for event in events:
        counts[event["principal"] or event["address"], event["action"], event["status"]] += event["count"]
    return counts


async def test_a_flood_leaves_a_handful_of_events(served: Served) -> None:
    """Half with wrong keys, half for sessions of another project, each address another one."""
    key = await make_key(served, "read", project="web")
    foreign = await created(served.gateway.backends, project="other")

    async def flood(shown: str, status: int, number: int) -> None:
        addresses = [f"/sessions/{uuid4() if n % 2 else foreign}" for n in range(number)]
        assert await statuses(served, addresses, shown) == Counter({status: number})

    # A key that could be one costs a look at the keys, which takes its time.
    shares = ((key.key, 404, FLOOD // 2), ("wrong", 401, FLOOD * 9 // 20), (new_key(), 401, FLOOD // 20))
    await asyncio.gather(
        *(flood(shown, status, number // AT_ONCE) for shown, status, number in shares for _ in range(AT_ONCE))
    )
    action = "GET /sessions/{session_id}"
    own, deployments = await denied(served, "web"), await denied(served, DEPLOYMENT)
    assert counted(own) == {(key.name, action, 404): FLOOD // 2}
    assert counted(deployments) == {("127.0.0.1", action, 401): FLOOD // 2}
    assert len(own) + len(deployments) <= 6, "one for each minute, and it takes no three"
    for event in (*own, *deployments):
        assert event["since"] <= event["ts"] and event["target"] is None
    assert {event["key_id"] for event in own} == {key.key_id}
    assert await denied(served, "other") == []
    assert (await denied(served, "web")) == own, "what was recorded is not recorded again"


async def statuses(served: Served, addresses: list[str], shown: str) -> Counter[int]:
    """What a client that does not wait for answers is answered: one that does takes longer than the gateway."""
    port = httpx.URL(served.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {shown}\r\n"
    requests = [f"GET {address} HTTP/1.1\r\n{head}\r\n" for address in addresses[:-1]]
    requests.append(f"GET {addresses[-1]} HTTP/1.1\r\n{head}Connection: close\r\n\r\n")
    writer.write("".join(requests).encode())
    answers = (await reader.read(-1)).decode()
    writer.close()
    return Counter(int(status) for status in re.findall(r"HTTP/1\.1 (\d+)", answers))


async def test_what_is_denied_is_told_apart_by_status_endpoint_and_principal(served: Served) -> None:
    key = await make_key(served, "read", project="web")
    async with showing(served, key) as client, showing(served, None) as nothing:
        await client.get("/keys")
        await client.post(f"/sessions/{uuid4()}/cancel")
        await client.get(f"/events?session_id={uuid4()}", headers={"Accept": "text/event-stream"})
        await nothing.get("/sessions", headers={"Authorization": "Bearer wrong"})
        await nothing.post("/login", data={"key": "wrong"})
        await served.client.get(f"/sessions/{uuid4()}")  # the owner may look for what does not exist
    assert counted(await denied(served, "web")) == {
        (key.name, "GET /keys", 403): 1,
        (key.name, "POST /sessions/{session_id}/cancel", 403): 1,
        (key.name, "GET /events", 404): 1,
    }
    assert counted(await denied(served, DEPLOYMENT)) == {
        ("127.0.0.1", "GET /sessions", 401): 1,
        ("127.0.0.1", "POST /login", 401): 1,
    }


def denied_from(address: str) -> HTTPConnection:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "client": (address, 1), PRINCIPAL: None}
    return HTTPConnection(scope)


async def test_the_address_is_what_a_trusted_proxy_says_if_that_is_one(served: Served) -> None:
    """Else the proxy's own, of which nothing could be forged; what another client says of itself counts for nothing."""
    given = ["203.0.113.7", "2001:db8::7", "x" * 20_000, "<b>", "203.0.113.7.9"]

    async def seen(gateway: Served, path: str) -> set[str]:
        for address in given:
            headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": address}
            assert (await gateway.client.get(path, headers=headers)).status_code == 401
        found = await denied(gateway, DEPLOYMENT)
        return {event["address"] for event in found if event["action"] == f"GET {path}"}

    async with another(served, trusted_proxies="127.0.0.1") as behind_a_proxy:
        assert await seen(behind_a_proxy, "/approvals") == {*given[:2], "127.0.0.1"}
    assert await seen(served, "/keys") == {"127.0.0.1"}


async def test_the_kinds_are_bounded_while_the_database_is_away(
    served: Served, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many addresses ask, and however often they cannot be recorded; every single one is counted."""
    monkeypatch.setattr(denials, "MAX_KINDS", 50)
    port = httpx.URL(database_url).port or 5432
    async with (
        Proxy(port) as proxy,
        another(served, database_url=database_url.replace(f":{port}/", f":{proxy.port}/")) as other,
    ):
        gathered = other.gateway.denials
        proxy.refuses = True
        proxy.cut()
        for round_ in range(5):
            for n in range(100):
                gathered.count(denied_from(f"10.{round_}.0.{n}"), 401)
            await asyncio.gather(gathered.flush(), *(count_meanwhile(gathered, round_, n) for n in range(100)))
            assert len(gathered._counts) <= 50 + 3, "and one for those of each minute that are not told apart"
        proxy.refuses = False
        await gathered.flush()
    found = [event for event in await control_events(served, DEPLOYMENT) if event["outcome"] == "denied"]
    assert sum(event["count"] for event in found) == 5 * 200
    assert {event["action"] for event in found if "address" not in event or event["count"] > 1} <= {"others"}


async def count_meanwhile(gathered: denials.Denials, round_: int, number: int) -> None:
    gathered.count(denied_from(f"10.{round_}.1.{number}"), 401)


async def test_what_was_counted_is_recorded_when_the_gateway_ends(served: Served) -> None:
    """Also what a flush that was under way had taken."""
    for number in range(6):
        key = await make_key(served, "read", project=f"web{number}")
        async with another(served) as other, showing(other, key) as client:
            assert (await client.get("/keys")).status_code == 403
    for number in range(6):
        found = [e for e in await control_events(served, f"web{number}") if e["outcome"] == "denied"]
        assert [event["count"] for event in found] == [1]


async def test_a_flush_that_is_interrupted_loses_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = denials.Denials(served.gateway.backends)
    begun = asyncio.Event()

    async def slow(*arguments: Any) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        await record_denials(*arguments)

    monkeypatch.setattr("app.gateway.denials.record_denials", slow)
    monkeypatch.setattr(denials, "FLUSH_SECONDS", 0.01)
    gathered.count(denied_from("10.0.0.1"), 401)
    running = asyncio.create_task(gathered.run())
    await begun.wait()
    gathered.count(denied_from("10.0.0.1"), 401)
    running.cancel()
    await asyncio.wait({running})
    async with asyncio.timeout(10):
        while sum(event["count"] for event in await denied(served, DEPLOYMENT)) < 2:
            await asyncio.sleep(0.02)
    assert sum(event["count"] for event in await denied(served, DEPLOYMENT)) == 2
