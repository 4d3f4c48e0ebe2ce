"""A real gateway on a free port, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from app.config import Settings
from app.database import transaction
from app.gateway.server import Http, make_server
from app.gateway.wiring import Gateway
from tests.following import quick
from tests.roles import as_app

TOKEN = "the-owner's-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Served:
    def __init__(self, app: FastAPI, server: uvicorn.Server, url: str, client: httpx.AsyncClient) -> None:
        self.app, self.server, self.url, self.client = app, server, url, client

    @property
    def gateway(self) -> Gateway:
        gateway = self.app.state.gateway
        assert isinstance(gateway, Gateway)
        return gateway

    async def create_session(self, task: str = "fix the lint errors", **more: Any) -> dict[str, Any]:
        answer = await self.client.post("/sessions", json={"task": task} | more)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


@asynccontextmanager
async def serving(
    database_url: str, redis_url: str, *, http: Http = "httptools", **changes: Any
) -> AsyncIterator[Served]:
    settings = quick(database_url=as_app(database_url), redis_url=redis_url, token=TOKEN, **changes)
    async with serving_app(settings, http) as served:
        async with transaction(served.gateway.engine) as db:
            await db.execute(
                text(
                    "WITH alive AS (INSERT INTO workers (worker) VALUES ('worker-1'))"
                    " INSERT INTO workflows (name, version, langgraph_version, input_fields)"
                    " VALUES ('repair', '1', '1.2', '{task,path}')"
                )
            )
        yield served


@asynccontextmanager
async def another(served: Served, **changes: Any) -> AsyncIterator[Served]:
    """A second gateway on the same database."""
    settings = Settings(**served.gateway.settings.model_dump(exclude_unset=True) | changes)
    async with serving_app(settings) as other:
        yield other


@asynccontextmanager
async def serving_app(settings: Settings, http: Http = "httptools") -> AsyncIterator[Served]:
    server = make_server(settings, http=http, host="127.0.0.1", port=0, timeout_graceful_shutdown=5)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done(), running
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, headers=BEARER, timeout=20) as client:
            yield Served(server.app, server, url, client)
    finally:
        server.should_exit = True
        await running
