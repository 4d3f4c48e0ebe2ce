"""The program behind `crowd.Crowd`: many clients in one thread, each of which only counts its frames.

A raw epoll loop, because the client must never be the bottleneck: one read for all that a socket holds, and
one count of blank lines in it. Commands come as JSON lines on standard input, answers go to standard output.
"""

import json
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

BUFFER_BYTES = 1024 * 1024
END_OF_FRAME = b"\n\n"
NEWLINE = END_OF_FRAME[0]


class Client:
    __slots__ = ("count", "is_split", "socket")

    def __init__(self, port: int, request: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request.encode())
        self.count = -1  # before the response's head
        self.is_split = False  # the last read ended in a newline, perhaps the first half of an end of frame


class Counting:
    def __init__(self) -> None:
        self._poll = select.epoll()
        self._poll.register(0, select.EPOLLIN)
        self._commands = b""
        self._clients = dict[int, Client]()
        self._buffer = bytearray(BUFFER_BYTES)
        self._goal: int | None = None
        self._behind = 0  # clients that have not reached the goal
        self._arrivals: dict[int, list[float]] | None = None

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == 0:
                    self._commands += os.read(0, BUFFER_BYTES)
                    *lines, self._commands = self._commands.split(b"\n")
                    for line in lines:
                        self._obey(**json.loads(line))
                elif fd in self._clients:
                    self._read(self._clients[fd])

    def _obey(self, do: str, **arguments: Any) -> None:
        match do:
            case "connect":
                self._connect(**arguments)
            case "reach":
                self._goal = goal = arguments["goal"]
                self._behind = sum(client.count < goal for client in self._clients.values())
                self._tell_if_reached()
            case "total":
                answer(total=sum(client.count for client in self._clients.values()), at=time.monotonic())
            case "arrivals":
                answer(arrivals=self._arrivals)
            case "close":
                for client in self._clients.values():
                    client.socket.close()
                self._clients.clear()
                answer()
            case "end":
                sys.exit(0)

    def _connect(self, port: int, requests: Sequence[str], timed: bool) -> None:
        self._arrivals = {} if timed else None
        started = time.monotonic()
        for request in requests:
            client = Client(port, request)
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)
        answer(started=started)

    def _read(self, client: Client) -> None:
        buffer = self._buffer
        size = client.socket.recv_into(buffer)
        if client.count < 0:
            if not buffer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"no stream: {bytes(buffer[:size])!r}")
            client.count = 0
        if not size:
            raise RuntimeError(f"a server hung up after {client.count} frames")
        found = buffer.count(END_OF_FRAME, 0, size)
        if client.is_split and buffer[0] == NEWLINE:
            found += 1
        client.is_split = buffer[size - 1] == NEWLINE
        if not found:
            return
        before = client.count
        client.count += found
        if self._arrivals is not None:
            now = time.monotonic()
            for number in range(before + 1, client.count + 1):
                self._arrivals.setdefault(number, []).append(now)
        if self._goal is not None and before < self._goal <= client.count:
            self._behind -= 1
            self._tell_if_reached()

    def _tell_if_reached(self) -> None:
        if not self._behind:
            self._goal = None
            answer(slowest=min(client.count for client in self._clients.values()), at=time.monotonic())


def answer(**fields: object) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    Counting().run()
