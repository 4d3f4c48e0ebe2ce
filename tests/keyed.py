"""Keys as the tests make them, and clients that show one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from app.principals.model import Scope
from tests.serving import Served

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key that was made, with its id and its holder's name and project."""

    key: str
    key_id: str
    name: str
    project: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


async def make_key(served: Served, *scopes: Scope, project: str = "web", name: str | None = None, **more: Any) -> Keyed:
    """A key that the owner makes; its name is a new one unless it is given."""
    name = name or f"key-{next(_numbers)}"
    body = {"name": name, "scopes": list(scopes), "project": project} | more
    answer = await served.client.post("/keys", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return Keyed(made["key"], made["record"]["key_id"], name, project)


async def revoke(served: Served, key: Keyed, *, by: Keyed | None = None) -> httpx.Response:
    headers = by.headers if by else None
    return await served.client.post(f"/keys/{key.key_id}/revoke", headers=headers)


@asynccontextmanager
async def showing(served: Served, key: Keyed | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client that shows the key and nothing else; without one it shows nothing."""
    headers = key.headers if key else {}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
        yield client


async def cookie_of(served: Served, key: Keyed) -> dict[str, str]:
    """The header with the cookie that the login form gives for the key."""
    async with showing(served, None) as browser:
        answer = await browser.post("/login", data={"key": key.key})
        assert answer.status_code == 303, answer.text
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}


async def ticket_of(served: Served, key: Keyed, session_id: object, **asked: Any) -> str:
    answer = await served.client.post(f"/sessions/{session_id}/tickets", headers=key.headers, json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, address: str, headers: dict[str, str] | None = None
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """An open stream, behind its first frame."""
    own = dict(headers or {})  # it adds to them
    async with aconnect_sse(client, "GET", address, headers=own) as source:
        assert source.response.status_code == 200, await source.response.aread()
        events = source.aiter_sse()
        assert (await anext(events)).event == "stream"
        yield events


async def control_events(served: Served, project: str) -> list[dict[str, Any]]:
    """All that was recorded in the project, as the owner reads it."""
    found, cursor = list[dict[str, Any]](), "0"
    while True:
        query: dict[str, str | int] = {"project": project, "after": cursor, "limit": 1000}
        page = (await served.client.get("/operators/events", params=query)).json()
        if not page["events"]:
            return found
        found += page["events"]
        cursor = page["next"]
