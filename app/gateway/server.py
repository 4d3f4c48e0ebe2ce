"""uvicorn, which waits for open streams when it is told to stop, and so must tell them."""

import socket

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends streams cleanly, between two frames."""
        self._app.state.gateway.follower.hang_up()
        await super().shutdown(sockets)
