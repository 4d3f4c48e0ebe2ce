"""The application's role, as which gateway and workers work in every test. Fixtures may tamper: they are superusers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import create_engine, transaction
from app.embedded.postgres import EmbeddedPostgres
from app.events import epochs

_servers: list[EmbeddedPostgres] = []


def remember(server: EmbeddedPostgres) -> None:
    """The run's server, whose passwords `as_app` needs."""
    _servers.append(server)


def as_app(url: str) -> str:
    """The same database for the application's role; an address of another server is returned as it is."""
    given = make_url(url)
    for server in _servers:
        app, superuser = make_url(server.url), make_url(server.superuser_url)
        if (given.username, given.password) == (superuser.username, superuser.password):
            # Not the port: a test may have a proxy in between.
            changed = given.set(username=app.username, password=app.password)
            return changed.render_as_string(hide_password=False)
    return url


@asynccontextmanager
async def tampering(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction on the engine's database in which everything is allowed."""
    async with operator_of(engine) as superuser, transaction(superuser) as db:
        yield db


@asynccontextmanager
async def operator_of(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """One on the same database that may do what only the owner may."""
    superuser = create_engine(as_superuser(engine.url).render_as_string(hide_password=False), pool_size=1)
    try:
        yield superuser
    finally:
        await superuser.dispose()


async def bump_epoch(engine: AsyncEngine, reason: str) -> int:
    """As an operator does."""
    async with operator_of(engine) as operator:
        return await epochs.bump_epoch(operator, reason)


def as_superuser(url: URL) -> URL:
    for server in _servers:
        if url.username == make_url(server.url).username:
            superuser = make_url(server.superuser_url)
            return url.set(username=superuser.username, password=superuser.password)
    return url
