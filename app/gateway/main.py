"""The gateway's one place of wiring."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from app.config import Settings
from app.database import DATABASE_AWAY, DriverPool, create_engine
from app.errors import BadInput, Unavailable
from app.events.epochs import observe_cluster, watch_cluster
from app.events.follow.follower import Follower
from app.events.push import KEYS_CHANNEL, Push, connect
from app.events.seals import SealKeys
from app.gateway import approvals, events, health, keys, logins, metrics, openapi, operators, page, problems, sessions
from app.gateway.access import Access
from app.gateway.denials import Denials
from app.gateway.door.admission import Admission, Failures
from app.gateway.door.connections import Connections
from app.gateway.figures import shared_figures
from app.gateway.middleware import Guard
from app.gateway.responses import Streams
from app.gateway.streaming.asgi_response import AsgiStreams
from app.gateway.streaming.fast_path import FastPath
from app.gateway.wiring import Gateway
from app.principals.key_ring import KeyRing
from app.roles import warn_of_power
from app.sessions.dispatch import Dispatch
from app.sessions.knowing import keep_learning
from app.unit_of_work import Backends

logger = structlog.get_logger(__name__)

CLOSE_SECONDS = 2.0


def create_app(settings: Settings, *, streams: Callable[[float], Streams] = AsgiStreams) -> FastAPI:
    """The application, to be served as `guarded`; `streams` fits the server (see server.streams_for).

    Raises BadInput for settings that it cannot run with.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise BadInput("set STELLWERK_DATABASE_URL and STELLWERK_REDIS_URL, or use `stellwerk up`")
    if settings.token is None or not settings.token.get_secret_value():
        raise BadInput("set STELLWERK_TOKEN to a secret of your own; without one every visitor could run agents here")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        addresses = settings.database_url or "", settings.redis_url or ""
        async with (
            _gateway(settings, *addresses, streams) as gateway,
            shared_figures(gateway) as figures,
            health.shared_probe(gateway) as probe,
        ):
            app.state.gateway, app.state.figures, app.state.probe = gateway, figures, probe
            yield

    app = FastAPI(
        title="Stellwerk",
        version=version("stellwerk"),
        description="Multi-agent workflows on an append-only log that any client resumes at any offset.",
        lifespan=lifespan,
        responses=problems.RESPONSES,
        openapi_url=None,  # served by our own endpoint, to those who may
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to an absolute address, of which the gateway knows not enough
    )
    problems.install(app)
    for endpoints in (sessions, events, approvals, operators, keys, logins, health, metrics, page, openapi):
        app.include_router(endpoints.router)
    return app


def guarded(app: FastAPI, settings: Settings, connections: Connections) -> ASGIApp:
    """What the server is to call. The middleware sees the server's own `send`, and answers of every kind."""
    failures = Failures(settings, connections.addresses, time.monotonic)
    door = ServerErrorMiddleware(Admission(FastPath(app), app, failures), handler=problems.on_bug)
    return Guard(door, settings=settings, connections=connections, failures=failures)


@asynccontextmanager
async def _running(**work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on as long as the gateway serves; an error in it is logged, and ends only what it concerns."""
    tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.critical("the gateway is broken; restart this process", task=task.get_name(), exc_info=error)


@asynccontextmanager
async def _gateway(
    settings: Settings, database_url: str, redis_url: str, streams: Callable[[float], Streams]
) -> AsyncIterator[Gateway]:
    engine = create_engine(database_url, pool_size=settings.database_pool_size, limit=settings.statement_limit)
    pool = DriverPool(database_url, limit=settings.statement_limit)
    seal_keys = SealKeys(engine)
    push = Push(redis_url, seal_keys, inline_bytes=settings.push_inline_bytes)
    dispatch = Dispatch(settings.broker_url or redis_url)
    redis = connect(redis_url)
    try:
        try:
            await observe_cluster(engine)
            await warn_of_power(engine)
        except DATABASE_AWAY as error:
            logger.warning("the database is away; streams wait for it", error=str(error).splitlines()[0])
        async with Follower(engine, redis_url, settings) as follower:
            open_streams = streams(settings.send_timeout.total_seconds())
            backends = Backends(settings, engine, pool, push, dispatch)
            keys = KeyRing(engine, follower.look_again)
            follower.subscriptions.add_channel(KEYS_CHANNEL, keys)
            with suppress(Unavailable, *DATABASE_AWAY):
                # Before the first request: a browser that came back and was told 503 would not come again.
                await keys.read()
            access, denials = Access(settings, keys, follower.look_again), Denials(backends)
            async with _running(
                cluster=watch_cluster(engine, seal_keys.expect),
                streams=open_streams.watch(),
                keys=keys.run(),
                lapses=keys.watch(),
                denials=denials.run(),
                secrets=keep_learning(backends),
            ):
                yield Gateway(backends, follower, redis, open_streams, access, denials)
    finally:
        await push.close()
        await redis.aclose()
        await asyncio.to_thread(dispatch.close)
        await pool.close()
        await engine.dispose()
