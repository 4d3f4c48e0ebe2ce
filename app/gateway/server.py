"""uvicorn, with bounds for clients, and told of open streams: it waits for them when it is to stop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.gateway.door.connections import Connections, open_files
from app.gateway.door.protocol import BoundedProtocol, DoorConfig
from app.gateway.main import create_app, guarded
from app.gateway.responses import Streams
from app.gateway.streaming.asgi_response import AsgiStreams
from app.gateway.streaming.uvicorn_response import UvicornStreams
from app.gateway.wiring import Gateway

Http = Literal["httptools", "h11"]
"""uvicorn's two implementations of HTTP; h11 has bounds of its own for heads."""


def streams_for(http: Http) -> Callable[[float], Streams]:
    """How streams go out best: only with httptools, uvicorn's inside is as uvicorn_response.py knows it."""
    return UvicornStreams if http == "httptools" else AsgiStreams


class Server(uvicorn.Server):
    def __init__(self, app: FastAPI, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.app = app
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        self._connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Sends all readers away, between two frames."""
        gateway: Gateway = self.app.state.gateway
        gateway.follower.hang_up()
        gateway.streams.hang_up()
        await super().shutdown(sockets)


def make_server(settings: Settings, *, http: Http = "httptools", **options: Any) -> Server:
    """The gateway as a server; `options` are uvicorn's. Raises BadInput for settings that it cannot run with."""
    app = create_app(settings, streams=streams_for(http))
    most, backlog = open_files(settings.max_connections)
    connections = Connections(settings, most=most)
    config = DoorConfig(
        guarded(app, settings, connections),
        settings=settings,
        connections=connections,
        http=BoundedProtocol if http == "httptools" else http,
        h11_max_incomplete_event_size=settings.max_head_bytes,
        ws="none",  # a connection that becomes another protocol's would not be counted any more
        proxy_headers=False,  # the middleware knows which proxies are trusted
        backlog=backlog,
        access_log=False,  # the middleware writes lines without tokens
        log_config=None,
        server_header=False,
        **options,
    )
    return Server(app, config, connections)
