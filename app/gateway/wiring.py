"""What all endpoints share, made once by `main.create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.config import Settings
from app.events.follow.follower import Follower
from app.gateway.access import Access
from app.gateway.denials import Denials
from app.gateway.responses import Streams
from app.unit_of_work import Backends


@dataclass(frozen=True, slots=True)
class Gateway:
    backends: Backends
    follower: Follower
    redis: Redis
    streams: Streams
    access: Access
    denials: Denials

    @property
    def settings(self) -> Settings:
        return self.backends.settings

    @property
    def engine(self) -> AsyncEngine:
        return self.backends.engine

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """One view of the database for several statements: no event expires between two of them."""
        async with self.engine.connect() as db:
            await db.execution_options(isolation_level="REPEATABLE READ")
            yield db


async def _gateway(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


Wired = Annotated[Gateway, Depends(_gateway)]
