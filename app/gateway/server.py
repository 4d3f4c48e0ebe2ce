"""uvicorn, which waits for open streams when it is told to stop, and so must tell them."""

import socket
from collections.abc import Callable
from typing import Literal

import uvicorn
from fastapi import FastAPI

from app.gateway.responses import Streams
from app.gateway.streaming.asgi_response import AsgiStreams
from app.gateway.streaming.uvicorn_response import UvicornStreams
from app.gateway.wiring import Gateway

Http = Literal["httptools", "h11"]
"""uvicorn's two implementations of HTTP."""


def streams_for(http: Http) -> Callable[[float], Streams]:
    """How streams go out best: only with httptools, uvicorn's inside is as uvicorn_response.py knows it."""
    return UvicornStreams if http == "httptools" else AsgiStreams


class Server(uvicorn.Server):
    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Sends all readers away, between two frames."""
        gateway: Gateway = self._app.state.gateway
        gateway.follower.hang_up()
        gateway.streams.hang_up()
        await super().shutdown(sockets)
